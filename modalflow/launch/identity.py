"""How a launch, its attempts and its sandbox are called.

The launch id is the UUID that Airflow committed with QUEUED. Flows into ``lifecycle`` (names of attempts) and into
``executor`` (what an ``external_executor_id`` says).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

SANDBOX_ID_PREFIX = "sb-"

_CANONICAL = re.compile("[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


def is_launch_id(text: str) -> bool:
    """Whether ``text`` is a UUID in its canonical spelling: 36 characters, lower case."""
    return _CANONICAL.fullmatch(text) is not None


def attempt_name(launch_id: str, attempt: int) -> str:
    """Sandbox name of the ``attempt``-th try (from 1) of a launch: ``<launch id>``, then ``<launch id>.2``, ``.3`` …."""
    if attempt < 1:
        raise ValueError(f"attempt: expected 1 or more, got {attempt}")
    return launch_id if attempt == 1 else f"{launch_id}.{attempt}"


def parse_attempt_name(name: str) -> tuple[str, int] | None:
    """Return (launch id, attempt) of a sandbox name of ours, ``None`` for any other name."""
    launch_id, dot, number = name.partition(".")
    if not is_launch_id(launch_id):
        return None
    if not dot:
        return launch_id, 1
    return (launch_id, int(number)) if number.isascii() and number.isdigit() and int(number) > 1 else None


@dataclass(frozen=True, kw_only=True, slots=True)
class ExternalId:
    """What ``external_executor_id`` says: the launch, and its sandbox once its create had returned."""

    launch_id: str
    sandbox_id: str | None = None

    def __str__(self) -> str:
        """Render as Airflow keeps it: ``<launch id>`` or ``<launch id>/<sandbox id>``."""
        return f"{self.launch_id}/{self.sandbox_id}" if self.sandbox_id else self.launch_id


def parse_external_id(text: str | None) -> ExternalId | None:
    """Read an ``external_executor_id`` of ours in either form; ``None`` for anything else."""
    launch_id, slash, sandbox_id = (text or "").partition("/")
    if not is_launch_id(launch_id):
        return None
    if not slash:
        return ExternalId(launch_id=launch_id)
    if not sandbox_id.startswith(SANDBOX_ID_PREFIX):
        return None
    return ExternalId(launch_id=launch_id, sandbox_id=sandbox_id)
