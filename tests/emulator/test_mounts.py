"""The working copy of a Volume, without sandboxes."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from modalflow.emulator.machines.mounts import Mount
from modalflow.emulator.state.blobs import BLOCK_SIZE, BlobStore
from modalflow.emulator.state.volume_tree import VolumeTree


class Bench:
    """Mounts of one Volume, and how often it was changed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.blobs = BlobStore(folder / "blobs")
        self.tree = VolumeTree()
        self.commits = 0

    def changed(self) -> None:
        self.commits += 1

    def mount(self, name: str, base: str = "", *, read_only: bool = False) -> Mount:
        mount = Mount(
            volume_id="vo-1", mount_path=f"/{name}", folder=self.folder / name, tree=self.tree, base=base,
            read_only=read_only, syncs=True, blobs=self.blobs, committed=self.changed,
        )  # fmt: skip
        asyncio.run(mount.materialise())
        return mount

    def text(self, path: str) -> bytes:
        return b"".join(map(self.blobs.get, self.tree.file(path).blocks))

    def paths(self) -> list[str]:
        return [entry.path for entry in self.tree.listing("", recursive=True)]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_nothing_changed_is_no_commit(bench: Bench) -> None:
    mount = bench.mount("a")
    (mount.folder / "file").write_text("1")
    assert asyncio.run(mount.commit())
    assert not asyncio.run(mount.commit())
    assert bench.commits == 1


def test_a_change_of_equal_size_right_after_a_commit_is_seen(bench: Bench) -> None:
    mount = bench.mount("a")
    file = mount.folder / "file"
    for text in ("1", "2", "3", "4"):
        file.write_text(text)
        assert asyncio.run(mount.commit())
        assert bench.text("file") == text.encode()


def test_a_change_that_keeps_the_time_is_seen(bench: Bench) -> None:
    mount = bench.mount("a")
    file = mount.folder / "file"
    file.write_text("1")
    os.utime(file, (1, 1))
    asyncio.run(mount.commit())
    file.write_text("2")
    os.utime(file, (1, 1))
    assert asyncio.run(mount.commit())


def test_a_touched_file_does_not_undo_somebody_elses_change(bench: Bench) -> None:
    first, second = bench.mount("a"), bench.mount("b")
    (first.folder / "file").write_text("1")
    asyncio.run(first.commit())
    asyncio.run(second.reload())
    (first.folder / "file").write_text("2")
    asyncio.run(first.commit())
    (second.folder / "file").touch()
    assert not asyncio.run(second.commit())
    assert bench.text("file") == b"2"


def test_a_reload_keeps_ones_own_files_and_takes_the_others(bench: Bench) -> None:
    first, second = bench.mount("a"), bench.mount("b")
    (first.folder / "d").mkdir()
    (first.folder / "d" / "one").write_text("1")
    (second.folder / "two").write_text("2")
    asyncio.run(first.commit())
    asyncio.run(second.reload())
    assert (second.folder / "d" / "one").read_text() == "1"
    assert bench.paths() == ["d", "d/one", "two"]


def test_a_reload_follows_a_change_of_kind(bench: Bench) -> None:
    first, second = bench.mount("a"), bench.mount("b")
    (first.folder / "x").write_text("1")
    (first.folder / "y").mkdir()
    (first.folder / "y" / "z").write_text("1")
    asyncio.run(first.commit())
    asyncio.run(second.reload())
    (first.folder / "x").unlink()
    (first.folder / "x").mkdir()
    (first.folder / "y" / "z").unlink()
    (first.folder / "y").rmdir()
    (first.folder / "y").symlink_to("x")
    asyncio.run(first.commit())
    asyncio.run(second.reload())
    assert (second.folder / "x").is_dir()
    assert (second.folder / "y").readlink() == Path("x")


def test_a_read_only_mount_of_a_missing_folder_is_empty_and_makes_nothing(bench: Bench) -> None:
    mount = bench.mount("a", "no/such", read_only=True)
    assert list(mount.folder.iterdir()) == []
    assert bench.paths() == []


def test_a_sparse_file_comes_back_whole(bench: Bench) -> None:
    mount = bench.mount("a")
    with (mount.folder / "sparse").open("wb") as file:
        file.seek(2 * BLOCK_SIZE + 7)
        file.write(b"end")
        file.truncate(2 * BLOCK_SIZE + 100)
    asyncio.run(mount.commit())
    again = bench.mount("b")
    assert (again.folder / "sparse").read_bytes() == (mount.folder / "sparse").read_bytes()
    assert sum(path.stat().st_size for path in (bench.folder / "blobs").rglob("*") if path.is_file()) == 10


def test_a_socket_or_pipe_is_left_out(bench: Bench) -> None:
    mount = bench.mount("a")
    os.mkfifo(mount.folder / "pipe")
    (mount.folder / "file").write_text("1")
    asyncio.run(mount.commit())
    assert bench.paths() == ["file"]


def test_a_mount_inside_a_mount_is_not_part_of_it(bench: Bench) -> None:
    mount = bench.mount("a")
    (mount.folder / "inner").mkdir()
    (mount.folder / "inner" / "file").write_text("1")
    mount.nested = frozenset({mount.folder / "inner"})
    assert not asyncio.run(mount.commit())


@pytest.mark.parametrize("digest", ["", "../../etc/passwd", "A" * 64, "a" * 63])
def test_a_content_is_asked_for_by_its_digest_only(bench: Bench, digest: str) -> None:
    with pytest.raises(ValueError, match="not a SHA-256 in hex"):
        bench.blobs.path(digest)
