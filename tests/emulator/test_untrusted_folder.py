"""What a sandbox can put into its Volume copy, its bucket and its root, and what the emulator must not do for it."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from modal_proto import api_pb2

from modalflow.emulator.machines.buckets import Buckets
from modalflow.emulator.machines.mounts import Mount
from modalflow.emulator.machines.untrusted_folder import ReplacedError, UntrustedFolder, remove_tree
from modalflow.emulator.state.blobs import BLOCK_SIZE, BlobStore
from modalflow.emulator.state.volume_tree import MAX_DEPTH, File, Link, VolumeTree


class Two:
    """Two mounts of one Volume, and a folder outside that nobody may touch."""

    def __init__(self, folder: Path) -> None:
        self.outside = folder / "outside"
        self.outside.mkdir()
        (self.outside / "secret").write_text("secret")
        self.blobs = BlobStore(folder / "blobs")
        self.tree = VolumeTree()
        self.sandbox, self.other = self._mount(folder / "sandbox"), self._mount(folder / "other")

    def _mount(self, folder: Path) -> Mount:
        mount = Mount(
            volume_id="vo-1", mount_path="/data", folder=folder, tree=self.tree, base="", read_only=False,
            syncs=True, blobs=self.blobs, committed=lambda: None,
        )  # fmt: skip
        asyncio.run(mount.materialise())
        return mount

    def write_elsewhere(self, path: str, text: str) -> None:
        file = self.other.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        asyncio.run(self.other.commit())

    def text(self, path: str) -> bytes:
        return b"".join(map(self.blobs.get, self.tree.file(path).blocks))

    def untouched(self) -> bool:
        return {path.name: path.read_text() for path in self.outside.iterdir()} == {"secret": "secret"}


@pytest.fixture
def two(tmp_path: Path) -> Iterator[Two]:
    yield Two(tmp_path)
    remove_tree(tmp_path / "sandbox")  # pytest itself cannot remove what some tests make there


def test_a_folder_that_became_a_link_is_not_written_through(two: Two) -> None:
    two.write_elsewhere("models/a", "1")
    asyncio.run(two.sandbox.reload())
    two.write_elsewhere("models/a", "2")
    two.write_elsewhere("models/b", "2")
    (two.sandbox.folder / "models" / "a").unlink()
    (two.sandbox.folder / "models").rmdir()
    (two.sandbox.folder / "models").symlink_to(two.outside)
    asyncio.run(two.sandbox.reload())
    assert two.untouched()
    assert isinstance(two.tree.get("models"), Link)  # the link itself is what the sandbox committed


def test_a_folder_that_becomes_a_link_between_look_and_write(two: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    two.write_elsewhere("models/a", "1")
    asyncio.run(two.sandbox.reload())
    two.write_elsewhere("models/a", "2")

    async def nothing() -> bool:
        (two.sandbox.folder / "models" / "a").unlink()
        (two.sandbox.folder / "models").rmdir()
        (two.sandbox.folder / "models").symlink_to(two.outside)
        return False

    monkeypatch.setattr(Mount, "commit", lambda self: nothing())
    with pytest.raises(OSError, match="Not a directory"):
        asyncio.run(two.sandbox.reload())
    assert two.untouched()


def test_the_mounts_own_folder_as_a_link(two: Two) -> None:
    two.sandbox.folder.rmdir()
    two.sandbox.folder.symlink_to(two.outside)
    with pytest.raises(ReplacedError, match="replaced"):
        asyncio.run(two.sandbox.commit())
    assert two.tree.listing("", recursive=True) == []


def test_another_folder_in_the_mounts_place(two: Two) -> None:
    kept = os.open(two.sandbox.folder, os.O_RDONLY)  # else its number may be given again
    two.sandbox.folder.rmdir()
    two.outside.rename(two.sandbox.folder)
    with pytest.raises(ReplacedError, match="replaced"):
        asyncio.run(two.sandbox.commit())
    os.close(kept)


def test_a_link_of_the_volume_where_another_is_to_be_mounted(two: Two, tmp_path: Path) -> None:
    (two.sandbox.folder / "inner").symlink_to(two.outside)
    inner = UntrustedFolder(two.sandbox.folder / "inner" / "deeper")
    with pytest.raises(NotADirectoryError):
        inner.make(below=two.sandbox.folder)
    assert two.untouched()


def test_a_link_to_a_file_is_committed_as_a_link(two: Two) -> None:
    (two.sandbox.folder / "link").symlink_to(two.outside / "secret")
    asyncio.run(two.sandbox.commit())
    assert isinstance(two.tree.get("link"), Link)


def test_a_hard_link_is_not_written_through(two: Two) -> None:
    two.write_elsewhere("file", "1")
    asyncio.run(two.sandbox.reload())
    (two.sandbox.folder / "file").unlink()
    (two.sandbox.folder / "file").hardlink_to(two.outside / "secret")
    asyncio.run(two.sandbox.commit())
    two.write_elsewhere("file", "2")
    asyncio.run(two.sandbox.reload())
    assert (two.sandbox.folder / "file").read_text() == "2"
    assert two.untouched()


def test_pipes_sockets_and_devices_are_left_out(two: Two) -> None:
    os.mkfifo(two.sandbox.folder / "pipe")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(two.sandbox.folder / "socket"))
    if os.geteuid() == 0:
        os.mknod(two.sandbox.folder / "null", 0o666 | 0o020000, os.makedev(1, 3))
    (two.sandbox.folder / "file").write_text("1")
    asyncio.run(two.sandbox.commit())
    assert [entry.path for entry in two.tree.listing("", recursive=True)] == ["file"]


def test_a_huge_hole_costs_nothing_and_comes_back(two: Two) -> None:
    size = 64 * 1024 * BLOCK_SIZE + 5  # 512 GiB
    with (two.sandbox.folder / "hole").open("wb") as file:
        file.truncate(size)
        file.seek(3 * BLOCK_SIZE + 1)
        file.write(b"x")
    asyncio.run(two.sandbox.commit())
    file_ = two.tree.file("hole")
    assert file_.size == size
    assert len(set(file_.blocks)) == 2
    asyncio.run(two.other.reload())
    copy = two.other.folder / "hole"
    assert copy.stat().st_size == size
    assert copy.stat().st_blocks * 512 < 10 * BLOCK_SIZE
    with copy.open("rb") as back:
        back.seek(3 * BLOCK_SIZE)
        assert back.read(3) == b"\0x\0"


def test_a_file_that_is_too_large_is_told_and_the_rest_is_kept(two: Two) -> None:
    with (two.sandbox.folder / "hole").open("wb") as file:
        file.truncate(2**40 + 1)
    (two.sandbox.folder / "small").write_text("1")
    with pytest.raises(OSError, match=r"'hole': 1099511627777 bytes; a file of a Volume has at most 1099511627776"):
        asyncio.run(two.sandbox.commit())
    assert [entry.path for entry in two.tree.listing("", recursive=True)] == ["small"]


def test_names_that_cannot_be_said_are_told_and_the_rest_is_kept(two: Two) -> None:
    Path(os.fsdecode(os.fsencode(two.sandbox.folder) + b"/\xff")).write_text("1")
    (two.sandbox.folder / "small").write_text("1")
    with pytest.raises(OSError, match="the name is not UTF-8"):
        asyncio.run(two.sandbox.commit())
    assert [entry.path for entry in two.tree.listing("", recursive=True)] == ["small"]


def nested(folder: Path, depth: int) -> None:
    """A tree that no path can name whole."""
    at = os.open(folder, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir("d", dir_fd=at)
        inner = os.open("d", os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = inner
    os.close(at)


def test_a_tree_deeper_than_any_path_is_told_and_removed(two: Two) -> None:
    nested(two.sandbox.folder, 5000)
    (two.sandbox.folder / "small").write_text("1")
    with pytest.raises(OSError, match=f"more than {MAX_DEPTH} folders deep"):
        asyncio.run(two.sandbox.commit())
    assert isinstance(two.tree.get("small"), File)
    remove_tree(two.sandbox.folder)
    assert not two.sandbox.folder.exists()


def test_removing_follows_no_link_and_minds_no_mode(two: Two, tmp_path: Path) -> None:
    folder = tmp_path / "root"
    (folder / "closed" / "deep").mkdir(parents=True)
    (folder / "closed" / "deep" / "file").write_text("1")
    (folder / "closed").chmod(0)
    (folder / "link").symlink_to(two.outside)
    remove_tree(folder)
    remove_tree(folder)
    assert not folder.exists()
    assert two.untouched()


def test_a_file_that_became_a_folder_gives_way(two: Two) -> None:
    two.write_elsewhere("file", "1")
    here = UntrustedFolder(two.sandbox.folder)
    (two.sandbox.folder / "file" / "in").mkdir(parents=True)
    with here.opened() as descent:
        descent.write_file("file", lambda fd: None, mode=0o600, mtime_ns=0)
        descent.write_file("folder", lambda fd: None, mode=0o600, mtime_ns=0)
        descent.make_folder("folder")
    assert (two.sandbox.folder / "file").is_file()
    assert (two.sandbox.folder / "folder").is_dir()


def test_a_write_that_fails_leaves_nothing(two: Two) -> None:
    def broken(fd: int) -> None:
        raise OSError("no space")

    with UntrustedFolder(two.sandbox.folder).opened() as descent, pytest.raises(OSError, match="no space"):
        descent.write_file("file", broken, mode=0o600, mtime_ns=0)
    assert list(two.sandbox.folder.iterdir()) == []


class Folders:
    """As much of a container as a bucket's mount needs."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.bound: list[Path] = []

    def bind(self, source: Path, path: str) -> None:
        self.bound.append(source)

    def mount_folder(self, path: str, *, read_only: bool) -> Path:
        return self.root / path.lstrip("/")


