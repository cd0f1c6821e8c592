"""Layers looked into without a mount, and written so that an overlay shows the files where they belong."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from modalflow.emulator.machines.file_layers import FileLayer, Text
from modalflow.emulator.machines.layer_store import LayerStore
from modalflow.emulator.machines.layer_view import LayerView
from modalflow.emulator.state.image_layers import ImageSettings
from modalflow.emulator.state.images import Image

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="whiteouts and owners need root")


def layer(folder: Path, **links: str) -> Path:
    folder.mkdir()
    for name, target in links.items():
        (folder / name).symlink_to(target)
    return folder


def test_a_path_is_resolved_in_the_stack_and_not_on_this_machine(tmp_path: Path) -> None:
    lower = layer(tmp_path / "lower", bin="usr/bin", data="/srv/data", up="../../../..", loop="loop")
    (lower / "usr" / "bin").mkdir(parents=True)
    view = LayerView([lower], detached=True)
    assert view.resolve("/bin/tool") == "/usr/bin/tool"
    assert view.resolve("/data/x/../y") == "/srv/data/y"
    assert view.resolve("/up/etc/passwd") == "/etc/passwd"
    assert view.find("/etc/passwd") is None
    with pytest.raises(OSError, match="symbolic links"):
        view.resolve("/loop/x")


def test_a_file_goes_where_a_link_below_leads(tmp_path: Path) -> None:
    lower = layer(tmp_path / "lower", bin="usr/bin")
    (lower / "usr" / "bin").mkdir(parents=True)
    upper = FileLayer(tmp_path / "upper", LayerView([lower], detached=True))
    upper.write("/bin/tool", Text(b"x"), 0o755)
    assert (tmp_path / "upper" / "usr" / "bin" / "tool").stat().st_mode & 0o777 == 0o755
    assert not (tmp_path / "upper" / "bin").exists()


def test_a_folder_takes_after_the_one_below_it(tmp_path: Path) -> None:
    FileLayer(tmp_path / "upper", LayerView(())).write("/tmp/new/x", Text(b"x"), 0o600)
    assert (tmp_path / "upper" / "tmp").stat().st_mode & 0o7777 == Path("/tmp").stat().st_mode & 0o7777
    assert (tmp_path / "upper" / "tmp" / "new").stat().st_mode & 0o7777 == 0o755


def test_what_is_in_the_way_is_told(tmp_path: Path) -> None:
    lower = layer(tmp_path / "lower")
    (lower / "file").write_text("x")
    (lower / "folder").mkdir()
    upper = FileLayer(tmp_path / "upper", LayerView([lower], detached=True))
    with pytest.raises(NotADirectoryError, match="/file is no folder"):
        upper.write("/file/x", Text(b"x"), 0o644)
    with pytest.raises(IsADirectoryError, match="/folder is a folder"):
        upper.write("/folder", Text(b"x"), 0o644)


@as_root
def test_whiteouts_and_opaque_folders_hide_what_is_below(tmp_path: Path) -> None:
    lower, upper = layer(tmp_path / "lower"), layer(tmp_path / "upper")
    for folder in (lower, upper):
        (folder / "opaque").mkdir()
    (lower / "gone").write_text("x")
    (lower / "opaque" / "gone").write_text("x")
    (lower / "kept").write_text("x")
    os.mknod(upper / "gone", 0o20000, 0)
    os.setxattr(upper / "opaque", "trusted.overlay.opaque", b"y")
    view = LayerView([upper, lower], detached=True)
    assert (view.find("/gone"), view.find("/opaque/gone")) == (None, None)
    assert (view.find("/kept"), view.find("/opaque")) == (lower / "kept", upper / "opaque")


def test_an_adopted_folder_is_a_layer_of_the_stack(tmp_path: Path) -> None:
    store = LayerStore(tmp_path / "layers")
    (tmp_path / "upper").mkdir()
    (tmp_path / "upper" / "x").write_text("x")
    first, second = store.adopt(tmp_path / "upper"), store.new_name("run")
    assert not (tmp_path / "upper").exists()
    image = Image(image_id="im-1", definition=None, settings=ImageSettings(), builder_version="", layers=(first, second))  # type: ignore[arg-type]
    assert store.stack(image) == (store.path(second), store.path(first))
    assert (store.stack(image)[1] / "x").read_text() == "x"
    store.prune([second])
    assert not store.path(first).exists()


def test_images_see_no_other_file_system_of_this_machine_than_containers_do(tmp_path: Path) -> None:
    secret = f"/proc/{os.getpid()}/environ"
    assert LayerView((), above_host=[tmp_path]).find(secret) is None
    assert LayerView((), above_host=[tmp_path]).find("/etc/passwd") == Path("/etc/passwd")
    assert LayerView(()).find(secret) == Path(secret)


def test_a_file_of_an_image_is_not_read_whole_if_it_is_huge(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    with (tmp_path / "etc" / "passwd").open("wb") as file:
        file.truncate(2**40)
    assert len(LayerView([tmp_path]).text("/etc/passwd")) == 2**20
