"""The launch plan of a task that is a call of a deployed Function: plain data, as ``plan.SandboxPlan`` is for a sandbox.

Flows out of ``functions.lower``; ``modal_gateway.function_parameters`` turns it into the keyword arguments of ``with_options``.
What ``with_options`` gets decides which pool of containers serves the call, so it is rounded to few classes
(``functions.pools``); what is one task's own (``env``, ``timeout``, ``tags``) travels in the call.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from modalflow.translation.plan import (
    Bucket,
    BucketPlan,
    CpuCores,
    ImagePlan,
    MemoryMib,
    SandboxPlan,
    SecretPlan,
    VolumePlan,
    region_of,
)
from modalflow.translation.setup_plan import NO_SETUP, SetupPlan

DISK = 512 * 1024
"""MiB of disk of a container that asks for none (modal.com/docs/guide/resources, 2026-09)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FunctionTarget:
    """A deployed Function that runs tasks, as ``[modal_executor] functions`` describes it.

    ``function`` is the name of a Function, or ``Class.method``. ``image`` is what it was deployed with: ``auto`` or a reference,
    as tasks write it. ``disk`` is its ``ephemeral_disk`` in MiB. It has no GPU, Secrets, Volumes, region or cloud of its own:
    ``with_options`` can add such things to a call and cannot take them away (modal 1.6.4).
    """

    app: str
    function: str
    image: str = "auto"
    disk: int = DISK


@dataclass(frozen=True, kw_only=True, slots=True)
class FunctionPlan:
    """One task as a call of ``function`` in ``app``.

    The arguments of ``with_options``: one of ``gpu_candidates`` at a time (Modal GPU strings, in order of preference; the call is
    made anew with the next when ``gpu_wait`` seconds, shared by all, are over), ``candidate_regions`` (of each, if they differ),
    ``cpu``, ``memory``, ``secrets``, ``volumes``,
    ``buckets``, ``region``, ``cloud`` and ``longest``, the seconds after which Modal ends a call of this pool.

    The call's own: ``env``, ``timeout`` (seconds after which the Runner ends the task; at most ``longest``), ``tags``, and
    ``own_volumes``: modalflow's mounts that differ from task to task (its log's folder), into which the Runner writes by the
    Volume's API, since as mounts they would make a pool for each task. ``setup`` is in ``env`` too; on a Function it is variables
    only. ``image`` is what the Function was deployed with.
    """

    app: str
    function: str
    image: ImagePlan
    gpu_candidates: tuple[str, ...] = ()
    candidate_regions: tuple[tuple[str, ...], ...] = ()
    gpu_wait: float = 480.0
    cpu: CpuCores | None = None
    memory: MemoryMib | None = None
    secrets: tuple[SecretPlan, ...] = ()
    volumes: tuple[VolumePlan, ...] = ()
    buckets: tuple[BucketPlan, ...] = ()
    region: tuple[str, ...] = ()
    cloud: str | None = None
    longest: int = 86_400
    env: Mapping[str, str] = field(default_factory=dict)
    timeout: int = 86_400
    tags: Mapping[str, str] = field(default_factory=dict)
    own_volumes: tuple[VolumePlan, ...] = ()
    setup: SetupPlan = NO_SETUP

    def region_of(self, gpu: str | None) -> tuple[str, ...]:
        """Return where a call on the candidate ``gpu`` may run (``None``: on CPU); empty is anywhere."""
        if not self.candidate_regions:
            return self.region
        return region_of(gpu, self.gpu_candidates, self.candidate_regions, self.region)

    @property
    def backend(self) -> Literal["function"]:
        """The name of this target."""
        return "function"

    @property
    def handover(self) -> Literal["payload"]:
        """How the workload, which holds a token, reaches the Runner: as an argument of the call."""
        return "payload"

    @property
    def pool_keys(self) -> tuple[str, ...]:
        """The ``pool_key`` of each candidate, in order; a task without a GPU has one."""
        return tuple(self.pool_key(gpu) for gpu in self.gpu_candidates or (None,))

    def pool_key(self, gpu: str | None = None) -> str:
        """Name the containers that serve a call on ``gpu`` (``None``: on CPU): calls with equal keys share warm containers.

        Function and options in a fixed order and spelling, without what is left at the Function's own: readable, and no secret.
        """
        options = {
            "gpu": gpu,
            "cpu": self.cpu,
            "memory": self.memory,
            "timeout": self.longest,
            "region": list(self.region_of(gpu)) or None,
            "cloud": self.cloud,
            "secrets": [secret.name for secret in self.secrets] or None,
            "volumes": {volume.mount_path: _mount(volume) for volume in self.volumes} or None,
            "buckets": {mounted.mount_path: _bucket(mounted.bucket) for mounted in self.buckets} or None,
        }
        said = {name: value for name, value in options.items() if value is not None}
        return f"{self.app}/{self.function} {json.dumps(said, separators=(',', ':'))}"


def _mount(volume: VolumePlan) -> str:
    folder = f"/{volume.sub_path}" if volume.sub_path else ""
    return f"{volume.name}{folder}{':ro' if volume.read_only else ''}"


def _bucket(bucket: Bucket) -> str:
    opened = bucket.role_arn or (bucket.secret.name if bucket.secret is not None else "")
    flags = ((":ro", bucket.read_only), (":pays", bucket.requester_pays), (":path", bucket.path_style))
    told = "".join(flag for flag, is_set in flags if is_set)
    return f"{bucket.endpoint or 's3'}/{bucket.name}/{bucket.prefix or ''}{f' by {opened}' if opened else ''}{told}"


Plan = SandboxPlan | FunctionPlan
"""What a task becomes."""


def candidates_in_words(plan: Plan) -> list[str]:
    """Return the candidates, with their regions if they have their own: ``L4 in us-east``."""
    if not plan.candidate_regions:
        return list(plan.gpu_candidates)
    return [f"{gpu} in {', '.join(plan.region_of(gpu)) or 'any region'}" for gpu in plan.gpu_candidates]
