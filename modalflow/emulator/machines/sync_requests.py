"""``sync`` inside sandboxes: a script first on their PATH that asks the emulator to commit Volumes and waits for the answer.

Flows in: lines on a named pipe, ``<task id>\\t<reply pipe>\\t<path>\\t…``. Flows out: one word on the reply pipe: ``done``, or
``none`` upon which the script runs the system's own ``sync``. A pipe costs a sandbox no descriptor and no interpreter.
"""

from __future__ import annotations

import asyncio
import os
import shlex
import stat
from pathlib import Path

from modalflow.emulator.machines.oci_config import PRIVATE
from modalflow.emulator.machines.sandboxes import Sandboxes

_SCRIPT = """#!/bin/sh
# Commits this sandbox's Volumes, as `sync` does on Modal for Volumes of version 2.
if [ -n "$MODAL_EMULATOR_ROOT" ]; then requests={requests} replies=$MODAL_EMULATOR_ROOT
else requests={private}/requests replies={private}/sync; fi
real() {{ exec /bin/sync "$@"; }}
[ -n "$MODAL_TASK_ID" ] && [ -p "$requests" ] || real "$@"
line="$MODAL_TASK_ID"
name=.sync.$$
reply="$replies/$name"
line="$line	$name"
for argument in "$@"; do
  case "$argument" in
    -*) ;;
    /*) line="$line	$argument" ;;
    *) line="$line	$PWD/$argument" ;;
  esac
done
[ ${{#line}} -lt 4000 ] || line="$MODAL_TASK_ID	$name"
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


class SyncRequests:
    """The emulator's end of the pipe, and the script."""

    def __init__(self, folder: Path) -> None:
        self.bin = folder / "bin"
        self.pipe = folder / "sync-requests"
        self._sandboxes: Sandboxes | None = None
        self._fd: int | None = None
        self._buffer = b""
        self._tasks: set[asyncio.Task[None]] = set()

    def install(self) -> None:
        """Write the script and make the pipe."""
        self.bin.mkdir(exist_ok=True)
        script = self.bin / "sync"
        script.write_text(_SCRIPT.format(requests=shlex.quote(str(self.pipe)), private=PRIVATE))
        script.chmod(0o755)
        os.mkfifo(self.pipe, 0o600)

    def start(self, sandboxes: Sandboxes) -> None:
        """Listen."""
        self._sandboxes = sandboxes
        # Opened for writing too, so that it never reads end of file when the last sandbox closes it.
        self._fd = os.open(self.pipe, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        asyncio.get_running_loop().add_reader(self._fd, self._readable)

    async def stop(self) -> None:
        """Stop listening once the requests under way are answered."""
        if self._fd is not None:
            asyncio.get_running_loop().remove_reader(self._fd)
            os.close(self._fd)
            self._fd = None
        if self._tasks:
            await asyncio.wait(self._tasks)

    def _readable(self) -> None:
        assert self._fd is not None  # noqa: S101 -- the reader is removed with it
        *lines, self._buffer = (self._buffer + os.read(self._fd, 65536)).split(b"\n")
        for line in lines:
            task = asyncio.create_task(self._serve(line.decode(errors="replace")), name="sync")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        self._buffer = self._buffer[-_MAX_LINE:]

    async def _serve(self, line: str) -> None:
        task_id, _, rest = line.partition("\t")
        name, *paths = rest.split("\t")
        machine = self._sandboxes.workload(task_id) if self._sandboxes else None
        if self._sandboxes is None or machine is None or "/" in name:
            return
        try:
            answer = "done" if await machine.sync(paths) else "none"
        except OSError as error:
            answer = f"the Volume could not be committed: {error}"
        _answer(machine.container.sync_replies / name, answer)


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
