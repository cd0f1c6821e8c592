"""Who may create a sandbox, and when: places for CPU creates, GPUs in flight, and rates, in order of priority.

Flows in: claims of launches that are ready to be created, places given back, what Modal refused. Flows out: grants. CPU and GPU
stand in lines of their own, so that no CPU create ever waits behind a GPU. Pure: times are arguments (seconds of a monotonic
clock), and whoever calls ``grants`` also calls it again after ``next_look``. ``backend`` is that caller; ``rates`` and
``gpu_ledger`` hold the numbers.

A launch keeps its place in the line when it comes back (a create that Modal refused). One that waits for GPUs holds up those
behind it that need what it lacks, and nobody else: eight GPUs at once are got in the end, and an L4 does not wait for an H100.
"""

from __future__ import annotations

import heapq
import itertools
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from modalflow.launch.gpu_ledger import GpuLedger
from modalflow.launch.rates import AdaptiveRate
from modalflow.settings import LaunchSettings
from modalflow.translation.gpus.caps import ALL, GpuCaps, parse_gpu

_Line = list[tuple[int, int, str]]
"""A heap of (-priority, order, launch id). Entries of launches that left the line stay until they come to its head."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """What bounds creates. Rates are creates a second, ``None`` for no limit."""

    cpu_slots: int
    cpu_rate: float | None = None
    gpu_rate: float | None = None
    gpus: GpuCaps = field(default_factory=GpuCaps)

    @classmethod
    def allowed(cls, settings: LaunchSettings) -> Limits:
        """What the settings allow to be created."""
        return cls(
            cpu_slots=settings.launch_concurrency,
            cpu_rate=settings.cpu_create_rate,
            gpu_rate=settings.gpu_create_rate,
            gpus=settings.max_gpus,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Grant:
    """A launch that may be created now, on this GPU (``None`` on CPU)."""

    launch_id: str
    gpu: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class PoolGauges:
    """How full the pools are, for those who look in. ``gpus`` counts devices in flight by model, ``waiting`` launches by the
    first GPU they ask for (``cpu`` for none); rates are creates a second, ``None`` for unlimited."""

    cpu_slots: int
    cpu_creates: int
    gpus: Mapping[str, int]
    waiting: Mapping[str, int]
    cpu_rate: float | None
    gpu_rate: float | None


class Pools:
    """The lines and what is held. Used from one thread."""

    def __init__(self, limits: Limits) -> None:
        """Everything is free."""
        self._limits = limits
        self._gpus = GpuLedger(limits.gpus)
        self._creating: set[str] = set()
        self._rates = {False: AdaptiveRate(limits.cpu_rate), True: AdaptiveRate(limits.gpu_rate)}
        self._granted: dict[str, Grant] = {}
        self._waiting: dict[str, tuple[str, ...]] = {}
        self._lines: dict[tuple[str, ...], _Line] = {}
        self._places: dict[str, tuple[int, int]] = {}
        self._order = itertools.count()
        self._listings = 0

    # In

    def ask(self, launch_id: str, *, priority: int, gpus: tuple[str, ...] = ()) -> str | None:
        """Stand in line for one of ``gpus`` (none: a CPU create). Returns why that can never be, if it cannot.

        A launch that asks again has the place that it had before, until it is forgotten. Who stands in line holds no GPU: those
        of a sandbox taken over from an earlier scheduler, which is gone by now, would bar its own successor.
        """
        self._gpus.release(launch_id)
        possible = tuple(gpu for gpu in gpus if self._gpus.could_ever(gpu))
        if gpus and not possible:
            return self._gpus.refusal(gpus)
        place = self._places.setdefault(launch_id, (-priority, next(self._order)))
        self._waiting[launch_id] = possible
        heapq.heappush(self._lines.setdefault(possible, []), (*place, launch_id))
        return None

    def release(self, launch_id: str) -> None:
        """Give back what the launch was granted or holds. Harmless if it holds nothing."""
        self._granted.pop(launch_id, None)
        self._creating.discard(launch_id)
        self._gpus.release(launch_id)

    def hand_on(self, launch_id: str, sandbox_id: str) -> bool:
        """Count the GPUs of a launch that is over as those of its sandbox, which is kept; whether it has any."""
        return self._gpus.hand_on(launch_id, sandbox_id)

    def forget(self, launch_id: str) -> None:
        """Give back everything of a launch that is over, its place in the line included."""
        self.release(launch_id)
        self._waiting.pop(launch_id, None)
        self._places.pop(launch_id, None)

    def count(self, launch_id: str, gpu: str) -> None:
        """Count the GPUs of a sandbox that runs already (one of an earlier scheduler), though it be more than the cap."""
        self._gpus.hold(launch_id, gpu)

    def see_elsewhere(self, gpus: Mapping[str, str]) -> None:
        """Count the GPUs that run for other schedulers (launch id to GPU), in place of those seen before."""
        self._gpus.see_elsewhere(gpus)

    def listing(self, *, begins: bool) -> None:
        """An adoption's listing begins or is over: until it is known what runs, caps cannot be kept and no GPU is granted."""
        self._listings += 1 if begins else -1

    def accepted(self, launch_id: str) -> None:
        """Modal carried out the create of this launch."""
        if (grant := self._granted.get(launch_id)) is not None:
            self._rates[grant.gpu is not None].accepted()

    def refused(self, launch_id: str, now: float, retry_after: float | None) -> None:
        """Modal refused the create of this launch for now (RESOURCE_EXHAUSTED)."""
        if (grant := self._granted.get(launch_id)) is not None:
            self._rates[grant.gpu is not None].refused(now, retry_after)

    # Out

    def grants(self, now: float) -> list[Grant]:
        """Take out of the lines whoever may go now, most urgent first."""
        return [*self._cpu_grants(now), *self._gpu_grants(now)]

    def next_look(self, now: float) -> float | None:
        """Seconds until ``grants`` can give more without anything being given back; ``None`` if time alone changes nothing."""
        waits = []
        if self._cpu_free and self._head(()) is not None:
            waits.append(self._rates[False].wait(now))
        if self._next_gpu() is not None:
            waits.append(self._rates[True].wait(now))
        return min(waits, default=None)

    @property
    def cpu_creates(self) -> int:
        """CPU creates under way."""
        return len(self._creating)

    def first_choice(self, launch_id: str) -> str | None:
        """The first GPU that a launch in line asks for; ``None`` on CPU."""
        return next(iter(self._waiting.get(launch_id, ())), None)

    def why(self, launch_id: str, now: float) -> str:
        """What a launch in line waits for, for a sentence; empty if it does not wait."""
        gpus = self._waiting.get(launch_id)
        if gpus is None:
            return ""
        full = self._why_no_gpu(gpus[0]) if gpus else self._why_no_slot()
        return full or self._why_no_create("gpu" if gpus else "cpu", self._rates[bool(gpus)], now)

    def _why_no_slot(self) -> str:
        if self._cpu_free:
            return ""
        return f"{len(self._creating)} other creates are under way ([modal_executor] launch_concurrency)"

    def _why_no_gpu(self, gpu: str) -> str:
        if self._counting_first:
            return "the GPUs that an earlier scheduler's tasks hold are being counted"
        return self._gpus.why(gpu)

    @staticmethod
    def _why_no_create(kind: str, rate: AdaptiveRate, now: float) -> str:
        if not rate.wait(now) or rate.rate is None:
            return "more urgent launches are before it"
        if rate.is_cut:
            return f"Modal refuses more creates for now; {rate.rate:.2g} a second are tried"
        return f"{rate.rate:g} creates a second are made ([modal_executor] {kind}_create_rate)"

    def gauges(self) -> PoolGauges:
        """How full the pools are now."""
        return PoolGauges(
            cpu_slots=self._limits.cpu_slots,
            cpu_creates=len(self._creating),
            gpus=self._gpus.in_flight,
            waiting=Counter(gpus[0] if gpus else "cpu" for gpus in list(self._waiting.values())),  # read from another thread
            cpu_rate=self._rates[False].rate,
            gpu_rate=self._rates[True].rate,
        )

    def in_words(self) -> str:
        """How full the pools are, for a debug dump."""
        gauges = self.gauges()
        free = f"{gauges.cpu_slots - gauges.cpu_creates} of {gauges.cpu_slots} CPU slots free"
        gpus = ", ".join(f"{count} {model}" for model, count in gauges.gpus.items())
        return free + (f"; GPUs in flight: {gpus}" if gpus else "")

    # Lines

    @property
    def _cpu_free(self) -> bool:
        return len(self._creating) < self._limits.cpu_slots

    @property
    def _counting_first(self) -> bool:
        return self._listings > 0 and self._limits.gpus.any

    def _cpu_grants(self, now: float) -> Iterator[Grant]:
        while self._cpu_free and not self._rates[False].wait(now) and (launch_id := self._head(())) is not None:
            self._creating.add(launch_id)
            yield self._grant(launch_id, None, now)

    def _gpu_grants(self, now: float) -> Iterator[Grant]:
        while not self._rates[True].wait(now) and (found := self._next_gpu()) is not None:
            launch_id, gpu = found
            self._gpus.hold(launch_id, gpu)
            yield self._grant(launch_id, gpu, now)

    def _grant(self, launch_id: str, gpu: str | None, now: float) -> Grant:
        del self._waiting[launch_id]
        self._rates[gpu is not None].take(now)
        grant = self._granted[launch_id] = Grant(launch_id=launch_id, gpu=gpu)
        return grant

    def _next_gpu(self) -> tuple[str, str] | None:
        """The most urgent launch whose GPUs are free, and which of its candidates. Those before it keep what they lack."""
        if self._counting_first:
            return None
        kept: set[str] = set()
        heads = [(self._places[head], gpus, head) for gpus in list(self._lines) if gpus and (head := self._head(gpus))]
        for _, gpus, launch_id in sorted(heads):
            lacking = {gpu: set(self._gpus.lacks(gpu)) for gpu in gpus}
            for gpu, lacks in lacking.items():
                if not lacks and not kept & {parse_gpu(gpu)[0], ALL}:
                    return launch_id, gpu
            kept |= set().union(*lacking.values())
        return None

    def _head(self, gpus: tuple[str, ...]) -> str | None:
        """The first who still stands in this line."""
        line = self._lines.get(gpus, [])
        while line:
            negative, order, launch_id = line[0]
            if self._waiting.get(launch_id) == gpus and self._places.get(launch_id) == (negative, order):
                return launch_id
            heapq.heappop(line)
        self._lines.pop(gpus, None)
        return None
