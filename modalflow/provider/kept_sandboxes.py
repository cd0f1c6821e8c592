"""The sandboxes that are kept after their task failed, by Modal's listing and Airflow's database together.

In: what runs on Modal, and a session. Out: those of them whose tags say ``keep_on_failure`` and whose launch this database
knows as failed, each with when that was. Reads only, by primary keys. ``command_shell`` enters them, ``command_ps`` shows them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from modalflow.executor.ownership import claims_by_instance
from modalflow.launch.gateway import SandboxStatus
from modalflow.launch.keep_tags import is_kept, kept_until
from modalflow.translation.tags import INSTANCE_TAG, KEEP_TAG, safe

if TYPE_CHECKING:
    from sqlalchemy.orm import Session


@dataclass(frozen=True, kw_only=True, slots=True)
class Kept:
    """One of them. ``until``: when its program ends it."""

    status: SandboxStatus
    failed_at: datetime
    until: datetime


def kept_of(session: Session, sandboxes: Sequence[SandboxStatus], now: datetime) -> list[Kept]:
    """Return the kept ones, the latest failure first."""
    may_be = [status for status in sandboxes if KEEP_TAG in status.tags]
    if not may_be:
        return []
    known = claims_by_instance(session, {one.tags.get("launch", ""): one.tags.get(INSTANCE_TAG, "") for one in may_be}, now)
    found: list[Kept] = []
    for status in may_be:
        claim = known.get(status.tags.get("launch", ""))
        if claim is None or claim.failed_at is None or not is_kept(status.tags, claim.failed_at, now):
            continue
        until = kept_until(status.tags, claim.failed_at)
        if until is not None:
            found.append(Kept(status=status, failed_at=claim.failed_at, until=until))
    return sorted(found, key=lambda kept: kept.failed_at, reverse=True)


def are_of(kept: Sequence[Kept], wanted: Mapping[str, str | int | None]) -> list[Kept]:
    """Return those whose tags have these values; ``None`` is any."""
    asked = {name: safe(str(value)) for name, value in wanted.items() if value is not None}
    return [one for one in kept if all(one.status.tags.get(name) == value for name, value in asked.items())]