def bucket_mount(*, read_only: bool, prefix: str = "") -> api_pb2.CloudBucketMount:
    return api_pb2.CloudBucketMount(bucket_name="raw", mount_path="/raw", key_prefix=prefix, read_only=read_only)


def test_links_in_a_bucket_are_followed_nowhere(two: Two, tmp_path: Path) -> None:
    buckets = Buckets(tmp_path / "buckets", {}, "ak-1")
    folder = buckets.folder("raw", "ak-1")
    (folder / "in" / "deep").mkdir(parents=True)
    (folder / "in" / "deep" / "file").write_text("1")
    (folder / "in" / "secret").symlink_to(two.outside / "secret")
    (folder / "out").symlink_to(two.outside)
    container = Folders(tmp_path / "root")
    buckets.mount(bucket_mount(read_only=True), container, "ak-1")  # type: ignore[arg-type]
    assert sorted(str(path.relative_to(container.root)) for path in container.root.rglob("*")) == [
        "raw", "raw/in", "raw/in/deep", "raw/in/deep/file",
    ]  # fmt: skip
    for prefix in ("out", "out/new"):
        with pytest.raises(NotADirectoryError):
            buckets.mount(bucket_mount(read_only=False, prefix=prefix), container, "ak-1")  # type: ignore[arg-type]
    assert container.bound == []
    buckets.mount(bucket_mount(read_only=False, prefix="in/new"), container, "ak-1")  # type: ignore[arg-type]
    assert container.bound == [folder / "in" / "new"]
    assert two.untouched()


def test_a_bucket_is_its_workspaces_own_unless_it_was_given(tmp_path: Path) -> None:
    given = tmp_path / "given"
    buckets = Buckets(tmp_path / "buckets", {"shared": given}, "ak-own")
    assert buckets.folder("raw", "ak-own") == tmp_path / "buckets" / "raw"
    others = {buckets.folder("raw", name) for name in ("ak-own", "ak-1", "ak-2", "../../x")}
    assert len(others) == 4
    assert all(folder.resolve().is_relative_to(tmp_path / "buckets") for folder in others)
    assert buckets.folder("shared", "ak-1") == given
