"""The shared commands as argparse and callables: from the table to a parser and to the function behind a command."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

from modalflow.provider.command_table import Command

Run = Callable[[argparse.Namespace], int]


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
        return run_of(command)(arguments)

    return run
