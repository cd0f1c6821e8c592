"""Mounts an image into a container that runs already, or takes it away: run by the spawner, beside the containers' namespaces.

``attach PID FOLDER LAYERS PATH``: in ``FOLDER`` are ``l0`` (topmost), ``l1``, …, ``upper``, ``work`` and ``merged``; the overlay
of them is mounted in a namespace of this process's own, cloned, and moved to ``PATH`` in the mount namespace of ``PID`` (Linux
5.2, ``open_tree`` and ``move_mount``; the same numbers on every architecture). ``detach PID PATH``. Nothing of the container is
run: its programs may be anything. Exits with 1 and a line on stderr if that cannot be. Standard library only.
"""

import ctypes
import os
import sys
from pathlib import Path

_LIBC = ctypes.CDLL(None, use_errno=True)
_CLONE_NEWNS = 0x20000
_MS_REC, _MS_SLAVE = 0x4000, 0x80000
_MNT_DETACH, _UMOUNT_NOFOLLOW = 2, 8
_OPEN_TREE, _MOVE_MOUNT = 428, 429
_AT_FDCWD, _OPEN_TREE_CLONE, _EMPTY_SOURCE = -100, 1, 4
_OPTIONS = "redirect_dir=off,metacopy=off,index=off"


def check(what: str, answer: int) -> int:
    """Return the answer of a system call. ``OSError`` if it failed."""
    if answer < 0:
        error = ctypes.get_errno()
        raise OSError(error, f"{what}: {os.strerror(error)}")
    return answer


def overlay(folder: str, layers: int) -> int:
    """Mount the overlay, seen by this process alone, and return a clone of the mount."""
    os.chdir(folder)
    lower = ":".join(f"l{number}" for number in range(layers))
    options = f"lowerdir={lower},upperdir=upper,workdir=work,{_OPTIONS}"
    check("unshare", _LIBC.unshare(_CLONE_NEWNS))
    check("mount", _LIBC.mount(b"none", b"/", None, _MS_REC | _MS_SLAVE, None))
    check("mount overlay", _LIBC.mount(b"overlay", b"merged", b"overlay", 0, options.encode()))
    return check("open_tree", _LIBC.syscall(_OPEN_TREE, _AT_FDCWD, b"merged", _OPEN_TREE_CLONE | os.O_CLOEXEC))


def enter(pid: str) -> int:
    """Return the mount namespace of a process."""
    return os.open(f"/proc/{pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)


def attach(pid: str, folder: str, layers: str, path: str) -> None:
    """Show the overlay in the container."""
    namespace = enter(pid)
    tree = overlay(folder, int(layers))
    check("setns", _LIBC.setns(namespace, _CLONE_NEWNS))
    Path(path).mkdir(parents=True, exist_ok=True)
    check("move_mount", _LIBC.syscall(_MOVE_MOUNT, tree, b"", _AT_FDCWD, os.fsencode(path), _EMPTY_SOURCE))


def detach(pid: str, path: str) -> None:
    """Take away what is mounted at a path of the container."""
    check("setns", _LIBC.setns(enter(pid), _CLONE_NEWNS))
    # By no link: the sandbox could have put one there that leads to a mount which keeps it from something, as on /proc/sys.
    folder = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    for name in Path(path).parts[1:-1]:
        folder = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    os.fchdir(folder)
    check("umount", _LIBC.umount2(os.fsencode(Path(path).name), _MNT_DETACH | _UMOUNT_NOFOLLOW))


def main() -> None:
    """Do what the arguments say."""
    word, *arguments = sys.argv[1:]
    try:
        if word == "attach":
            attach(*arguments)
        else:
            detach(*arguments)
    except OSError as error:
        sys.stderr.write(error.strerror or str(error))
        raise SystemExit(1) from error


if __name__ == "__main__":
    main()
