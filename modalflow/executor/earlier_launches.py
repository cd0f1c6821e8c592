"""Whether a sandbox is of an earlier launch of a task instance that is under way again, and so is over.

A task that defers, is rescheduled, or is taken back from the queue keeps its instance's id and gets a new launch id when it is
queued again (Airflow 3.3.2), so the row no longer names the launch before. In: the row, and when a sandbox with that instance's
tag was made. Out: a ``Claim``, or none where the order of the two launches is not proved. Pure; ``ownership`` reads the rows.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from modalflow.launch.sweep import Claim

CLOCKS_APART = timedelta(seconds=5)
"""By how much Modal's clock and the schedulers' may differ. A sandbox made less than that before its task was queued again is
left alone: a late event of another scheduler can put an earlier launch's id back into the row of one that runs."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Held:
    """A row of a task instance: the id it carries, what it says of the launch of that id, and when that one was queued.

    ``under_way`` is whether that launch is wanted; else none of the instance is.
    """

    instance: str
    external_id: str | None
    claim: Claim
    queued_at: datetime | None
    under_way: bool = False


def claim_on_earlier(held: Held, made: datetime | None, now: datetime, tail: timedelta) -> Claim | None:
    """Judge a launch that has the instance's tag but is not the one in its row.

    ``made`` is when its newest sandbox was created, if that is known; ``tail`` is how long a sandbox may go on after its task.
    ``None`` unless it was made before the row's launch was queued: anything else may be of another database.
    """
    if made is None or held.queued_at is None or made + CLOCKS_APART >= held.queued_at:
        return None
    if not held.under_way:
        return replace(held.claim, failed_at=None)  # the failure is of the launch in the row
    if now - held.queued_at < tail:
        return Claim(over=False, why="its task was queued again a moment ago; its log may be on its way")
    return Claim(over=True, why="its task was queued again since, and has another sandbox")
