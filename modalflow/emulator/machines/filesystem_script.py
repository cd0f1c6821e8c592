"""The program behind ``Sandbox.filesystem``: the client runs it by exec with one JSON command, and speaks to its stdio.

It stands alone (standard library; it is copied to where a container sees it, see ``container_tools``). Flows in: the command, and
for ``WriteFile`` the content on stdin. Flows out: content, JSON, or on stderr one JSON object ``{error_kind, message}``
with exit code 1. Commands and kinds of errors as the client (modal 1.6.4, ``_utils/sandbox_fs_utils.py``) knows them.
``MODAL_EMULATOR_ROOT`` names a folder that is shown as ``/``, for containers that have no root of their own.
"""

import ctypes
import grp
import json
import os
import pwd
import select
import shutil
import stat
import struct
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

MAX_READ_BYTES = 5 * 1024**3
_CHUNK = 1024 * 1024

_ROOT = os.environ.get("MODAL_EMULATOR_ROOT", "")

_IN_MODIFY, _IN_ATTRIB, _IN_CLOSE_WRITE = 0x2, 0x4, 0x8
_IN_MOVED_FROM, _IN_MOVED_TO, _IN_CREATE, _IN_DELETE = 0x40, 0x80, 0x100, 0x200
_IN_DELETE_SELF, _IN_MOVE_SELF, _IN_IGNORED, _IN_ISDIR = 0x400, 0x800, 0x8000, 0x40000000
_WATCHED = _IN_MODIFY | _IN_ATTRIB | _IN_CLOSE_WRITE | _IN_MOVED_FROM | _IN_MOVED_TO | _IN_CREATE | _IN_DELETE | _IN_DELETE_SELF
_EVENT = struct.Struct("iIII")
_TYPES = (
    (_IN_CREATE, "Create"),
    (_IN_MOVED_FROM, "RenameFrom"),
    (_IN_MOVED_TO, "RenameTo"),
    (_IN_DELETE | _IN_DELETE_SELF, "Remove"),
    (_IN_MODIFY | _IN_ATTRIB, "Modify"),
    (_IN_CLOSE_WRITE, "Access"),
)


def fail(kind: str, message: str, detail: str = "") -> NoReturn:
    """Say on stderr what is wrong, as the client reads it, and exit."""
    sys.stderr.write(json.dumps({"version": 1, "error_kind": kind, "message": message, "detail": detail}))
    sys.stderr.flush()
    raise SystemExit(1)


def fail_with(error: OSError) -> NoReturn:
    """Say what the system said."""
    match error:
        case FileNotFoundError():
            fail("NotFound", "path does not exist")
        case NotADirectoryError():
            fail("NotDirectory", "a component of the path is not a directory")
        case IsADirectoryError():
            fail("IsDirectory", "expected a file path")
        case PermissionError():
            fail("PermissionDenied", "permission denied")
        case _:
            fail("Io", error.strerror or "I/O error", str(error))


def shown(path: str) -> str:
    """Return a path as the sandbox knows it."""
    return path[len(_ROOT) :] or "/" if _ROOT and (path == _ROOT or path.startswith(f"{_ROOT}/")) else path


# -- one path


def entry(path: str) -> dict[str, Any]:
    """Describe one path, itself and not where it points."""
    status = os.lstat(path)
    kind = "symlink" if stat.S_ISLNK(status.st_mode) else "directory" if stat.S_ISDIR(status.st_mode) else "file"
    found: dict[str, Any] = {
        "name": os.path.basename(path.rstrip("/")) or "/",
        "path": shown(path),
        "type": kind,
        "size": status.st_size,
        "mode": status.st_mode,
        "permissions": f"{stat.S_IMODE(status.st_mode):04o}",
        "owner": _name(lambda: pwd.getpwuid(status.st_uid).pw_name, status.st_uid),
        "group": _name(lambda: grp.getgrgid(status.st_gid).gr_name, status.st_gid),
        "modified_time": status.st_mtime,
    }
    if kind == "symlink":
        found["symlink_target"] = shown(os.readlink(path))
    return found


def _name(look_up: Callable[[], str], number: int) -> str:
    try:
        return look_up()
    except KeyError:
        return str(number)


def show(path: str) -> None:
    """``Stat``."""
    print(json.dumps(entry(path)))


def list_files(path: str) -> None:
    """``ListFiles``: what is directly inside, by name."""
    if not stat.S_ISDIR(os.stat(path).st_mode):
        fail("IsFile", "expected a directory path")
    found = []
    for name in sorted(os.listdir(path)):
        try:
            found.append(entry(os.path.join(path, name)))
        except FileNotFoundError:  # it went meanwhile
            continue
    print(json.dumps(found))


def read_file(path: str) -> None:
    """``ReadFile``: the content on stdout."""
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size > MAX_READ_BYTES:
            fail("FileTooLarge", f"file is {size} bytes, which exceeds the {MAX_READ_BYTES} byte limit")
        shutil.copyfileobj(file, sys.stdout.buffer, _CHUNK)
    sys.stdout.buffer.flush()


