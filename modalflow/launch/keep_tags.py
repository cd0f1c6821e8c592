"""What the tags of a sandbox say of keeping it when its task fails (``keep_on_failure``).

In: tags, and when Airflow says that the task failed. Out: the seconds, and until when the sandbox is kept. Pure; ``sweep``,
``keeping``, ``lifecycle`` and the commands decide by it. ``translation.keeping`` writes the tags.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

from modalflow.translation.tags import INSTANCE_TAG, KEEP_TAG

MOST = 86_400
"""Seconds that a sandbox lives at most."""
TAIL = timedelta(minutes=2)
"""A sandbox that is kept no longer has this long to end by itself: its log is committed then."""


def keep_of(tags: Mapping[str, str]) -> int:
    """Return for how many seconds the sandbox is kept if its task fails; 0 where it is not, or the tag is no such number."""
    text = tags.get(KEEP_TAG, "")
    return min(int(text), MOST) if text.isascii() and text.isdecimal() and len(text) <= len(str(MOST)) else 0


def kept_until(tags: Mapping[str, str], failed_at: datetime | None) -> datetime | None:
    """Return until when a sandbox is kept whose task failed at ``failed_at``; ``None`` if it is not."""
    seconds = keep_of(tags)
    return failed_at + timedelta(seconds=seconds) if seconds and failed_at is not None else None


def is_kept(tags: Mapping[str, str], failed_at: datetime | None, now: datetime) -> bool:
    """Whether a sandbox whose task failed is to be left alone."""
    until = kept_until(tags, failed_at)
    return until is not None and now < until + TAIL


def instance_to_ask_for(tags: Mapping[str, str]) -> str | None:
    """Return the id of the task instance whose failure leaves the sandbox running; ``None`` if none does."""
    return tags.get(INSTANCE_TAG) if keep_of(tags) else None
