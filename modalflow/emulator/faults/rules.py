"""What a fault is: which calls it takes, how many of them, and what happens to those.

Flows in: keywords from ``Faults.add`` or ``documents``. Flows out: checked ``Fault`` values that count what they did. Nothing is
done here; that is ``effects``.
"""

from __future__ import annotations

import fnmatch
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from google.protobuf.message import Message
from grpclib import Status

from modalflow.emulator.faults.errors import FaultError
from modalflow.emulator.faults.matching import Expected, check_paths, is_http, matched_methods, matches
from modalflow.emulator.spans import Span, drawn, span_problem

Where: TypeAlias = "Mapping[str, Expected] | Callable[[Message], bool]"
Cut: TypeAlias = Literal["stream", "connection"]
"""``stream``: only this call is reset. ``connection``: the client loses all that goes over this connection."""

_HTTP_STATUSES = range(100, 600)


@dataclass(kw_only=True, slots=True, eq=False)
class Fault:
    """One rule. ``Faults.add`` explains the keywords. ``seen``: calls that it means; ``hits``: those it acted on."""

    method: str
    status: Status | int | None = None
    message: str = "fault injected"
    details: Sequence[Message] | None = None
    delay: Span = 0.0
    times: int | None = 1
    after_handler: bool = False
    skip: int = 0
    probability: float = 1.0
    where: Where | None = None
    workspace: str | None = None
    cut: Cut | None = None
    after_messages: int | None = None
    after_seconds: float | None = None
    seen: int = 0
    hits: int = 0
    number: int = 0
    """Its name in lists and for ``clear``."""
    dice: random.Random = field(default_factory=random.Random, repr=False)

    def __post_init__(self) -> None:
        matched_methods(self.method)
        if isinstance(self.where, Mapping):
            check_paths(self.method, self.where)
        self._check_numbers()
        self._check_effect()
        if self.status is None and self.cut is None and not self.delay and not self.after_handler:
            raise FaultError("what happens to these calls? write status, cut, delay or after_handler")
        if self.after_handler and self.status is None and self.cut is None:
            self.cut = "connection" if is_http(self.method) else "stream"

    def _check_numbers(self) -> None:
        check_span("delay", self.delay)
        if self.times is not None and self.times < 1:
            raise FaultError(f"times: expected a whole number of at least 1, or none for always; got {self.times}")
        if self.skip < 0:
            raise FaultError(f"skip: expected a whole number of at least 0, got {self.skip}")
        if not 0 < self.probability <= 1:
            raise FaultError(f"probability: expected a number above 0 and up to 1, got {self.probability}")
        if self.after_messages is not None and self.after_messages < 0:
            raise FaultError(f"after_messages: expected a whole number of at least 0, got {self.after_messages}")
        if self.after_seconds is not None and self.after_seconds < 0:
            raise FaultError(f"after_seconds: expected seconds of at least 0, got {self.after_seconds}")

    def _check_effect(self) -> None:
        http = is_http(self.method)
        if http and (isinstance(self.status, Status) or (self.status is not None and self.status not in _HTTP_STATUSES)):
            raise FaultError(f"status: expected a number such as 503 for {self.method!r}, got {_shown(self.status)}")
        if not http and self.status is not None and not isinstance(self.status, Status):
            raise FaultError(f"status: expected the name of a gRPC status for {self.method!r}, got {_shown(self.status)}")
        if self.status is Status.OK:
            raise FaultError("status: OK is no fault; leave it out")
        if http and self.workspace is not None:
            raise FaultError("workspace: requests to the block store carry no token; leave it out")
        if http and self.cut == "stream":
            raise FaultError("cut: HTTP has connections only; write 'connection'")
        part_way = self.after_messages is not None or self.after_seconds is not None
        if part_way and self.status is None and self.cut is None:
            raise FaultError("after_messages, after_seconds: what happens then? write cut or status too")
        if part_way and (http or self.after_handler):
            raise FaultError(
                "after_messages, after_seconds: only for RPCs, and not with after_handler, which lets the call finish"
            )
        if self.status is not None and self.cut is not None:
            raise FaultError("status and cut: give one; who is cut off gets no status")

    def means(self, method: str, workspace: str, request: Message | None) -> bool:
        """Whether that call is one of those the rule is about, whatever its turn."""
        if not fnmatch.fnmatchcase(method, self.method) or is_http(method) != is_http(self.method):
            return False
        if self.workspace is not None and self.workspace != workspace:
            return False
        if self.where is None:
            return True
        if request is None:
            return False
        return matches(request, self.where) if isinstance(self.where, Mapping) else self.where(request)

    def take(self) -> bool:
        """Count one call that it means; whether it acts on it."""
        if self.times is not None and self.hits >= self.times:
            return False
        self.seen += 1
        if self.seen <= self.skip:
            return False
        if self.probability < 1 and self.dice.random() >= self.probability:
            return False
        self.hits += 1
        return True

    def seconds(self) -> float:
        """Return the delay of one call."""
        return drawn(self.delay, self.dice)


def check_span(key: str, span: Span) -> None:
    """``FaultError`` unless ``span`` is one."""
    if problem := span_problem(span):
        raise FaultError(f"{key}: {problem}")


def _shown(value: object) -> str:
    return value.name if isinstance(value, Status) else repr(value)
