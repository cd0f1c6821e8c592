"""The rules in force, from any thread.

Flows in: ``add``, ``remove``, ``clear``, latencies, a freeze. Flows out: for each call the rule that takes it and the seconds it
waits. ``effects`` and ``http_effects`` ask; tests, files and the control endpoint write.
"""

from __future__ import annotations

import asyncio
import fnmatch
import random
import threading
from collections.abc import Mapping, Sequence

from google.protobuf.message import Message
from grpclib import Status

from modalflow.emulator.faults.errors import FaultError
from modalflow.emulator.faults.matching import is_http, matched_methods
from modalflow.emulator.faults.rules import Cut, Fault, Where, check_span
from modalflow.emulator.spans import Span, drawn


class Faults:
    """Every method may be called from any thread."""

    def __init__(self, latency: Span | Mapping[str, Span] = 0.0, *, seed: int = 0) -> None:
        self._lock = threading.Lock()
        self._seed = seed
        self._rules: list[Fault] = []
        self._numbers = 0
        self._latencies: dict[str, Span] = {}
        self._dice = random.Random(seed)  # noqa: S311 -- not for secrets
        self._frozen: list[tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]] | None = None
        for pattern, span in latency.items() if isinstance(latency, Mapping) else (("*", latency),):
            self.set_latency(pattern, span)

    # -- writing

    def add(
        self,
        method: str,
        *,
        status: Status | int | None = None,
        message: str = "fault injected",
        details: Sequence[Message] | None = None,
        delay: Span = 0.0,
        times: int | None = 1,
        after_handler: bool = False,
        skip: int = 0,
        probability: float = 1.0,
        where: Where | None = None,
        workspace: str | None = None,
        cut: Cut | None = None,
        after_messages: int | None = None,
        after_seconds: float | None = None,
    ) -> Fault:
        """Have something happen to calls of ``method``; return the rule, whose ``hits`` count.

        ``method`` is an RPC of the control plane or of the command router, or of the block store (``GET /block``, ``PUT /blob``);
        ``*`` and ``?`` are wildcards (``SandboxCreate*``). Which of its calls: those whose request has the values of ``where``
        (by field path, or a function of the request) and that come from ``workspace`` (a token id); the first ``skip`` of them
        pass, then ``times`` (``None``: all) are taken, each with ``probability``.

        What happens: a ``delay`` in seconds (or between two bounds), then the call fails with ``status``, ``message`` and
        ``details``, or is ``cut``: its stream reset, or its whole connection closed. ``after_handler`` lets the handler finish
        first and loses its answer (by a cut, if no status is given). ``after_messages`` and ``after_seconds`` let a stream run
        that far. Of the rules that mean a call the first that takes it acts, alone. ``FaultError`` (a ``ValueError``) for a rule
        that cannot be.
        """
        return self.put(
            Fault(
                method=method,
                status=status,
                message=message,
                details=details,
                delay=delay,
                times=times,
                after_handler=after_handler,
                skip=skip,
                probability=probability,
                where=where,
                workspace=workspace,
                cut=cut,
                after_messages=after_messages,
                after_seconds=after_seconds,
            )
        )

    def put(self, rule: Fault) -> Fault:
        """Add a rule that was made elsewhere."""
        with self._lock:
            self._numbers += 1
            rule.number = self._numbers
            # A die of its own: which calls it takes does not depend on what other rules do.
            rule.dice = random.Random(f"{self._seed}/{rule.number}")  # noqa: S311 -- not for secrets
            self._rules.append(rule)
        return rule

    def remove(self, number: int) -> None:
        """Drop one rule. ``FaultError`` if there is none of that number."""
        with self._lock:
            left = [rule for rule in self._rules if rule.number != number]
            if len(left) == len(self._rules):
                raise FaultError(f"there is no fault number {number}")
            self._rules = left

    def clear(self) -> None:
        """Drop all rules; latencies stay."""
        with self._lock:
            self._rules.clear()

    def rules(self) -> list[Fault]:
        """The rules in their order, spent ones included."""
        with self._lock:
            return list(self._rules)

    def set_latency(self, pattern: str, span: Span) -> None:
        """Have calls of those methods wait that long, always. Of several patterns the one set last counts."""
        matched_methods(pattern)
        check_span("latency", span)
        with self._lock:
            self._latencies.pop(pattern, None)
            if span != 0:
                self._latencies[pattern] = span

    def latencies(self) -> dict[str, Span]:
        """Latencies by pattern, the one set last at the end."""
        with self._lock:
            return dict(self._latencies)

    def freeze(self) -> None:
        """Answer no new call until ``thaw``: connections are accepted, requests read, and that is all."""
        with self._lock:
            if self._frozen is None:
                self._frozen = []

    def thaw(self) -> None:
        """Go on, with the calls that have come in since first."""
        with self._lock:
            waiting, self._frozen = self._frozen or [], None
        for loop, future in waiting:
            if not loop.is_closed():
                loop.call_soon_threadsafe(_release, future)

    @property
    def frozen(self) -> bool:
        """Whether no call is answered."""
        return self._frozen is not None

    # -- reading; from the emulator's loop

    @property
    def idle(self) -> bool:
        """Whether nothing can happen to any call."""
        return not self._rules and not self._latencies and self._frozen is None

    def take(self, method: str, workspace: str, request: Message | None) -> Fault | None:
        """Return the rule that takes this call, having counted it."""
        for rule in self.rules():
            if rule.means(method, workspace, request):
                with self._lock:
                    if rule.take():
                        return rule
        return None

    def latency(self, method: str) -> float:
        """Return the seconds that this call waits in any case."""
        with self._lock:
            for pattern, span in reversed(self._latencies.items()):
                if is_http(pattern) == is_http(method) and fnmatch.fnmatchcase(method, pattern):
                    return drawn(span, self._dice)
        return 0.0

    async def pass_frozen(self) -> None:
        """Return when nothing is frozen."""
        while True:
            with self._lock:
                if self._frozen is None:
                    return
                loop = asyncio.get_running_loop()
                future: asyncio.Future[None] = loop.create_future()
                self._frozen.append((loop, future))
            await future


def _release(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
