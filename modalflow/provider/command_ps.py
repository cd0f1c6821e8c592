"""``airflow modal ps``: the running sandboxes of this deployment.

In: ``[modal_executor]`` and Modal credentials. Out: a table or JSON on stdout. Reads only.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Sequence
from typing import Any

from airflow.utils.cli import suppress_logs_and_warning
from rich.console import Console
from rich.table import Table
from rich.text import Text

from modalflow.executor.configuration import ConfigurationView, load_settings
from modalflow.launch.gateway import GatewayError, SandboxStatus
from modalflow.settings import LaunchSettings, SettingsError

COLUMNS = ("sandbox", "dag_id", "task_id", "run_id", "try_number", "map_index", "launch")


@suppress_logs_and_warning
def ps(args: Any) -> None:
    """Run the command; one sentence on stderr and exit code 1 if Modal cannot be asked."""
    from airflow.configuration import conf  # noqa: PLC0415 - Airflow is imported where it is needed

    try:
        settings = load_settings(ConfigurationView(conf=conf, environ=os.environ)).launch
        found = asyncio.run(running(settings))
    except (SettingsError, GatewayError) as error:
        sys.stderr.write(f"{error}\n")
        raise SystemExit(1) from error
    rows = [row_of(status) for status in sorted(found, key=lambda status: status.name)]
    if args.json:
        sys.stdout.write(json.dumps(rows, indent=2) + "\n")
    elif rows:
        Console().print(table_of(rows))
    else:
        sys.stdout.write(f"No sandbox of deployment {settings.deployment!r} runs in {_apps(settings)}.\n")


def _apps(settings: LaunchSettings) -> str:
    names = dict.fromkeys(
        f"App {home.app or settings.app_name!r}" + (f" of {home.environment}" if home.environment else "")
        for home in settings.homes
    )
    return ", ".join(names)


async def running(settings: LaunchSettings) -> list[SandboxStatus]:
    """List them. Raises ``GatewayError``, whose text is one sentence."""
    from modalflow.modal_gateway import ModalGateway  # noqa: PLC0415 - imports modal

    async with ModalGateway(settings) as gateway:
        return await gateway.list_running({"deployment": settings.deployment})


def row_of(status: SandboxStatus) -> dict[str, str]:
    """One sandbox by column; a tag that it lacks is empty."""
    return {"sandbox": status.sandbox_id, **{name: status.tags.get(name, "") for name in COLUMNS[1:]}}


def table_of(rows: Sequence[dict[str, str]]) -> Table:
    """The rows as a table; columns that are empty everywhere are left out."""
    table = Table(pad_edge=False)
    columns = [name for name in COLUMNS if any(row[name] for row in rows)]
    for name in columns:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*(Text(row[name]) for name in columns))
    return table
