"""``airflow modal cleanup``: the sandboxes of this deployment that Airflow wants no more, and their end.

In: what runs on Modal, and Airflow's database. Out: a line for each sandbox; with ``--yes`` those that are over are ended. A
sandbox is ended only if its deployment tag and its launch are both ours: neither age nor tag alone is enough.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from airflow.utils.cli import suppress_logs_and_warning
from rich.console import Console
from rich.table import Table
from rich.text import Text

from modalflow.executor.configuration import ConfigurationView, load_settings
from modalflow.executor.modal_connections import gateway_of_all
from modalflow.executor.ownership import claims_on
from modalflow.launch.gateway import Gateway, GatewayError, SandboxStatus
from modalflow.launch.keep_tags import is_kept, kept_until
from modalflow.launch.stopping import end_in_order
from modalflow.launch.sweep import Claim, Claims, made_of
from modalflow.settings import LaunchSettings, SettingsError
from modalflow.translation.tags import INSTANCE_TAG

UNKNOWN = "this Airflow's database does not know its launch: left alone"
AT_ONCE = 32
"""Sandboxes that are ended at the same time."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One sandbox. ``action``: ``keep``, ``end`` (dry run), ``ended`` or ``failed``."""

    status: SandboxStatus
    action: str
    why: str

    def as_plain(self) -> dict[str, str]:
        """For JSON and the table."""
        tags = self.status.tags
        task = ".".join(text for name in ("dag_id", "task_id") if (text := tags.get(name, "")))
        return {
            "sandbox": self.status.sandbox_id,
            "task": task or tags.get("callback_id", "") or tags.get("connection_test_id", ""),
            "run_id": tags.get("run_id", ""),
            "launch": tags.get("launch", ""),
            "action": self.action,
            "why": self.why,
        }


@suppress_logs_and_warning
def cleanup(args: Any) -> None:
    """Run the command; exit code 1 if Modal cannot be asked or a sandbox could not be ended."""
    from airflow.configuration import conf  # noqa: PLC0415 - Airflow is imported where it is needed

    try:
        settings = load_settings(ConfigurationView(conf=conf, environ=os.environ)).launch
        rows = asyncio.run(_with_modal(settings, yes=args.yes))
    except (SettingsError, GatewayError) as error:
        sys.stderr.write(f"{error}\n")
        raise SystemExit(1) from error
    _show(rows, as_json=args.json, deployment=settings.deployment)
    if any(row.action == "failed" for row in rows):
        raise SystemExit(1)


async def _with_modal(settings: LaunchSettings, *, yes: bool) -> list[Row]:
    async with gateway_of_all(settings) as gateway:
        return await clean_up(gateway, settings, from_database, yes=yes)


def from_database(launches: Mapping[str, str], made: Mapping[str, datetime]) -> Mapping[str, Claim]:
    """Ask Airflow's database."""
    from airflow.utils.session import create_session  # noqa: PLC0415

    with create_session() as session:
        return claims_on(session, launches, datetime.now(UTC), made)


async def clean_up(gateway: Gateway, settings: LaunchSettings, claims: Claims, *, yes: bool) -> list[Row]:
    """Decide on every running sandbox of the deployment; with ``yes`` end those that are over, each in its time."""
    running = await gateway.list_running({"deployment": settings.deployment})
    ours = [status for status in running if status.tags.get("deployment") == settings.deployment]
    known = claims({status.tags.get("launch", ""): status.tags.get(INSTANCE_TAG, "") for status in ours}, made_of(ours))
    now = datetime.now(UTC)
    rows = [_decide(status, known.get(status.tags.get("launch", "")), now) for status in ours]
    rows.sort(key=lambda row: (row.action, row.status.sandbox_id))
    return list(await asyncio.gather(*_ends(gateway, settings, rows))) if yes else rows


def _decide(status: SandboxStatus, claim: Claim | None, now: datetime) -> Row:
    if claim is None:
        return Row(status=status, action="keep", why=UNKNOWN)
    until = kept_until(status.tags, claim.failed_at)
    if until is not None and is_kept(status.tags, claim.failed_at, now):
        return Row(status=status, action="keep", why=f"{claim.why}; kept until {until:%Y-%m-%d %H:%M:%S} UTC (keep_on_failure)")
    return Row(status=status, action="end" if claim.over else "keep", why=claim.why)


def _ends(gateway: Gateway, settings: LaunchSettings, rows: Sequence[Row]) -> list[Any]:
    from modalflow.worker import stop_source  # noqa: PLC0415 - only where something is ended

    stop_argv = ["python", "-c", stop_source()]
    at_once = asyncio.Semaphore(AT_ONCE)

    async def end(row: Row) -> Row:
        if row.action != "end":
            return row
        async with at_once:
            try:
                await end_in_order(gateway, row.status, stop_argv=stop_argv, stop_grace=settings.stop_grace)
            except GatewayError as error:
                return Row(status=row.status, action="failed", why=str(error))
        return Row(status=row.status, action="ended", why=row.why)

    return [end(row) for row in rows]


def _show(rows: Sequence[Row], *, as_json: bool, deployment: str) -> None:
    if as_json:
        sys.stdout.write(json.dumps([row.as_plain() for row in rows], indent=2) + "\n")
        return
    if not rows:
        sys.stdout.write(f"No sandbox of deployment {deployment!r} runs.\n")
        return
    table = Table(pad_edge=False)
    plain = [row.as_plain() for row in rows]
    for name in plain[0]:
        table.add_column(name, overflow="fold")
    for one in plain:
        table.add_row(*map(Text, one.values()))
    Console().print(table)
    if over := sum(row.action == "end" for row in rows):
        sys.stdout.write(f"{over} would be ended; nothing was done. Run it again with --yes.\n")