def write_file(path: str) -> None:
    """``WriteFile``: the content from stdin. The folders above are made."""
    if os.path.isdir(path):
        fail("IsDirectory", "expected a file path")
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
    except FileExistsError:
        fail("AlreadyExists", "a component of the path is not a directory")
    with open(path, "wb") as file:
        shutil.copyfileobj(sys.stdin.buffer, file, _CHUNK)


def make_directory(path: str, *, parents: bool) -> None:
    """``MakeDirectory``."""
    try:
        if parents:
            os.makedirs(path, exist_ok=True)
        else:
            os.mkdir(path)
    except FileExistsError:
        fail("PathAlreadyExists", "path already exists")
    except FileNotFoundError:
        fail("NotFound", "parent directory does not exist")


def remove(path: str, *, recursive: bool) -> None:
    """``Remove``: a file or link, an empty folder, or with ``recursive`` any folder but the root."""
    if stat.S_ISDIR(os.lstat(path).st_mode):
        if os.path.realpath(path) in ("/", _ROOT):
            fail("PermissionDenied", "refusing to remove the root directory")
        if recursive:
            shutil.rmtree(path)
        elif os.listdir(path):
            fail("DirectoryNotEmpty", "directory is not empty")
        else:
            os.rmdir(path)
    else:
        os.remove(path)


# -- watching


class Watch:
    """Changes at and below one path, by inotify."""

    def __init__(self, path: str, *, recursive: bool) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self.fd = self._libc.inotify_init1(os.O_CLOEXEC)
        if self.fd < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        self._recursive = recursive
        self._paths: dict[int, str] = {}
        self._add(os.path.realpath(path))

    def _add(self, path: str) -> Iterator[str]:
        """Watch a path, and the folders below it; return what was in them already."""
        number = self._libc.inotify_add_watch(self.fd, os.fsencode(path), _WATCHED)
        if number < 0:
            error = ctypes.get_errno()
            raise OSError(error, os.strerror(error))
        self._paths[number] = path
        present = []
        if self._recursive and os.path.isdir(path):
            for found in os.scandir(path):
                present.append(found.path)
                if found.is_dir(follow_symlinks=False):
                    present += self._add_quietly(found.path)
        return iter(present)

    def _add_quietly(self, path: str) -> list[str]:
        try:
            return list(self._add(path))
        except (FileNotFoundError, PermissionError):  # it went, or is not for us
            return []

    def events(self) -> Iterator[tuple[str, list[str]]]:
        """Read what has happened: event type and paths. A rename within the scope is one event with both paths."""
        data = os.read(self.fd, 64 * 1024)
        moved: dict[int, str] = {}
        offset = 0
        while offset < len(data):
            number, mask, cookie, length = _EVENT.unpack_from(data, offset)
            name = data[offset + _EVENT.size : offset + _EVENT.size + length].rstrip(b"\0")
            offset += _EVENT.size + length
            folder = self._paths.get(number)
            if folder is None or mask & _IN_IGNORED:
                self._paths.pop(number, None)
                continue
            path = os.path.join(folder, os.fsdecode(name)) if name else folder
            if mask & _IN_MOVED_FROM:
                moved[cookie] = path
                continue
            if mask & _IN_MOVED_TO and cookie in moved:
                yield "Rename", [moved.pop(cookie), path]
            else:
                yield from ((kind, [path]) for bits, kind in _TYPES if mask & bits)
            if self._recursive and mask & _IN_ISDIR and mask & (_IN_CREATE | _IN_MOVED_TO):
                # What was made in a new folder before it was watched has no event of its own.
                yield from (("Create", [present]) for present in self._add_quietly(path))
        yield from (("RenameFrom", [path]) for path in moved.values())


def watch(path: str, *, recursive: bool, wanted: list[str] | None, seconds: float | None) -> None:
    """``Watch``: one JSON event a line until the time is over or stdin ends."""
    watching = Watch(path, recursive=recursive)
    deadline = None if seconds is None else time.monotonic() + seconds
    while True:
        rest = None if deadline is None else max(0.0, deadline - time.monotonic())
        ready, _, _ = select.select([watching.fd, 0], [], [], rest)
        if not ready or (0 in ready and not os.read(0, 4096)):
            return
        if watching.fd in ready:
            for kind, paths in watching.events():
                if wanted is None or kind in wanted:
                    print(json.dumps({"event_type": kind, "paths": [shown(one) for one in paths]}), flush=True)


def run(name: str, options: dict[str, Any]) -> None:
    """Do one command."""
    path = options["path"]
    match name:
        case "Stat":
            show(path)
        case "ListFiles":
            list_files(path)
        case "ReadFile":
            read_file(path)
        case "WriteFile":
            write_file(path)
        case "MakeDirectory":
            make_directory(path, parents=options.get("parents", True))
        case "Remove":
            remove(path, recursive=options.get("recursive", False))
        case "Watch":
            watch(
                path,
                recursive=options.get("recursive", False),
                wanted=options.get("filter"),
                seconds=options.get("timeout_secs"),
            )
        case _:
            fail("NotSupported", f"{name} is not a command of the modalflow emulator's filesystem tool")


def main() -> None:
    """Read the command from the one argument and do it."""
    [(name, options)] = json.loads(sys.argv[1]).items()
    try:
        run(name, options)
    except BrokenPipeError:  # nobody reads any more
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        fail_with(error)


if __name__ == "__main__":
    main()
