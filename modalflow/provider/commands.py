"""The command group ``airflow modal``, made of the table that the ``modalflow`` command is made of too, and ``ps``.

Imported by every ``airflow`` command, so it defines and nothing else; the work is in ``modalflow.cli`` and ``command_ps``.
"""

from __future__ import annotations

from typing import Any

from airflow.cli.cli_config import ARG_VERBOSE, ActionCommand, Arg, GroupCommand, lazy_load_command

from modalflow.provider.command_table import COMMANDS, Argument

TWINS = "modalflow.cli.airflow_side"
"""Module with a function for each command of the table. By name: it is in the layer above this one."""

ARG_WATCH = Arg(("-w", "--watch"), type=float, metavar="SECONDS", help="Show it anew every so many seconds")  # type: ignore[no-untyped-call]
ARG_EVERY = Arg(("-w", "--watch"), type=float, default=5.0, metavar="SECONDS", help="Seconds between two looks (5)")  # type: ignore[no-untyped-call]
ARG_JSON = Arg(("--json",), help="Write JSON, for programs", action="store_true")  # type: ignore[no-untyped-call]

ARG_YES = Arg(("-y", "--yes"), help="End them; without it nothing is done", action="store_true")  # type: ignore[no-untyped-call]
ARG_RUN_ID = Arg(("--run-id",), help="Of this DAG run, where several run")  # type: ignore[no-untyped-call]
ARG_MAP_INDEX = Arg(("--map-index",), type=int, help="Of this mapped instance")  # type: ignore[no-untyped-call]


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
    return [
        GroupCommand(
            name="modal",
            help="Tools for tasks that run on Modal",
            subcommands=(*shared, _ps(), _top(), _logs(), _cleanup(), _shell()),
        )
    ]


def _ps() -> ActionCommand:
    return ActionCommand(
        name="ps",
        help="list the sandboxes of this deployment, and the tasks that wait for one",
        func=lazy_load_command("modalflow.provider.command_ps.ps"),
        args=(ARG_JSON, ARG_WATCH, ARG_VERBOSE),
    )


def _top() -> ActionCommand:
    return ActionCommand(
        name="top",
        help="show what runs, waits, failed lately and what it costs, live",
        func=lazy_load_command("modalflow.provider.command_ps.top"),
        args=(ARG_EVERY, ARG_VERBOSE),
    )


def _logs() -> ActionCommand:
    return ActionCommand(
        name="logs",
        help="print the log of a task, as its page shows it; of the run that was queued last, unless --run-id says another",
        func=lazy_load_command("modalflow.provider.command_logs.logs"),
        args=(
            Arg(("dag",), metavar="DAG", help="A DAG id"),  # type: ignore[no-untyped-call]
            Arg(("task",), metavar="TASK", help="A task id"),  # type: ignore[no-untyped-call]
            ARG_RUN_ID,
            ARG_MAP_INDEX,
            Arg(("--try-number",), type=int, help="Of this try; without it, the latest"),  # type: ignore[no-untyped-call]
            Arg(("-f", "--follow"), help="Go on until the try has ended", action="store_true"),  # type: ignore[no-untyped-call]
            ARG_JSON,
            ARG_VERBOSE,
        ),
    )


def _cleanup() -> ActionCommand:
    return ActionCommand(
        name="cleanup",
        help="list the sandboxes of this deployment that Airflow wants no more, and end them",
        func=lazy_load_command("modalflow.provider.command_cleanup.cleanup"),
        args=(ARG_YES, ARG_JSON, ARG_VERBOSE),
    )


def _shell() -> ActionCommand:
    return ActionCommand(
        name="shell",
        help="open a shell, or run a command, in the sandbox of a task that runs, or failed and is kept",
        func=lazy_load_command("modalflow.provider.command_shell.shell"),
        args=(
            ARG_RUN_ID,
            ARG_MAP_INDEX,
            Arg(("--try-number",), type=int, help="Of this try, where a failed one is kept"),  # type: ignore[no-untyped-call]
            ARG_VERBOSE,
            Arg(("dag",), metavar="DAG", help="The DAG id"),  # type: ignore[no-untyped-call]
            Arg(("task",), metavar="TASK", help="The task id"),  # type: ignore[no-untyped-call]
            Arg(("command",), nargs="*", metavar="COMMAND", help="What to run, after --"),  # type: ignore[no-untyped-call]
        ),
        epilog="Exit codes: that of the shell or command; 1 if there is no sandbox to enter.",
    )


def _arg(argument: Argument) -> Arg:
    options: dict[str, Any] = dict(argument.options)
    return Arg(argument.flags, **options)  # type: ignore[no-untyped-call]
