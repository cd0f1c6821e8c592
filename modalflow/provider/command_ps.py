"""``airflow modal ps`` and ``airflow modal top``: what this deployment has on Modal now, and what waits for it.

In: ``[modal_executor]``, Modal credentials, Airflow's database. Out: a table, live if wanted, or JSON on stdout. Reads only.
Next: ``task_states``.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.utils.cli import suppress_logs_and_warning
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from modalflow.executor.configuration import ConfigurationView, load_settings
from modalflow.executor.modal_connections import gateway_of_all
from modalflow.launch.gateway import GatewayError, SandboxStatus
from modalflow.provider.kept_sandboxes import kept_of
from modalflow.provider.task_states import AirflowTask, TaskRow, active_tasks, joined, recent_failures
from modalflow.settings import LaunchSettings, SettingsError

COLUMNS = ("state", "dag_id", "task_id", "run_id", "map_index", "try_number", "gpu", "seconds", "usd", "sandbox", "said")
HEADINGS = {"seconds": "for", "usd": "USD", "try_number": "try", "map_index": "map", "said": "latest event"}
SHOWN = 40
"""Rows of a live table: more than a terminal has would flicker."""
FAILURES_OF = timedelta(hours=1)


@dataclass(frozen=True, kw_only=True, slots=True)
class Look:
    """What there is at one moment. ``unread`` says why Airflow's side is missing, if it is."""

    rows: Sequence[TaskRow]
    failures: Sequence[tuple[datetime, str, str]] = ()
    unread: str = ""


@suppress_logs_and_warning
def ps(args: Any) -> None:
    """Run ``ps``; one sentence on stderr and exit code 1 if Modal cannot be asked."""
    settings = _settings()
    if args.watch is None:
        _once(args.json, settings)
    else:
        _live(settings, args.watch, table_of)


@suppress_logs_and_warning
def top(args: Any) -> None:
    """Run ``top``: totals, tasks and the failures of the last hour, anew every few seconds until it is interrupted."""
    _live(_settings(), args.watch, overview)


def _settings() -> LaunchSettings:
    from airflow.configuration import conf  # noqa: PLC0415 - Airflow is imported where it is needed

    try:
        return load_settings(ConfigurationView(conf=conf, environ=os.environ)).launch
    except SettingsError as error:
        raise _refused(error) from error


def _refused(error: Exception) -> SystemExit:
    sys.stderr.write(f"{error}\n")
    return SystemExit(1)


def _once(as_json: bool, settings: LaunchSettings) -> None:  # noqa: FBT001 - as argparse has it
    try:
        looked = look(asyncio.run(running(settings)))
    except GatewayError as error:
        raise _refused(error) from error
    if looked.unread:
        sys.stderr.write(f"{looked.unread}\n")
    if as_json:
        sys.stdout.write(json.dumps([{**asdict(row), "usd": round(row.usd, 6)} for row in looked.rows], indent=2) + "\n")
    elif looked.rows:
        Console().print(table_of(looked))
    else:
        sys.stdout.write(
            f"No sandbox of deployment {settings.deployment!r} runs in {_apps(settings)}, and no task waits for one.\n"
        )


def _live(settings: LaunchSettings, seconds: float, draw: Callable[[Look], RenderableType]) -> None:
    """Draw anew every ``seconds`` over one connection, until interrupted; where there is no terminal, once."""
    console = Console()
    if not console.is_terminal:
        try:
            console.print(draw(look(asyncio.run(running(settings)))))
        except GatewayError as error:
            raise _refused(error) from error
        return
    with Live(Text("asking Modal …"), console=console, auto_refresh=False, screen=True) as live:
        try:
            asyncio.run(_redraw(settings, seconds, lambda found: live.update(draw(look(found)), refresh=True)))
        except KeyboardInterrupt:
            return
        except GatewayError as error:
            raise _refused(error) from error


