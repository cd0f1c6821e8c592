"""A ``SandboxPlan`` as the plain keyword arguments of ``modal.Sandbox.create``. Pure, no modal object; ``gateway`` adds those."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypedDict

from modalflow.launch.gpu_ledger import gpu_tag
from modalflow.launch.price_tags import price_tags
from modalflow.translation.plan import CpuCores, MemoryMib, Runtime, SandboxPlan
from modalflow.translation.tags import GPU_TAG


class SandboxParameters(TypedDict, total=False):
    """Arguments of ``Sandbox.create`` that are plain data. A key that is absent leaves Modal's default."""

    name: str
    tags: dict[str, str]
    timeout: int
    env: dict[str, str | None]
    gpu: str
    cpu: CpuCores
    memory: MemoryMib
    cloud: str
    region: list[str]
    workdir: str
    include_oidc_identity_token: bool
    runtime: Runtime


def sandbox_kwargs(plan: SandboxPlan, gpu: str | None, *, name: str) -> SandboxParameters:
    """Return the arguments for one attempt called ``name`` on the candidate ``gpu`` (``None`` on CPU).

    ``gpu`` is left out on CPU: even an empty one would make the sandbox a V1 (modal 1.6.4). So is an empty ``env``, which costs
    V1 an extra call. Memory is made an int: the client sends a float as 0.
    """
    kwargs: SandboxParameters = {"name": name, "tags": {**price_tags(plan, gpu), **plan.tags}, "timeout": plan.timeout}
    if plan.env:
        kwargs["env"] = dict(plan.env)
    if gpu is not None:
        kwargs["gpu"] = gpu
        kwargs["tags"][GPU_TAG] = gpu_tag(gpu)
    if plan.cpu is not None:
        kwargs["cpu"] = plan.cpu
    if plan.memory is not None:
        kwargs["memory"] = _whole(plan.memory)
    if plan.cloud is not None:
        kwargs["cloud"] = plan.cloud
    if region := plan.region_of(gpu):
        kwargs["region"] = list(region)
    if plan.workdir is not None:
        kwargs["workdir"] = plan.workdir
    if plan.runtime is not None:
        kwargs["runtime"] = plan.runtime
    if plan.oidc:
        kwargs["include_oidc_identity_token"] = True
    return kwargs


def _whole(memory: MemoryMib) -> MemoryMib:
    return (int(memory[0]), int(memory[1])) if isinstance(memory, tuple) else int(memory)


def inline_secret(secret_env: Mapping[str, str]) -> dict[str, str | None]:
    """Return the workload's secret in the shape that ``modal.Secret.from_dict`` takes."""
    return dict(secret_env)
