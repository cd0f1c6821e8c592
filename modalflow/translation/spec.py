"""What one task needs, resolved: typed values, no layers left. Flows from ``resolve`` into ``lower``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from modalflow.translation.gpus.catalogue import GpuRequest
from modalflow.translation.plan import MODALFLOWS, BucketPlan, CpuCores, Home, MemoryMib, Runtime, SecretPlan, VolumePlan
from modalflow.translation.setup_plan import NO_SETUP, SetupPlan, Text

Backend = Literal["sandbox", "function", "auto"]


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskSpec:
    """``image`` is ``auto`` or a reference; ``gpu`` is empty for a CPU task; ``timeout`` and ``gpu_wait`` are in seconds.

    ``disk`` is in MiB, ``None`` for what everybody has. ``backend`` is what the task becomes; ``auto``: a Function where one can.
    """

    image: str
    registry_secret: str | None
    entrypoint: tuple[str, ...] | None
    gpu: GpuRequest
    gpu_wait: float
    cpu: CpuCores | None
    memory: MemoryMib | None
    env: Mapping[str, str | Text]
    secrets: tuple[SecretPlan, ...]
    volumes: tuple[VolumePlan, ...]
    timeout: int
    region: tuple[str, ...]
    cloud: str | None
    workdir: str | None
    tags: Mapping[str, str]
    setup: SetupPlan = NO_SETUP
    force_build: bool = False
    oidc: bool = False
    keep_on_failure: int = 0
    backend: Backend = "sandbox"
    disk: int | None = None
    buckets: tuple[BucketPlan, ...] = ()
    runtime: Runtime | None = None
    namespace: str | None = None
    conn_id: str | None = None
    home: Home = MODALFLOWS
