"""The ``modalflow`` command: what it has beyond ``airflow modal`` is declared here, the rest in ``provider.command_table``.

Flows in: argv. Flows out: an exit code. Nothing heavy is imported before a command is chosen; ``emulator_commands`` and
``modalflow.demo.command`` come next.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import version
from typing import Any

from modalflow.cli import deploy_command, emulator_commands, sync_command
from modalflow.cli.shared import Run, add_commands
from modalflow.provider.command_table import COMMANDS


def parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command."""
    top = argparse.ArgumentParser(prog="modalflow", description="Airflow tasks on Modal, and an emulated Modal to try it on.")
    top.add_argument("--version", action="version", version=f"modalflow {version('modalflow')}")
    commands = top.add_subparsers(title="commands", metavar="COMMAND", required=True)
    emulator = commands.add_parser("emulator", help="run an emulated Modal on this machine")
    emulator_commands.add_arguments(emulator)
    demo = commands.add_parser("demo", help="run the example DAGs on Airflow and the emulator")
    _add_demo(demo)
    add_commands(commands, COMMANDS)
    _add_former(commands)
    return top


def _add_former(commands: Any) -> None:
    """Declare the two commands of modalflow 0.3.1."""
    for name, module, told in (
        (
            "deploy",
            deploy_command,
            "say what stands for the flags of modalflow 0.3.1, and upload DAGs where they say so",
        ),
        ("sync", sync_command, "bring a folder of DAGs to a Modal Volume, for `dags_volume`"),
    ):
        parser = commands.add_parser(name, help=told, description=told)
        module.add_arguments(parser)
        parser.set_defaults(run=module.run)


def _add_demo(demo: argparse.ArgumentParser) -> None:
    # By name: the demo is the layer above this one, which may call it but must not be built on it.
    command = import_module("modalflow.demo.command")
    command.add_arguments(demo)
    demo.set_defaults(run=command.run)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    arguments = parser().parse_args(argv)
    run: Run = arguments.run
    return run(arguments)


if __name__ == "__main__":
    sys.exit(main())
