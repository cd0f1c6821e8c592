"""Runs the commands that a pod has run before its task: init containers, in order, and postStart.

Part of the sandbox's program, see ``set_up``. Flows in: one command, its environment, folder and user. Flows out: its output,
line by line, for the task's log; ``SetUpError`` if it fails.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from modalflow.worker.errors import EXIT_COMMAND_FAILED, SetUpError

LONGEST_LINE = 16_384
"""Bytes of one line of output; longer ones are broken."""
OUTPUT_SECONDS = 5.0
"""How long the last output may take to come once the command has ended."""


def run_command(
    what: str,
    argv: Sequence[str],
    say: Callable[[str, str], None],
    *,
    environ: Mapping[str, str],
    folder: str | None = None,
    user: Any = None,
    code: int = EXIT_COMMAND_FAILED,
) -> None:
    """Run one command to its end; raise ``SetUpError`` with ``code`` if that is no success. What it leaves running is killed."""
    import contextlib
    import signal
    import subprocess
    import threading

    def copy(stream: Any) -> None:
        while line := stream.readline(LONGEST_LINE):
            say("info", f"{what}: {line.decode(errors='replace').rstrip()}")

    try:
        process = subprocess.Popen(  # noqa: S603 - the pod's own words
            list(argv),
            env=dict(environ),
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            **({} if user is None else user.arguments),
        )
    except (OSError, ValueError) as error:
        raise SetUpError(f"{what} cannot be started: {argv[0]}: {getattr(error, 'strerror', None) or error}", code) from error
    reader = threading.Thread(target=copy, args=(process.stdout,), daemon=True)
    reader.start()
    ended = process.wait()
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    reader.join(OUTPUT_SECONDS)
    if ended:
        how = f"with exit code {ended}" if ended > 0 else f"by signal {-ended}"
        raise SetUpError(f"{what} ended {how}", code)
