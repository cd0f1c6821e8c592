"""What a plan costs an hour by Modal's public list prices, so that people see it before they pay it.

In: a plan. Out: a ``Price`` for each GPU candidate, or the one of a CPU task. Data of ``gpus.catalogue.PRICES_OF``, an estimate:
Modal bills the larger of what is requested and what is used, and its region multipliers change.
"""

from __future__ import annotations

from dataclasses import dataclass

from modalflow.translation.functions.plan import Plan
from modalflow.translation.gpus.catalogue import model_of
from modalflow.translation.plan import SandboxPlan
from modalflow.translation.regions import BROAD

CORE_HOUR, FUNCTION_CORE_HOUR = 0.00003942 * 3600, 0.0000131 * 3600
"""USD for one physical core of a sandbox, and of a Function, an hour (modal.com/pricing, 2026-10)."""
GIB_HOUR, FUNCTION_GIB_HOUR = 0.00000667 * 3600, 0.00000222 * 3600
"""USD for one GiB of memory of a sandbox, and of a Function, an hour (same page)."""
FOR_BROAD, FOR_NARROW = 1.5, 1.75
"""Multipliers of the whole price where a region is named (third parties, 2026-10; Modal's page said 1.25 to 2.5 before)."""
DEFAULT_CORES = 0.125
DEFAULT_MIB = 128
"""What Modal requests where nobody says anything (modal.com/docs/guide/resources, 2026-07)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Price:
    """USD an hour for one candidate (``gpu`` is ``None`` on CPU). ``total`` is the sum of the parts times ``multiplier``."""

    gpu: str | None
    gpu_usd: float
    cpu_usd: float
    memory_usd: float
    multiplier: float

    @property
    def total(self) -> float:
        """USD an hour while the task uses no more than it requests."""
        return (self.gpu_usd + self.cpu_usd + self.memory_usd) * self.multiplier


def prices_of(plan: Plan) -> tuple[Price, ...]:
    """Return the prices in the order of the candidates; one without GPU for a CPU task."""
    cores = DEFAULT_CORES if plan.cpu is None else plan.cpu[0] if isinstance(plan.cpu, tuple) else plan.cpu
    mib = DEFAULT_MIB if plan.memory is None else plan.memory[0] if isinstance(plan.memory, tuple) else plan.memory
    core, gib = (CORE_HOUR, GIB_HOUR) if isinstance(plan, SandboxPlan) else (FUNCTION_CORE_HOUR, FUNCTION_GIB_HOUR)
    return tuple(
        Price(
            gpu=gpu,
            gpu_usd=0.0 if gpu is None else _gpu_price(gpu),
            cpu_usd=cores * core,
            memory_usd=mib / 1024 * gib,
            multiplier=multiplier_of(plan.region_of(gpu)),
        )
        for gpu in plan.gpu_candidates or (None,)
    )


def multiplier_of(regions: tuple[str, ...]) -> float:
    """Return the multiplier of the price: 1 anywhere; of several regions, the dearest."""
    return max((FOR_BROAD if region in BROAD else FOR_NARROW for region in regions), default=1.0)


def _gpu_price(text: str) -> float:
    """Return USD an hour for ``MODEL`` or ``MODEL:COUNT``, as plans have them."""
    name, _, count = text.partition(":")
    return model_of(name).price * int(count or 1)
