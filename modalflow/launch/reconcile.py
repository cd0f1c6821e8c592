"""Which sandbox of a launch counts, when a scheduler finds what an earlier one left.

A launch may have several attempts: a GPU goes from candidate to candidate, what failed before its task ran is launched again. In:
what Modal lists of the launch, running or ended. Out: the attempt to go on with, and requests that nobody waits for any more.
Pure; ``backend`` lists, ``lifecycle.adopting`` decides what follows.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from modalflow.launch.gateway import SandboxStatus
from modalflow.launch.identity import parse_attempt_name

LAUNCH_TAG = "launch"
DEPLOYMENT_TAG = "deployment"


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """The attempt to go on with. ``strays`` are ids of earlier ones that still wait for a machine, without a workload."""

    status: SandboxStatus
    attempt: int
    strays: tuple[str, ...] = ()


def is_ours(status: SandboxStatus, *, deployment: str, launch_id: str) -> bool:
    """Whether a sandbox is of this deployment and this launch, by both of its tags: one alone is somebody else's."""
    return status.tags.get(DEPLOYMENT_TAG) == deployment and status.tags.get(LAUNCH_TAG) == launch_id


def by_launch(statuses: Iterable[SandboxStatus]) -> Mapping[str, tuple[SandboxStatus, ...]]:
    """Sort a listing by the launch that each sandbox says it is of."""
    found: dict[str, list[SandboxStatus]] = defaultdict(list)
    for status in statuses:
        launch_id = status.tags.get(LAUNCH_TAG)
        if launch_id is not None:
            found[launch_id].append(status)
    return {launch_id: tuple(of_it) for launch_id, of_it in found.items()}


def choose(statuses: Sequence[SandboxStatus], *, committed: str | None) -> Choice | None:
    """Return the attempt that counts among all of one launch, ``None`` if there is none.

    The one whose id Airflow keeps (``committed``) has the workload, so it counts for as long as it runs. Otherwise the latest
    attempt does: the one before it was known to have ended, or had no workload and gets none. An earlier one that still waits for
    its machine would take it, and cost money, for nobody.
    """
    if not statuses:
        return None
    kept = next((status for status in statuses if status.sandbox_id == committed and status.end is None), None)
    status = kept or max(statuses, key=lambda status: (attempt_of(status), status.end is None))
    attempt = max(map(attempt_of, statuses))
    strays = tuple(
        other.sandbox_id
        for other in statuses
        if other is not status and other.end is None and other.waits and attempt_of(other) < attempt_of(status)
    )
    return Choice(status=status, attempt=attempt, strays=strays)


def attempt_of(status: SandboxStatus) -> int:
    """The number of the attempt that a sandbox is, from 1; one without its name counts as the first."""
    named = parse_attempt_name(status.name)
    return named[1] if named is not None else 1
