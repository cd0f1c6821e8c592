"""Where copies lie on the Volume, and which of them may go. Pure.

A copy is ``<deployment>/<day>/<digest>``: the day (UTC) is that of the launch that asked for it. A scheduler launches with copies
of today only, and writes one of yesterday anew as today's (Modal has the content already, so that is one call). So the name of
a day's folder says when a task was last launched with what is in it, without a record that schedulers would have to agree on: no
scheduler of the deployment ever takes up a copy of a day that is over, and Modal ends every sandbox within 24 h of its start.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime

_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Copy:
    """One copy of a deployment: its day, as ISO writes it, and the digest of its manifest."""

    day: str
    digest: str

    @property
    def tag(self) -> str:
        """Name the copy on the sandboxes that mount it."""
        return f"{self.day}.{self.digest}"

    def folder(self, deployment: str) -> str:
        """Return where it lies on the Volume."""
        return f"{deployment}/{self.day}/{self.digest}"


def day_of(seconds: float) -> str:
    """Return the day of a time in seconds since the epoch."""
    return datetime.fromtimestamp(seconds, UTC).date().isoformat()


def old_days(names: Iterable[str], *, today: str, keep: int) -> list[str]:
    """Return the days among ``names`` that are ``keep`` days old or older, oldest first. Other names are nobody's business."""
    oldest_kept = date.fromisoformat(today).toordinal() - keep
    found = [name for name in names if (day := _ordinal(name)) is not None and day <= oldest_kept]
    return sorted(found)


def to_remove(deployment: str, contents: Mapping[str, Collection[str]], in_use: Collection[str]) -> list[str]:
    """Return the folders to remove of ``contents``, old days and the copies in them: whole days where nothing is in use.

    ``in_use`` are tags (``Copy.tag``) of sandboxes that run, and of launches that are yet to start.
    """
    found: list[str] = []
    for day, digests in contents.items():
        copies = [Copy(day, digest) for digest in digests]
        free = [copy.folder(deployment) for copy in copies if copy.tag not in in_use]
        found += [f"{deployment}/{day}"] if len(free) == len(copies) else free
    return found


def _ordinal(name: str) -> int | None:
    if not _DAY.fullmatch(name):
        return None
    try:
        return date.fromisoformat(name).toordinal()
    except ValueError:
        return None
