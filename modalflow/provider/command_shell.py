"""``airflow modal shell``: a shell, or a command, in the sandbox of a task that runs, or that failed and is kept.

In: which task, Airflow's database, Modal credentials. Out: the terminal of a process in the sandbox, and its exit code. Modal's
own exec and terminal are used (``modal_gateway.shell``).
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airflow.utils.cli import suppress_logs_and_warning

from modalflow.executor.configuration import ConfigurationView, load_settings
from modalflow.executor.modal_connections import all_accounts
from modalflow.launch.gateway import GatewayError, NotFound, SandboxStatus
from modalflow.launch.identity import ExternalId, parse_external_id
from modalflow.provider.command_ps import running
from modalflow.provider.kept_sandboxes import are_of, kept_of
from modalflow.settings import LaunchSettings, SettingsError

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

SHELL = ("if command -v bash >/dev/null; then exec bash; else exec sh; fi",)
WITHOUT_WORKLOAD = "unset MODALFLOW_WORKLOAD; "
"""Modal gives the environment of a sandbox to every process in it; the workload holds a token."""


class NoSandbox(Exception):
    """There is none to enter; the text says why, and what to write."""


class NoneRuns(NoSandbox):
    """No instance of the task has a sandbox by Airflow's account; one of a failed try may be kept."""


@suppress_logs_and_warning
def shell(args: Any) -> None:
    """Run the command; its exit code is that of the shell, or 1 with one sentence if there is nothing to enter."""
    from airflow.configuration import conf  # noqa: PLC0415 - Airflow is imported where it is needed
    from airflow.utils.session import create_session  # noqa: PLC0415

    try:
        settings = load_settings(ConfigurationView(conf=conf, environ=os.environ)).launch
        with create_session() as session:
            sandbox_id = to_enter(session, args, lambda: asyncio.run(running(settings)))
        terminal = sys.stdin.isatty() and sys.stdout.isatty()
        code = _enter(settings, sandbox_id, argv_of(args.command), terminal=terminal)
    except (SettingsError, GatewayError, NoSandbox) as error:
        sys.stderr.write(f"{error}\n")
        raise SystemExit(1) from error
    raise SystemExit(code)


def _enter(settings: LaunchSettings, sandbox_id: str, argv: Sequence[str], *, terminal: bool) -> int:
    """Enter it in the account that knows it, the deployment's own first."""
    from modalflow.modal_gateway.shell import enter  # noqa: PLC0415 - imports modal

    *others, last = all_accounts(settings).values()
    for account in others:
        try:
            return enter(account.settings, sandbox_id, argv, terminal=terminal, read=account.read)
        except NotFound:
            continue
    return enter(last.settings, sandbox_id, argv, terminal=terminal, read=last.read)


def argv_of(command: Sequence[str]) -> list[str]:
    """Return what is run: the command, else the best shell there is; never with the workload."""
    words = list(command[1:] if command[:1] == ["--"] else command)
    if not words:
        return ["sh", "-c", WITHOUT_WORKLOAD + SHELL[0]]
    return ["sh", "-c", f'{WITHOUT_WORKLOAD}exec "$@"', "sh", *words]


def to_enter(session: Session, args: Any, listed: Callable[[], Sequence[SandboxStatus]]) -> str:
    """Return the sandbox of the task that runs, else the one that is kept after its failure. Raises ``NoSandbox``.

    ``listed`` asks Modal what runs; only where no task of Airflow's has a sandbox.
    """
    which = {"run_id": args.run_id, "map_index": args.map_index, "try_number": args.try_number}
    try:
        return sandbox_of(session, args.dag, args.task, **which)
    except NoneRuns as none:
        kept = are_of(kept_of(session, listed(), datetime.now(UTC)), {"dag_id": args.dag, "task_id": args.task, **which})
        if not kept:
            raise NoSandbox(f"{none}, and no sandbox of a failed one is kept") from None
        if len(kept) > 1:
            choice = ", ".join(_words(one.status.tags) for one in kept[:5])
            raise NoSandbox(f"{len(kept)} sandboxes of {args.dag}.{args.task} are kept; say which: {choice}") from None
        return kept[0].status.sandbox_id


def _words(tags: Mapping[str, str]) -> str:
    mapped = tags.get("map_index", "-1")
    index = "" if mapped == "-1" else f" --map-index {mapped}"
    return f"--run-id {tags.get('run_id')}{index} --try-number {tags.get('try_number')}"


def sandbox_of(
    session: Session, dag_id: str, task_id: str, *, run_id: str | None, map_index: int | None, try_number: int | None = None
) -> str:
    """Return the sandbox of the task instance that runs. Raises ``NoSandbox``, ``NoneRuns`` where there is none."""
    from airflow.models.taskinstance import TaskInstance as TI  # noqa: N817, PLC0415
    from sqlalchemy import select  # noqa: PLC0415

    query = select(TI.run_id, TI.map_index, TI.state, TI.external_executor_id).where(TI.dag_id == dag_id, TI.task_id == task_id)
    if run_id is not None:
        query = query.where(TI.run_id == run_id)
    if map_index is not None:
        query = query.where(TI.map_index == map_index)
    if try_number is not None:
        query = query.where(TI.try_number == try_number)
    alive = session.execute(query.where(TI.state.in_(("queued", "running", "restarting")))).all()
    name = f"{dag_id}.{task_id}"
    found: list[tuple[str, int, ExternalId]] = [
        (run, index, external)
        for run, index, _, text in alive
        if (external := parse_external_id(text)) is not None and external.sandbox_id is not None
    ]
    if not found:
        states = ", ".join(sorted({str(state) for _, _, state, _ in alive}))
        raise NoneRuns(f"no instance of {name} has a sandbox" + (f": what there is is {states}" if states else " and runs"))
    if len(found) > 1:
        which = ", ".join(f"--run-id {run}" + (f" --map-index {index}" if index >= 0 else "") for run, index, _ in found[:5])
        raise NoSandbox(f"{len(found)} instances of {name} run; say which: {which}")
    return str(found[0][2].sandbox_id)
