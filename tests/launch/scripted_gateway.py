"""A gateway that does what a test says and keeps what it was asked: on the backend's loop, scripted from the test's thread."""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

from modalflow.launch.gateway import EndKind, Gateway, SandboxEnd, SandboxStatus
from modalflow.translation.plan import SandboxPlan

BOUND = 10.0
"""Seconds after which a condition that does not come true fails the test."""

PAGE = 2
"""Ids a page of ``running_ids``."""


def until(condition: Callable[[], bool], what: str) -> None:
    """Wait for a condition of another thread."""
    end = time.monotonic() + BOUND
    while not condition():
        assert time.monotonic() < end, f"{what} did not happen within {BOUND:g} s"
        time.sleep(0.001)


@dataclass(frozen=True, kw_only=True, slots=True)
class CreateCall:
    """One create as it arrived."""

    plan: SandboxPlan
    name: str
    gpu: str | None
    argv: tuple[str, ...]
    secret_env: Mapping[str, str]


class Gate:
    """Opened from the test's thread, awaited on the loop."""

    def __init__(self) -> None:
        self._opened = threading.Event()
        self._waiting: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []
        self._lock = threading.Lock()

    def open(self) -> None:
        with self._lock:
            self._opened.set()
            for loop, event in self._waiting:
                loop.call_soon_threadsafe(event.set)

    async def passed(self) -> None:
        event = asyncio.Event()
        with self._lock:
            if self._opened.is_set():
                return
            self._waiting.append((asyncio.get_running_loop(), event))
        try:
            await event.wait()
        finally:
            with self._lock:
                self._waiting.remove((asyncio.get_running_loop(), event))


@dataclass(kw_only=True)
class ScriptedGateway:
    """Succeeds at everything unless told otherwise; sandboxes run until ``end`` is called."""

    before_create: Callable[[CreateCall], Awaitable[None]] | None = None
    """Awaited in each create: raise, block or do nothing."""
    on_wait: Callable[[str], SandboxEnd] | None = None
    running: list[SandboxStatus] = field(default_factory=list)
    known: dict[str, SandboxStatus] = field(default_factory=dict)
    """By name and by id."""
    tail: str = ""
    creates: list[CreateCall] = field(default_factory=list)
    handed_over: list[tuple[str, bytes]] = field(default_factory=list)
    terminated: list[str] = field(default_factory=list)
    started_in: list[tuple[str, tuple[str, ...]]] = field(default_factory=list)
    on_start_in: Callable[[str], None] | None = None
    looked_for: list[str] = field(default_factory=list)
    attempts: list[SandboxStatus] = field(default_factory=list)
    """What ``list_launch`` finds."""
    asked_for: list[str] = field(default_factory=list)
    listed: list[Mapping[str, str]] = field(default_factory=list)
    on_list: Callable[[], None] | None = None
    logged: list[tuple[str, str, str]] = field(default_factory=list)
    on_check: Callable[[], None] | None = None
    prepared: list[SandboxPlan] = field(default_factory=list)
    on_prepare: Callable[[SandboxPlan], None] | None = None
    closed: bool = False
    deaf: bool = False
    """Its client answers no more."""
    succeeded: int = 0
    _ids: itertools.count[int] = field(default_factory=lambda: itertools.count(1))
    _ends: dict[str, SandboxEnd] = field(default_factory=dict)
    _gates: dict[str, Gate] = field(default_factory=dict)

    def end(self, sandbox_id: str, kind: EndKind = EndKind.SUCCESS, exit_code: int = 0) -> None:
        """End a sandbox, from any thread."""
        self._ends[sandbox_id] = SandboxEnd(kind=kind, exit_code=exit_code)
        self._gates.setdefault(sandbox_id, Gate()).open()

    async def check(self) -> str:
        if self.on_check is not None:
            self.on_check()
        return "the credentials of a test"

    async def prepare(self, plan: SandboxPlan) -> None:
        self.prepared.append(plan)
        if self.on_prepare is not None:
            self.on_prepare(plan)

    async def create(
        self, plan: SandboxPlan, *, name: str, gpu: str | None, argv: Sequence[str], secret_env: Mapping[str, str]
    ) -> str:
        call = CreateCall(plan=plan, name=name, gpu=gpu, argv=tuple(argv), secret_env=secret_env)
        self.creates.append(call)
        if self.before_create is not None:
            await self.before_create(call)
        return f"sb-{next(self._ids)}"

    async def hand_over(self, sandbox_id: str, payload: bytes) -> None:
        self.handed_over.append((sandbox_id, payload))

    async def find(self, name: str) -> SandboxStatus | None:
        self.looked_for.append(name)
        return self.known.get(name)

    async def status(self, sandbox_id: str) -> SandboxStatus | None:
        return self.known.get(sandbox_id)

    async def wait(self, sandbox_id: str) -> SandboxEnd:
        if self.on_wait is not None:
            return self.on_wait(sandbox_id)
        await self._gates.setdefault(sandbox_id, Gate()).passed()
        return self._ends[sandbox_id]

    async def terminate(self, sandbox_id: str) -> None:
        self.terminated.append(sandbox_id)

    async def start_in(self, sandbox_id: str, argv: Sequence[str]) -> None:
        self.started_in.append((sandbox_id, tuple(argv)))
        if self.on_start_in is not None:
            self.on_start_in(sandbox_id)

    async def list_running(self, tags: Mapping[str, str]) -> list[SandboxStatus]:
        self.listed.append(tags)
        return self.running

    async def running_ids(self, tags: Mapping[str, str]) -> AsyncGenerator[list[str], None]:
        self.listed.append(tags)
        if self.on_list is not None:
            self.on_list()
        ids = [status.sandbox_id for status in self.running]
        for start in range(0, len(ids), PAGE):
            yield ids[start : start + PAGE]

    async def list_launch(self, tags: Mapping[str, str]) -> list[SandboxStatus]:
        self.asked_for.append(tags["launch"])
        return [status for status in self.attempts if status.tags.get("launch") == tags["launch"]]

    async def output_tail(self, sandbox_id: str, *, max_bytes: int) -> str:
        return self.tail[-max_bytes:]

    async def append_log(self, volume: str, path: str, text: str) -> None:
        self.logged.append((volume, path, text))

    def ping(self, answer: Callable[[], None]) -> None:
        if not self.deaf:
            answer()

    def stack(self) -> str:
        return "  in the client" if self.deaf else ""

    def successor(self) -> Gateway:
        self.deaf = False
        self.succeeded += 1
        return self

    async def close(self) -> None:
        self.closed = True