async def _redraw(settings: LaunchSettings, seconds: float, show: Callable[[list[SandboxStatus]], None]) -> None:
    async with gateway_of_all(settings, read_only=True) as gateway:
        while True:
            began = time.monotonic()
            show(await gateway.list_running({"deployment": settings.deployment}))
            await asyncio.sleep(max(0.1, seconds - (time.monotonic() - began)))


async def running(settings: LaunchSettings) -> list[SandboxStatus]:
    """List them. Raises ``GatewayError``, whose text is one sentence."""
    async with gateway_of_all(settings, read_only=True) as gateway:
        return await gateway.list_running({"deployment": settings.deployment})


def look(sandboxes: Sequence[SandboxStatus]) -> Look:
    """Join Modal's listing with Airflow's tasks; without a database, Modal's side alone."""
    from airflow.utils.session import create_session  # noqa: PLC0415
    from sqlalchemy.exc import SQLAlchemyError  # noqa: PLC0415

    now = datetime.now(UTC)
    tasks: list[AirflowTask] = []
    try:
        with create_session() as session:
            tasks, failures = active_tasks(session), recent_failures(session, now - FAILURES_OF)
            kept = kept_of(session, sandboxes, now)
    except SQLAlchemyError as error:
        told = f"Airflow's database cannot be read ({type(error).__name__}); only what runs on Modal is shown"
        return Look(rows=joined((), sandboxes, now), unread=told)
    return Look(rows=joined(tasks, sandboxes, now, kept), failures=failures)


def _apps(settings: LaunchSettings) -> str:
    names = dict.fromkeys(
        f"App {home.app or settings.app_name!r}" + (f" of {home.environment}" if home.environment else "")
        for home in settings.homes
    )
    return ", ".join(names)


def table_of(looked: Look) -> Table:
    """The rows as a table; columns that are empty everywhere are left out."""
    table = Table(pad_edge=False)
    cells = [[_cell(row, name) for name in COLUMNS] for row in looked.rows]
    used = [index for index in range(len(COLUMNS)) if any(line[index] for line in cells)]
    for index in used:
        name = COLUMNS[index]
        table.add_column(HEADINGS.get(name, name), overflow="fold", justify="right" if name in ("seconds", "usd") else "left")
    for line in cells:
        table.add_row(*(Text(line[index]) for index in used))
    return table


def overview(looked: Look) -> Group:
    """Totals, the tasks, and what failed lately."""
    states = Counter(row.state for row in looked.rows)
    gpus = Counter(row.gpu for row in looked.rows if row.gpu)
    rate = sum(row.usd_hour for row in looked.rows)
    counts = ", ".join(f"{count} {state}" for state, count in states.items()) or "nothing runs or waits"
    parts: list[RenderableType] = [Text(f"{counts}; {rate:.2f} USD an hour by list price", style="bold")]
    if gpus:
        parts.append(Text("GPUs: " + ", ".join(f"{count} × {gpu}" for gpu, count in gpus.most_common())))
    if looked.unread:
        parts.append(Text(looked.unread, style="red"))
    if looked.rows:
        parts.append(table_of(Look(rows=looked.rows[:SHOWN])))
    if len(looked.rows) > SHOWN:
        parts.append(Text(f"… and {len(looked.rows) - SHOWN} more"))
    if looked.failures:
        failed = Table("failed in the last hour", "task", "why", pad_edge=False)
        for at, task, why in looked.failures:
            failed.add_row(f"{at:%H:%M:%S}", Text(task), Text(why, overflow="ellipsis", no_wrap=True))
        parts.append(failed)
    return Group(*parts)


def _cell(row: TaskRow, name: str) -> str:
    if name == "seconds":
        return "" if row.seconds is None else _duration(row.seconds)
    if name == "usd":
        return f"{row.usd:.4f}" if row.usd_hour else ""
    return str(getattr(row, name))


def _duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02}m" if hours else f"{minutes}m{rest:02}s" if minutes else f"{rest}s"
