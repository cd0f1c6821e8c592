"""How the workload, which holds a token, comes into the sandbox's program: by its environment, hidden at once, or on stdin.

Part of the sandbox's program, see ``bootstrap``, which decodes the bytes.
"""

# Imports stand where they are used: most launches wait on no stdin.

from __future__ import annotations

import os
import sys
import time
from typing import NoReturn

from modalflow.worker.errors import EXIT_NO_WORKLOAD, EXIT_WORKLOAD_UNREADABLE, Failure

STARTED = time.monotonic()

WORKLOAD = "MODALFLOW_WORKLOAD"
WORKLOAD_FD = "MODALFLOW_WORKLOAD_FD"
HANDOVER_TIMEOUT = "MODALFLOW_HANDOVER_TIMEOUT"
DEFAULT_HANDOVER_TIMEOUT = 60.0
PIPE_BYTES = 16 * 1024
"""What a pipe surely holds without a reader (macOS); Linux has memfd and no such bound."""


def hide_workload() -> NoReturn:
    """Start this program again without the workload in its environment.

    ``/proc/<pid>/environ`` shows what a process image was started with for as long as it lives, and the task could read it.
    The new image finds the workload on an inherited anonymous file.
    """
    environment = dict(os.environ)
    payload = environment.pop(WORKLOAD).encode()
    environment[WORKLOAD_FD] = str(anonymous_file(payload))
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)  # noqa: S606


def anonymous_file(payload: bytes) -> int:
    """Return an inheritable descriptor from which ``payload`` can be read and that has no name anywhere."""
    if hasattr(os, "memfd_create"):
        fd = os.memfd_create("workload", 0)
        with open(fd, "wb", closefd=False) as file:
            file.write(payload)
        os.lseek(fd, 0, os.SEEK_SET)
        return fd
    if len(payload) > PIPE_BYTES:
        text = f"this system has no memfd, and a workload of {len(payload)} bytes does not fit a pipe"
        raise Failure(EXIT_WORKLOAD_UNREADABLE, text)
    read, write = os.pipe()
    os.write(write, payload)
    os.close(write)
    os.set_inheritable(read, True)  # noqa: FBT003
    return read


def inherited_workload() -> bytes | None:
    """Return the workload that ``hide_workload`` left, or ``None`` when it comes on stdin."""
    fd = os.environ.pop(WORKLOAD_FD, None)
    if fd is None:
        return None
    with open(int(fd), "rb") as file:
        return file.read()


def stdin_is_ready(seconds: float) -> bool:
    """Tell whether stdin has bytes or its end, waiting at most ``seconds``."""
    import select

    return bool(select.select([0], [], [], max(0.0, seconds))[0])


def workload_from_stdin() -> bytes:
    """Read stdin to its end, at most until the hand-over timeout, counted from the start of this program."""
    timeout = float(os.environ.get(HANDOVER_TIMEOUT) or DEFAULT_HANDOVER_TIMEOUT)
    received = bytearray()
    # One look is always taken: importing Airflow from a cold disk may have used the time up while the bytes lie ready.
    while stdin_is_ready(STARTED + timeout - time.monotonic()):
        part = os.read(0, 65536)
        if part:
            received += part
        elif received:
            return bytes(received)
        else:
            raise Failure(EXIT_NO_WORKLOAD, "stdin was closed without a workload")
    got = f"{len(received)} bytes came, and no end" if received else "nothing came"
    raise Failure(EXIT_NO_WORKLOAD, f"no workload on stdin within {timeout:g} s ({got})")
