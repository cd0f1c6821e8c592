"""The command group ``airflow modal``, made of the table that the ``modalflow`` command is made of too, and ``ps``.

Imported by every ``airflow`` command, so it defines and nothing else; the work is in ``modalflow.cli`` and ``command_ps``.
"""

from __future__ import annotations

from typing import Any

from airflow.cli.cli_config import ARG_VERBOSE, ActionCommand, Arg, GroupCommand, lazy_load_command

from modalflow.provider.command_table import COMMANDS, Argument

TWINS = "modalflow.cli.airflow_side"
"""Module with a function for each command of the table. By name: it is in the layer above this one."""

ARG_JSON = Arg(("--json",), help="Write JSON, for programs", action="store_true")  # type: ignore[no-untyped-call]


def get_modal_cli_commands() -> list[GroupCommand]:
    """Return the group; named in ``get_provider_info``."""
    shared = [
        ActionCommand(
            name=name,
            help=command.help,
            func=lazy_load_command(f"{TWINS}.{name}"),
            args=[_arg(argument) for argument in command.arguments],
            epilog=command.epilog or None,
        )
        for name, command in COMMANDS.items()
    ]
    ps = ActionCommand(
        name="ps",
        help="list the running sandboxes of this deployment",
        func=lazy_load_command("modalflow.provider.command_ps.ps"),
        args=(ARG_JSON, ARG_VERBOSE),
    )
    return [GroupCommand(name="modal", help="Tools for tasks that run on Modal", subcommands=(*shared, ps))]


def _arg(argument: Argument) -> Arg:
    options: dict[str, Any] = dict(argument.options)
    return Arg(argument.flags, **options)  # type: ignore[no-untyped-call]
