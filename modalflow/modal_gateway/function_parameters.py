"""A ``FunctionPlan`` as the plain keyword arguments of ``modal.Function.with_options``. Pure, no modal object.

``secrets`` and ``volumes`` of the plan are Modal objects there, made by ``kept``. What is one task's own travels in the call and
never here: ``with_options(env=…)`` makes a Secret for each call, and with it a cold pool of containers (modal 1.6.4).
"""

from __future__ import annotations

from typing import TypedDict

from modalflow.translation.functions.plan import FunctionPlan
from modalflow.translation.plan import CpuCores, MemoryMib


class FunctionParameters(TypedDict, total=False):
    """Arguments of ``with_options`` that are plain data. A key that is absent leaves what the Function was deployed with."""

    cpu: CpuCores
    memory: MemoryMib
    gpu: str
    timeout: int
    region: list[str]
    cloud: str


def function_kwargs(plan: FunctionPlan, gpu: str | None) -> FunctionParameters:
    """Return the arguments for one call on the candidate ``gpu`` (``None`` on CPU)."""
    kwargs: FunctionParameters = {"timeout": plan.longest}
    if gpu is not None:
        kwargs["gpu"] = gpu
    if plan.cpu is not None:
        kwargs["cpu"] = plan.cpu
    if plan.memory is not None:
        kwargs["memory"] = plan.memory
    if region := plan.region_of(gpu):
        kwargs["region"] = list(region)
    if plan.cloud is not None:
        kwargs["cloud"] = plan.cloud
    return kwargs
