"""The stock of one emulated workspace: who holds what, who waits for what.

Flows in: what sandboxes need, and their ends; changes of the stock. Flows out: which sandboxes may start now. Pure state, no
processes and no wire; ``machines.scheduling`` acts on what it answers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from modal_proto import api_pb2

from modalflow.emulator.state.conditions import Weather
from modalflow.emulator.state.gpus import GpuRequest

DEFAULT_MILLI_CPU = 125
DEFAULT_MEMORY_MB = 128
"""What a sandbox that does not say gets (Modal's guide on resources, read November 2026)."""

_CPU = "CPU"
_MEMORY = "memory"
_ALL_GPUS = "GPUs"
_PLACE = "place"


@dataclass(frozen=True, kw_only=True, slots=True)
class Demand:
    """What one sandbox needs. ``places``: it must be in one of these regions, if there are any; ``cloud`` likewise."""

    gpu: GpuRequest | None = None
    milli_cpu: int = DEFAULT_MILLI_CPU
    memory_mb: int = DEFAULT_MEMORY_MB
    regions: tuple[str, ...] = ()
    cloud: str = ""

    @property
    def amounts(self) -> Mapping[str, int]:
        """How much of what."""
        found = {_CPU: self.milli_cpu, _MEMORY: self.memory_mb}
        if self.gpu is not None:
            found |= {self.gpu.type: self.gpu.count, _ALL_GPUS: self.gpu.count}
        return found

    @property
    def preemptible(self) -> bool:
        """Whether Modal may preempt it: only a sandbox with a GPU, a region or a cloud (Modal's guide, read November 2026)."""
        return self.gpu is not None or bool(self.regions) or self.cloud not in {"", "auto"}


def demand_of(definition: api_pb2.Sandbox, gpu: GpuRequest | None) -> Demand:
    """Return what a sandbox needs. The requests count, not the limits above them."""
    resources = definition.resources
    return Demand(
        gpu=gpu,
        milli_cpu=resources.milli_cpu or DEFAULT_MILLI_CPU,
        memory_mb=resources.memory_mb or DEFAULT_MEMORY_MB,
        regions=tuple(definition.scheduler_placement.regions),
        cloud=definition.cloud_provider_str.lower(),
    )


@dataclass(kw_only=True, slots=True)
class Inventory:
    """First come first served: who waits holds up everybody behind who needs what it lacks, and nobody else."""

    weather: Weather
    _used: Counter[str] = field(default_factory=Counter)
    _held: dict[str, Demand] = field(default_factory=dict)
    _waiting: dict[str, Demand] = field(default_factory=dict)

    def acquire(self, holder: str, demand: Demand) -> bool:
        """Give ``holder`` what it needs now (``True``), or queue it (``False``)."""
        if self.has_room(demand):
            self._take(holder, demand)
            return True
        self._waiting[holder] = demand
        return False

    def has_room(self, demand: Demand) -> bool:
        """Whether ``demand`` could be met now, without passing anybody."""
        return not demand.amounts.keys() & self._contested() and not self._lacking(demand)

    def release(self, holder: str) -> list[str]:
        """Forget ``holder``, running or queued; return who may start now, in order."""
        held = self._held.pop(holder, None)
        if held is not None:
            self._used.subtract(held.amounts)
        elif self._waiting.pop(holder, None) is None:
            return []
        return self.review()

    def review(self) -> list[str]:
        """Give what is there to those who wait for it; return who may start now, in order. After every change of the stock."""
        started: list[str] = []
        contested: set[str] = set()
        for holder, demand in list(self._waiting.items()):
            lacking = self._lacking(demand)
            if lacking or demand.amounts.keys() & contested:
                contested |= lacking
                continue
            del self._waiting[holder]
            self._take(holder, demand)
            started.append(holder)
        return started

    def queued(self) -> list[str]:
        """Who waits, in order of arrival."""
        return list(self._waiting)

    @property
    def members(self) -> int:
        """How many there are, those who wait included."""
        return len(self._held) + len(self._waiting)

    def used(self) -> dict[str, int]:
        """What is held: devices by type and all ``GPUs``, ``CPU`` in thousandths of a core, ``memory`` in MiB."""
        return {name: amount for name, amount in self._used.items() if amount}

    def lacking(self, holder: str) -> list[str]:
        """Return what a waiting ``holder`` lacks now, for messages; empty if only its turn has not come."""
        return sorted(self._lacking(self._waiting[holder]))

    def _contested(self) -> set[str]:
        """Return what somebody in the queue lacks."""
        found: set[str] = set()
        for demand in self._waiting.values():
            found |= self._lacking(demand)
        return found

    def _lacking(self, demand: Demand) -> set[str]:
        now = self.weather.now
        limits: dict[str, float | None] = {_ALL_GPUS: now.max_gpus, _MEMORY: now.memory_mb}
        limits[_CPU] = None if now.cpus is None else now.cpus * 1000
        if demand.gpu is not None and now.gpus is not None:
            limits[demand.gpu.type] = now.gpus.get(demand.gpu.type, 0)
        found: set[str] = set()
        for name, amount in demand.amounts.items():
            limit = limits.get(name)
            if limit is not None and self._used[name] + amount > limit:
                found.add(name)
        if demand.regions and now.unavailable.issuperset(demand.regions):
            found.add(_PLACE)
        if demand.cloud in now.unavailable:
            found.add(_PLACE)
        return found

    def _take(self, holder: str, demand: Demand) -> None:
        self._used.update(demand.amounts)
        self._held[holder] = demand
