"""The ``modalflow`` command: arguments here, the work in the module of each command.

Flows in: argv. Flows out: an exit code. Nothing heavy is imported before a command is chosen; ``emulator_commands`` and
``modalflow.demo.command`` come next.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.metadata import version

from modalflow.cli import codes_command, diff_command, emulator_commands, fields_command, gpus_command, translate_command

Run = Callable[[argparse.Namespace], int]


def parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command."""
    top = argparse.ArgumentParser(prog="modalflow", description="Airflow tasks on Modal, and an emulated Modal to try it on.")
    top.add_argument("--version", action="version", version=f"modalflow {version('modalflow')}")
    commands = top.add_subparsers(title="commands", metavar="COMMAND", required=True)
    emulator = commands.add_parser("emulator", help="run an emulated Modal on this machine")
    emulator_commands.add_arguments(emulator)
    demo = commands.add_parser("demo", help="run the example DAGs on Airflow and the emulator")
    _add_demo(demo)
    translate_command.add_arguments(
        commands.add_parser("translate", help="show what Modal would get for pods and task templates, leaf by leaf")
    )
    gpus_command.add_arguments(commands.add_parser("gpus", help="list the GPU models, or rank them for a wish"))
    fields_command.add_arguments(commands.add_parser("fields", help="what becomes of every field of a pod"))
    codes_command.add_arguments(commands.add_parser("codes", help="what a finding's code means, and how to mend it"))
    diff_command.add_diff_arguments(commands.add_parser("diff", help="what two files would ask of Modal, where it differs"))
    diff_command.add_schema_arguments(commands.add_parser("schema", help="print the JSON Schema of task templates"))
    return top


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
