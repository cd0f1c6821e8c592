"""The shared commands as argparse and callables: from the table to a parser and to the function behind a command."""

from __future__ import annotations

import argparse
import errno
import os
import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

from modalflow.provider.command_table import Command

Run = Callable[[argparse.Namespace], int]

CLOSED_PIPE = 141
"""Exit code of what a shell sees end by SIGPIPE, which a reader that has left causes."""
UNWRITABLE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})


def add_commands(to: Any, commands: Mapping[str, Command]) -> None:
    """Add ``commands`` to what ``add_subparsers`` returned; nothing of theirs is imported."""
    for name, command in commands.items():
        parser: argparse.ArgumentParser = to.add_parser(name, help=command.help, description=command.help, epilog=command.epilog)
        for argument in command.arguments:
            options: dict[str, Any] = dict(argument.options)
            parser.add_argument(*argument.flags, **options)
        parser.set_defaults(run=_later(command), airflow=False)


def run_of(command: Command) -> Run:
    """Import the function behind a command."""
    module, _, function = command.run.rpartition(".")
    run: Run = getattr(import_module(module), function)
    return run


def _later(command: Command) -> Run:
    def run(arguments: argparse.Namespace) -> int:
        return piped(run_of(command), arguments)

    return run


def piped(run: Run, arguments: argparse.Namespace) -> int:
    """Run a command whose reader may leave early (``| head``), or whose output cannot be written; neither is a traceback."""
    try:
        code = run(arguments)
        sys.stdout.flush()
    except BrokenPipeError:
        _give_up_stdout()
        return CLOSED_PIPE
    except OSError as error:
        if error.filename is not None or error.errno not in UNWRITABLE:
            raise
        _give_up_stdout()
        sys.stderr.write(f"the output cannot be written: {error.strerror}\n")
        return 1
    return code


def _give_up_stdout() -> None:
    """Let the interpreter's last flush go nowhere; it would be a second error."""
    sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115 - lives as long as the process
