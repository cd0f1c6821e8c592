"""The command group ``airflow modal``: what it is called and takes; the work is in ``command_explain`` and ``command_ps``.

Imported by every ``airflow`` command, so it defines and nothing else.
"""

from __future__ import annotations

from airflow.cli.cli_config import (
    ARG_BUNDLE_NAME,
    ARG_DAG_ID,
    ARG_TASK_ID,
    ARG_VERBOSE,
    ActionCommand,
    Arg,
    GroupCommand,
    lazy_load_command,
)

ARG_JSON = Arg(("--json",), help="Write JSON, for programs", action="store_true")  # type: ignore[no-untyped-call]


def get_modal_cli_commands() -> list[GroupCommand]:
    """Return the group; named in ``get_provider_info``."""
    explain = ActionCommand(
        name="explain",
        help="Show what Modal would get for a task, and which layer decided each field",
        func=lazy_load_command("modalflow.provider.command_explain.explain"),
        args=(ARG_DAG_ID, ARG_TASK_ID, ARG_BUNDLE_NAME, ARG_JSON, ARG_VERBOSE),
        epilog="Exit codes: 0 the task can run, 1 it is refused or could not be loaded. Nothing is sent to Modal.",
    )
    ps = ActionCommand(
        name="ps",
        help="List the running sandboxes of this deployment",
        func=lazy_load_command("modalflow.provider.command_ps.ps"),
        args=(ARG_JSON, ARG_VERBOSE),
    )
    return [GroupCommand(name="modal", help="Tools for tasks that run on Modal", subcommands=(explain, ps))]
