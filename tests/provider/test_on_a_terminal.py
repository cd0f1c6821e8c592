"""``airflow modal top`` and ``ps --watch`` as a person sees them: on a terminal, drawn anew, left by Ctrl-C."""

from __future__ import annotations

import codecs
import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import modal
import pytest

from modalflow.emulator import EmulatorThread
from tests.launch.plans import LAUNCH

pytestmark = pytest.mark.emulated

SCREEN, LEFT = "\x1b[?1049h", "\x1b[?1049l"
"""A terminal's alternate screen, as ``rich`` enters and leaves it."""
LINES, COLUMNS = 40, 240
SECONDS = 60.0


class Terminal:
    """A command on a terminal of its own; ``shown`` is all that it wrote so far."""

    def __init__(self, *command: str) -> None:
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
        env = {
            **os.environ,
            "TERM": "xterm",
            "COLUMNS": str(COLUMNS),
            "LINES": str(LINES),
            "PYTHONPATH": str(Path(__file__).parents[2]),
        }
        # A test run in a shell's background ignores Ctrl-C, and a child inherits that; what is handled is as new in a child.
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "airflow", *command],
                stdin=theirs,
                stdout=theirs,
                stderr=theirs,
                env=env,
                start_new_session=True,
            )
        finally:
            signal.signal(signal.SIGINT, before)
        os.close(theirs)
        self.shown = ""
        self._decoder = codecs.getincrementaldecoder("utf-8")()  # a read may end within a character

    def until(self, text: str) -> None:
        """Read until ``text`` was written after what was read before."""
        start, end = len(self.shown), time.monotonic() + SECONDS
        while text not in self.shown[start:]:
            assert time.monotonic() < end, self.shown
            if select.select([self._ours], [], [], 1.0)[0] and not self._read():
                pytest.fail(f"it ended without {text!r}: {self.shown}")

    def interrupt(self) -> int:
        """Press Ctrl-C; read to the end and return the exit code."""
        self.process.send_signal(signal.SIGINT)
        while self._read():
            pass
        return self.process.wait(SECONDS)

    def _read(self) -> bool:
        try:
            got = os.read(self._ours, 65536)
        except OSError:  # EIO: the other side of a terminal is closed
            return False
        self.shown += self._decoder.decode(got)
        return bool(got)

    def close(self) -> None:
        """End it, whatever it does."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self._ours)


@pytest.fixture
def sandbox(modal_emulator: EmulatorThread) -> Iterator[Callable[[str], Any]]:
    """Makes sandboxes as of tasks of this deployment."""
    with modal.Client.from_env() as client:
        app = modal.App.lookup("modalflow", create_if_missing=True, client=client)

        def make(task_id: str) -> Any:
            image = modal.Image.debian_slim()  # the default one is known to its first server only
            made = modal.Sandbox.create("sleep", "600", app=app, image=image, client=client)
            made.set_tags({"deployment": "airflow", "launch": LAUNCH, "dag_id": "models", "task_id": task_id})
            return made

        yield make


@pytest.mark.parametrize(
    ("command", "heading"),
    [(("top", "--watch", "0.2"), "USD an hour by list price"), (("ps", "--watch", "0.2"), "task_id")],
    ids=["top", "ps"],
)
def test_it_is_drawn_anew_until_it_is_interrupted(
    airflow_database: None, sandbox: Callable[[str], Any], command: tuple[str, ...], heading: str
) -> None:
    first = sandbox("the-first")
    terminal = Terminal("modal", *command)
    try:
        terminal.until(SCREEN)
        terminal.until(first.object_id)
        assert heading in terminal.shown
        assert "the-second" not in terminal.shown
        second = sandbox("the-second")
        terminal.until(second.object_id)
        code = terminal.interrupt()
    finally:
        terminal.close()
    assert code == 0, terminal.shown
    assert terminal.shown.count(SCREEN) == 1, "one screen, drawn over"
    assert LEFT in terminal.shown, "the terminal is as it was before"
    assert "Traceback" not in terminal.shown
