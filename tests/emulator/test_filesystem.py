"""``Sandbox.filesystem`` of the unmodified client."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event, Thread

import modal
import modal.exception
import pytest
from modal.types import FileType, FileWatchEventType

from tests.emulator.conftest import Eventually, Sandboxes


@pytest.fixture(params=[None, "A10G"], ids=["v2", "v1"])
def sandbox(sandboxes: Sandboxes, request: pytest.FixtureRequest) -> modal.Sandbox:
    """A running sandbox with an own folder at ``/vol``."""
    volume = modal.Volume.from_name("files", create_if_missing=True, client=sandboxes.client)
    return sandboxes.create("cat", volumes={"/vol": volume}, gpu=request.param)


def test_text_and_bytes_are_written_read_and_seen_by_commands(sandbox: modal.Sandbox) -> None:
    files = sandbox.filesystem
    files.write_text("gr\u00fc\u00df\n", "/vol/a/b/text")
    assert files.read_text("/vol/a/b/text") == "gr\u00fc\u00df\n"
    assert sandbox.exec("cat", "/vol/a/b/text").stdout.read() == "gr\u00fc\u00df\n"
    files.write_bytes(b"\xff\x00", "/vol/bytes")
    files.write_bytes(memoryview(b"\xfe"), "/vol/bytes")
    assert files.read_bytes("/vol/bytes") == b"\xfe"
    files.write_bytes(b"", "/vol/empty")
    assert files.read_bytes("/vol/empty") == b""


def test_more_than_fits_into_one_message(sandbox: modal.Sandbox, tmp_path: Path) -> None:
    content = bytes(range(256)) * 40_000
    (tmp_path / "up").write_bytes(content)
    sandbox.filesystem.copy_from_local(tmp_path / "up", "/vol/large")
    sandbox.filesystem.copy_to_local("/vol/large", tmp_path / "down" / "large")
    assert (tmp_path / "down" / "large").read_bytes() == content


def test_list_and_stat_tell_paths_of_the_sandbox(sandbox: modal.Sandbox) -> None:
    files = sandbox.filesystem
    files.write_text("12345", "/vol/file")
    files.make_directory("/vol/folder/inner")
    assert sandbox.exec("ln", "-s", "/vol/file", "/vol/link").wait() == 0
    assert sandbox.exec("chmod", "640", "/vol/file").wait() == 0
    found = {info.name: info for info in files.list_files("/vol")}
    assert {name: (info.path, info.type) for name, info in found.items()} == {
        "file": ("/vol/file", FileType.FILE),
        "folder": ("/vol/folder", FileType.DIRECTORY),
        "link": ("/vol/link", FileType.SYMLINK),
    }
    assert found["link"].symlink_target == "/vol/file"
    info = files.stat("/vol/file")
    assert info == found["file"]
    assert (info.size, info.permissions, info.is_file()) == (5, "0640", True)
    assert files.stat("/vol/link").is_symlink()


def test_remove(sandbox: modal.Sandbox) -> None:
    files = sandbox.filesystem
    files.write_text("x", "/vol/folder/file")
    with pytest.raises(modal.exception.SandboxFilesystemDirectoryNotEmptyError, match="/vol/folder"):
        files.remove("/vol/folder")
    files.remove("/vol/folder", recursive=True)
    files.make_directory("/vol/folder", create_parents=False)
    files.remove("/vol/folder")
    assert files.list_files("/vol") == []


MISTAKES: dict[str, tuple[Callable[[modal.Sandbox], object], type[Exception]]] = {
    "read a missing file": (
        lambda one: one.filesystem.read_text("/vol/none"),
        modal.exception.SandboxFilesystemNotFoundError,
    ),
    "read a folder": (lambda one: one.filesystem.read_bytes("/vol"), modal.exception.SandboxFilesystemIsADirectoryError),
    "read through a file": (lambda one: one.filesystem.read_text("/vol/file/x"), modal.exception.SandboxFilesystemError),
    "write a folder": (
        lambda one: one.filesystem.write_text("", "/vol"),
        modal.exception.SandboxFilesystemIsADirectoryError,
    ),
    "write below a file": (
        lambda one: one.filesystem.write_text("", "/vol/file/x"),
        modal.exception.SandboxFilesystemNotADirectoryError,
    ),
    "write far below a file": (
        lambda one: one.filesystem.write_text("", "/vol/file/x/y"),
        modal.exception.SandboxFilesystemNotADirectoryError,
    ),
    "list a missing folder": (
        lambda one: one.filesystem.list_files("/vol/none"),
        modal.exception.SandboxFilesystemNotFoundError,
    ),
    "list a file": (
        lambda one: one.filesystem.list_files("/vol/file"),
        modal.exception.SandboxFilesystemNotADirectoryError,
    ),
    "stat a missing file": (
        lambda one: one.filesystem.stat("/vol/none"),
        modal.exception.SandboxFilesystemNotFoundError,
    ),
    "stat below a file": (
        lambda one: one.filesystem.stat("/vol/file/x"),
        modal.exception.SandboxFilesystemNotADirectoryError,
    ),
    "make a folder twice": (
        lambda one: one.filesystem.make_directory("/vol/file", create_parents=False),
        modal.exception.SandboxFilesystemPathAlreadyExistsError,
    ),
    "make a folder without its parent": (
        lambda one: one.filesystem.make_directory("/vol/none/x", create_parents=False),
        modal.exception.SandboxFilesystemNotFoundError,
    ),
    "make a folder below a file": (
        lambda one: one.filesystem.make_directory("/vol/file/x/y"),
        modal.exception.SandboxFilesystemNotADirectoryError,
    ),
    "remove a missing file": (
        lambda one: one.filesystem.remove("/vol/none"),
        modal.exception.SandboxFilesystemNotFoundError,
    ),
    "remove the root": (
        lambda one: one.filesystem.remove("/", recursive=True),
        modal.exception.SandboxFilesystemPermissionError,
    ),
    "watch a missing file": (
        lambda one: list(one.filesystem.watch("/vol/none")),
        modal.exception.SandboxFilesystemNotFoundError,
    ),
}


def test_mistakes_are_told_as_modal_does(sandbox: modal.Sandbox) -> None:
    sandbox.filesystem.write_text("x", "/vol/file")
    for what, (make, error) in MISTAKES.items():
        with pytest.raises(error) as told:
            make(sandbox)
        assert type(told.value) is error, what


def test_an_ended_sandbox_is_unavailable(sandboxes: Sandboxes) -> None:
    sandbox = sandboxes.create("true")
    sandbox.wait()
    with pytest.raises(modal.exception.NotFoundError, match="may have already shut down"):
        sandbox.filesystem.read_text("/vol/none")


def _watched(events: Iterator[modal.types.FileWatchEvent], seen: list[tuple[FileWatchEventType, list[str]]], until: str) -> None:
    for event in events:
        seen.append((event.type, event.paths))
        if until in event.paths:
            return


@pytest.mark.parametrize("sandbox", [None], indirect=True)
def test_watch_tells_what_happens_below(sandbox: modal.Sandbox, eventually: Eventually) -> None:
    files = sandbox.filesystem
    files.make_directory("/vol/w")
    seen: list[tuple[FileWatchEventType, list[str]]] = []
    events = files.watch("/vol/w", recursive=True)
    watching = Thread(target=_watched, args=(events, seen, "/vol/w/end"))
    watching.start()
    probe = Event()

    def is_watching() -> bool:
        files.write_text("", "/vol/w/probe")
        return bool(seen) or probe.is_set()

    eventually(is_watching)
    files.write_text("x", "/vol/w/deep/er/file")
    eventually(lambda: any("/vol/w/deep/er/file" in paths for _, paths in seen))
    assert sandbox.exec("mv", "/vol/w/deep/er/file", "/vol/w/moved").wait() == 0
    files.remove("/vol/w/moved")
    files.write_text("", "/vol/w/end")
    watching.join(20)
    assert not watching.is_alive()
    assert (FileWatchEventType.Create, ["/vol/w/deep"]) in seen
    assert (FileWatchEventType.Modify, ["/vol/w/deep/er/file", "/vol/w/moved"]) in seen
    assert (FileWatchEventType.Remove, ["/vol/w/moved"]) in seen


def test_watch_ends_in_time_and_filters(sandboxes: Sandboxes) -> None:
    sandbox = sandboxes.create("cat")
    sandbox.filesystem.make_directory(f"{_home(sandbox)}/w")
    filtered = sandbox.filesystem.watch(f"{_home(sandbox)}/w", filter=[FileWatchEventType.Remove], timeout=1)
    assert list(filtered) == []


def _home(sandbox: modal.Sandbox) -> str:
    return sandbox.exec("sh", "-c", "printf %s $HOME").stdout.read()
