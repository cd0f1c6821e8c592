"""``sync`` inside sandboxes: a script first on their PATH that asks the emulator to commit Volumes and waits for the answer.

Flows in: lines on a named pipe of each container, ``<reply pipe>\\t<path>\\t…``. Flows out: one word on the reply pipe: ``done``,
or ``none`` upon which the script runs the system's own ``sync``. Both pipes are in a folder that no other container sees, so that
nobody asks in another's name, or takes what another asks. A pipe costs a sandbox no interpreter.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import stat
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from modalflow.emulator.machines.oci_config import PRIVATE

_PIPE = ".sync-requests"
_SCRIPT = """#!/bin/sh
# Commits this sandbox's Volumes, as `sync` does on Modal for Volumes of version 2.
folder={private}/sync
[ -z "$MODAL_EMULATOR_ROOT" ] || folder=$MODAL_EMULATOR_ROOT
requests=$folder/{pipe}
real() {{ exec /bin/sync "$@"; }}
[ -p "$requests" ] || real "$@"
name=.sync.$$
reply=$folder/$name
line=$name
for argument in "$@"; do
  case "$argument" in
    -*) ;;
    /*) line="$line	$argument" ;;
    *) line="$line	$PWD/$argument" ;;
  esac
done
[ ${{#line}} -lt 4000 ] || line=$name
mkfifo -m 600 "$reply" || real "$@"
exec 3<> "$reply"
printf '%s\\n' "$line" > "$requests"
read -r answer <&3
rm -f "$reply"
case "$answer" in
  done) exit 0 ;;
  none) real "$@" ;;
  *) echo "sync: $answer" >&2; exit 1 ;;
esac
"""
_MAX_LINE = 4096
"""PIPE_BUF: up to here the kernel keeps the lines of several writers apart."""


def install(folder: Path) -> None:
    """Write the script into a folder."""
    folder.mkdir(exist_ok=True)
    script = folder / "sync"
    script.write_text(_SCRIPT.format(private=PRIVATE, pipe=_PIPE))
    script.chmod(0o755)


class SyncRequests:
    """The emulator's end of one container's pipe, which costs a descriptor. ``folder``: where the container finds it."""

    def __init__(self, folder: Path, sync: Callable[[Sequence[str]], Awaitable[bool]]) -> None:
        """``sync`` commits the Volumes at or around the paths, and tells whether there was one."""
        self._folder = folder
        self._sync = sync
        self._fd: int | None = None
        self._buffer = b""
        self._serving: asyncio.Task[None] | None = None

    def open(self) -> None:
        """Make the pipe and listen. No process of the container runs yet. ``OSError`` if something is in its place."""
        pipe = self._folder / _PIPE
        os.mkfifo(pipe, 0o600)
        # Opened for writing too, so that it never reads end of file when the last script closes it.
        self._fd = os.open(pipe, os.O_RDWR | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
        asyncio.get_running_loop().add_reader(self._fd, self._readable, self._fd)

    async def close(self) -> None:
        """Stop listening once what was asked is answered. Safe to call twice."""
        fd, self._fd = self._fd, None
        if fd is None:
            return
        asyncio.get_running_loop().remove_reader(fd)
        try:
            if self._serving is not None:
                await self._serving
        finally:
            os.close(fd)

    def _readable(self, fd: int) -> None:
        """Take in what is there; who floods the pipe waits until that is answered."""
        with contextlib.suppress(BlockingIOError):  # the container has taken it itself
            *lines, self._buffer = (self._buffer + os.read(fd, 65536)).split(b"\n")
            self._buffer = self._buffer[-_MAX_LINE:]
            asyncio.get_running_loop().remove_reader(fd)
            self._serving = asyncio.create_task(self._serve([line.decode(errors="replace") for line in lines]), name="sync")

    async def _serve(self, lines: Sequence[str]) -> None:
        try:
            for line in lines:
                await self._serve_one(line)
        finally:
            self._serving = None
            if self._fd is not None:
                asyncio.get_running_loop().add_reader(self._fd, self._readable, self._fd)

    async def _serve_one(self, line: str) -> None:
        name, *paths = line.split("\t")
        if "/" in name or "\0" in line or not name.startswith(".sync."):
            return
        try:
            answer = "done" if await self._sync(paths) else "none"
        except OSError as error:
            answer = f"the Volume could not be committed: {error}"
        _answer(self._folder / name, answer)


def _answer(pipe: Path, answer: str) -> None:
    """Write to a pipe that somebody reads; nobody does any more if the sandbox was killed meanwhile.

    Only to a pipe: the sandbox makes it, and must not make us write to anything else that it puts in its place.
    """
    try:
        found = os.open(pipe, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        if not stat.S_ISFIFO(os.fstat(found).st_mode):
            return
        # The script opened it before it asked. O_RDWR never blocks, nor fails for want of a reader.
        fd = os.open(f"/proc/self/fd/{found}", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            os.write(fd, answer.encode() + b"\n")
        finally:
            os.close(fd)
    finally:
        os.close(found)
