"""Which relays there should be, which a task is given, when one follows another. Pure: what is seen in, what to do out.

Relays are found by their tags. There is one, and for a while two: the successor of one that comes to its end, or the one in the
place of a lost one. Each has one of two slots, whose names Modal gives only once: so schedulers need not agree who starts it.
``service`` does what is decided here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

SLOTS = ("a", "b")
_TAG = re.compile(r"([0-9a-f]{24})\.([0-9]{9,11})\.([0-9]{1,5})\.([0-9]{1,5})", re.ASCII)


@dataclass(frozen=True, kw_only=True, slots=True)
class Rules:
    """Times in seconds. ``life``: of a relay sandbox, Modal's longest. A successor is started when less than ``renew`` of it is
    left, and the elder left ``overlap`` after: sandboxes ask for the relays each minute. One that cannot be reached for
    ``given_up`` is counted as lost."""

    life: float = 86_400.0
    renew: float = 14_400.0
    overlap: float = 900.0
    given_up: float = 45.0


RULES = Rules()


@dataclass(frozen=True, kw_only=True, slots=True)
class Mark:
    """What the tag of a relay says: its number, when Modal ends it (epoch), its ports for schedulers and for tasks."""

    number: str
    until: int
    ssh_port: int
    task_port: int

    def __str__(self) -> str:
        """As the tag says it."""
        return f"{self.number}.{self.until}.{self.ssh_port}.{self.task_port}"


def read_mark(text: str) -> Mark | None:
    """Read a tag; ``None`` if it is not one of ours."""
    found = _TAG.fullmatch(text)
    if found is None:
        return None
    number, until, ssh, task = found.groups()
    return Mark(number=number, until=int(until), ssh_port=int(ssh), task_port=int(task))


@dataclass(frozen=True, kw_only=True, slots=True)
class Seen:
    """One relay as this scheduler sees it.

    ``serving``: somebody holds its port, we or another scheduler; ``held``: we. ``unreached``: since when (epoch) it does not
    answer us, ``None`` if it does or was not tried yet.
    """

    mark: Mark
    slot: str
    sandbox_id: str
    address: str = ""
    serving: bool = False
    held: bool = False
    unreached: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Decision:
    """``start``: slots to try in this order, empty for none. ``attach``: relays to be connected to; others are let go."""

    start: tuple[str, ...]
    attach: frozenset[str]


def decide(seen: Sequence[Seen], now: float, rules: Rules = RULES) -> Decision:
    """Say what to do about the relays that run."""
    living = [one for one in seen if not _lost(one, now, rules)]
    fresh = [one for one in living if one.mark.until - now > rules.renew]
    free = tuple(slot for slot in SLOTS if slot not in {one.slot for one in seen})
    newest = max(fresh, key=lambda one: (one.mark.until, one.mark.number), default=None)
    settled = newest is not None and newest.serving and now - (newest.mark.until - rules.life) > rules.overlap
    keep = [one for one in seen if not settled or one is newest]
    return Decision(start=() if fresh else free, attach=frozenset(one.mark.number for one in keep))


def for_task(seen: Iterable[Seen], now: float, timeout: float) -> tuple[Seen, ...]:
    """Return the relays that a task with ``timeout`` (seconds) is given, the one it begins with first; empty if none serves.

    First those that live longer than the task, and of these the one that ends first, so that a successor is not used up by short
    tasks and a short task never has to change; then the others, the longest-lived first: their tasks are led to the successor
    before they end.
    """
    serving = [one for one in seen if one.serving and one.mark.until > now]
    outlive = sorted((one for one in serving if one.mark.until - now >= timeout), key=_until)
    rest = sorted((one for one in serving if one.mark.until - now < timeout), key=_until, reverse=True)
    return (*outlive, *rest)


def addresses(seen: Iterable[Seen], now: float, rules: Rules = RULES) -> tuple[str, ...]:
    """Return where sandboxes that run should go now: those that are not near their end first."""
    serving = [one for one in seen if one.serving and one.mark.until > now]
    ordered = sorted(serving, key=lambda one: (one.mark.until - now <= rules.renew, -one.mark.until))
    return tuple(one.address for one in ordered)


def must_tell(held: Seen, seen: Iterable[Seen], now: float, rules: Rules = RULES) -> bool:
    """Whether running sandboxes must be told of the relay whose port we have just got.

    They learn of a successor by the elder; they cannot where that is gone. An older relay they know already.
    """
    others = any(one.serving and one.mark.number != held.mark.number and one.mark.until > now for one in seen)
    return not others and now - (held.mark.until - rules.life) < rules.overlap


def _lost(one: Seen, now: float, rules: Rules) -> bool:
    return one.mark.until <= now or (one.unreached is not None and now - one.unreached >= rules.given_up)


def _until(one: Seen) -> int:
    return one.mark.until
