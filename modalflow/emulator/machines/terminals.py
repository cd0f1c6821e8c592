"""Terminals of processes: their size and names, and how the emulator gets hold of the controlling end.

Flows in: a ``PTYInfo`` of the wire. Flows out: a pair of descriptors for a process of this machine, or the console socket by
which an OCI runtime hands over the terminal that it made in the container. ``processes`` reads and writes it as it does pipes.
"""

from __future__ import annotations

import os
import socket
import termios
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from modal_proto import api_pb2

ROWS, COLUMNS = 24, 80


@dataclass(frozen=True, kw_only=True, slots=True)
class Terminal:
    """``rows`` and ``columns`` in characters; ``env``: what its process is told of it (TERM and the like)."""

    rows: int
    columns: int
    env: dict[str, str]

    def resize(self, fd: int) -> None:
        """Give the terminal at ``fd`` this size."""
        termios.tcsetwinsize(fd, (self.rows, self.columns))

    def pair(self) -> tuple[int, int]:
        """Return a new terminal's controlling end and the process's end."""
        ours, theirs = os.openpty()
        self.resize(ours)
        return ours, theirs


def terminal_of(info: api_pb2.PTYInfo) -> Terminal | None:
    """Return the terminal that was asked for, or ``None``."""
    if not info.enabled:
        return None
    env = {"TERM": info.env_term or "xterm", "COLORTERM": info.env_colorterm, "TERM_PROGRAM": info.env_term_program}
    return Terminal(
        rows=info.winsz_rows or ROWS,
        columns=info.winsz_cols or COLUMNS,
        env={name: value for name, value in env.items() if value},
    )


class ConsoleSocket:
    """Where an OCI runtime sends the controlling end of a terminal that it made in a container."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.bind(str(path))
        self._socket.listen(1)
        self._socket.setblocking(False)  # noqa: FBT003

    def take(self) -> int | None:
        """Return the descriptor, which was sent before the runtime said that it was through; ``None`` if it failed."""
        try:
            connection, _ = self._socket.accept()
        except BlockingIOError:
            return None
        with connection:
            _, fds, _, _ = socket.recv_fds(connection, 4096, 1)
        if not fds:
            return None
        os.set_inheritable(fds[0], False)  # noqa: FBT003
        return fds[0]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()
        self._path.unlink(missing_ok=True)
