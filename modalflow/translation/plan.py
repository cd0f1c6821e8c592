"""The launch plan: plain data that says everything about one sandbox except its secret workload.

Flows out of ``lower``; ``modal_gateway`` turns it into the keyword arguments of ``modal.Sandbox.create``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from modalflow.translation.setup_plan import NO_SETUP, SetupPlan

CpuCores = float | tuple[float, float]
"""Physical cores (Modal's unit; one is two vCPUs), or (request, limit)."""
MemoryMib = int | tuple[int, int]
"""MiB, or (request, limit). Always int: the client sends a float as 0."""


Runtime = Literal["gvisor", "vm"]
"""``modal.Sandbox.create(runtime=)`` of modal 1.6.4."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Home:
    """A Modal environment and an App in it; ``None`` is modalflow's own (``[modal_executor] environment``, ``app_name``).

    ``conn_id`` names the Airflow connection whose credentials lead there; ``None`` is the deployment's own.
    """

    conn_id: str | None = None
    environment: str | None = None
    app: str | None = None


MODALFLOWS = Home()


@dataclass(frozen=True, kw_only=True, slots=True)
class ImagePlan:
    """Which image a task runs in.

    ``reference`` is a registry reference (``apache/airflow:3.3.2-python3.11``, ``repo@sha256:…``); or ``dockerfile`` is a path on
    this host, with ``context`` the folder of its ``COPY``; with neither it stands on Modal's ``debian_slim``. On top come
    ``apt_packages``, then pip ``packages`` (the scheduler's Airflow), then ``requirements`` (PEP 508) with ``pip_options`` (words
    of ``uv pip install`` as a shell reads them) and the variables of the Modal Secrets ``build_secrets``. ``python_version`` is
    added to a base that is not ``debian_slim``. ``registry_secret`` names a Modal Secret. ``entrypoint`` replaces the image's
    ENTRYPOINT (a pod's ``command``; ``()`` clears it); ``None`` keeps whatever the image has. ``force_build``: each launch pulls
    and builds it anew. ``name`` is what users call a named one (``auto:train``), and no part of what it is.
    """

    reference: str | None
    python_version: str = ""
    packages: tuple[str, ...] = ()
    dockerfile: str | None = None
    context: str | None = None
    apt_packages: tuple[str, ...] = ()
    requirements: tuple[str, ...] = ()
    pip_options: tuple[str, ...] = ()
    build_secrets: tuple[str, ...] = ()
    registry_secret: str | None = None
    entrypoint: tuple[str, ...] | None = None
    force_build: bool = False
    name: str = field(default="", compare=False)

    @property
    def has_base_of_its_own(self) -> bool:
        """Whether it stands on something else than Modal's ``debian_slim``, which may have an ENTRYPOINT."""
        return self.reference is not None or self.dockerfile is not None

    @property
    def in_words(self) -> str:
        """What to call it in a sentence."""
        return self.name or self.reference or self.dockerfile or "of this Airflow"


@dataclass(frozen=True, kw_only=True, slots=True)
class SecretPlan:
    """A named Modal Secret, and the keys it must have. One that is ``optional`` need not exist."""

    name: str
    required_keys: tuple[str, ...] = ()
    optional: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class VolumePlan:
    """A named Modal Volume at one mount path. ``version`` 2 for our own log Volume, ``None`` for "as it exists".

    One that ``is_ours`` is in modalflow's own environment, whatever the task's is; of the task's connection, if it has one.
    ``code_of`` names the DAG bundle whose code it holds: the ``sub_path`` of that is found when the task is launched.
    """

    mount_path: str
    name: str
    read_only: bool = False
    sub_path: str | None = None
    version: Literal[1, 2] | None = None
    create_if_missing: bool = False
    is_ours: bool = False
    code_of: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Bucket:
    """A bucket of S3, R2, Cloud Storage or another S3-compatible service (``endpoint``; ``None`` is S3), or a folder of it.

    ``prefix`` ends in a slash. It is opened with the keys of ``secret``, or as the IAM role ``role_arn`` by Modal's identity
    token, or, with neither, as what everybody may read. ``requester_pays``: the owner of the keys pays for requests.
    ``path_style``: the bucket's name is in the path of its address, not in the host.
    """

    name: str
    prefix: str | None = None
    endpoint: str | None = None
    secret: SecretPlan | None = None
    role_arn: str | None = None
    read_only: bool = False
    requester_pays: bool = False
    path_style: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class BucketPlan:
    """A bucket at one mount path."""

    mount_path: str
    bucket: Bucket


def region_of(
    gpu: str | None, candidates: tuple[str, ...], regions: tuple[tuple[str, ...], ...], region: tuple[str, ...]
) -> tuple[str, ...]:
    """Return the regions of one of ``candidates``: its own, else ``region``."""
    return region if gpu is None else dict(zip(candidates, regions, strict=True)).get(gpu) or region


@dataclass(frozen=True, kw_only=True, slots=True)
class SandboxPlan:
    """One task as Modal Sandbox parameters.

    ``gpu_candidates`` are Modal GPU strings in order of preference (``("H100:2", "A100-80GB:2")``), empty for a CPU
    task; ``gpu_wait`` is the seconds that all candidates together may wait for capacity. ``candidate_regions`` are the regions of
    each candidate, in the same order, if they differ; an empty one stands for ``region``. ``timeout`` is in seconds. ``oidc``:
    Modal gives the sandbox a signed token of its identity (``MODAL_IDENTITY_TOKEN``). ``home`` is where the sandbox and what it
    names live, by the ``namespace`` (``[modal_executor] namespaces``) and ``conn_id`` of the task. ``keep_on_failure``: seconds
    that it lives on after its task failed; a tag and a variable say so (``keeping``). ``setup`` is what the sandbox does before
    Airflow starts; ``env`` carries it.
    """

    image: ImagePlan
    gpu_candidates: tuple[str, ...] = ()
    candidate_regions: tuple[tuple[str, ...], ...] = ()
    gpu_wait: float = 480.0
    cpu: CpuCores | None = None
    memory: MemoryMib | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    secrets: tuple[SecretPlan, ...] = ()
    volumes: tuple[VolumePlan, ...] = ()
    buckets: tuple[BucketPlan, ...] = ()
    timeout: int = 86_400
    region: tuple[str, ...] = ()
    cloud: str | None = None
    workdir: str | None = None
    oidc: bool = False
    keep_on_failure: int = 0
    runtime: Runtime | None = None
    namespace: str | None = None
    home: Home = MODALFLOWS
    tags: Mapping[str, str] = field(default_factory=dict)
    setup: SetupPlan = NO_SETUP

    def region_of(self, gpu: str | None) -> tuple[str, ...]:
        """Return where the sandbox may run on the candidate ``gpu`` (``None``: on CPU); empty is anywhere."""
        if not self.candidate_regions:
            return self.region
        return region_of(gpu, self.gpu_candidates, self.candidate_regions, self.region)

    @property
    def backend(self) -> Literal["sandbox-v1", "sandbox-v2"]:
        """Modal runs every GPU sandbox on V1 (create blocks until scheduled) and the others on V2."""
        return "sandbox-v1" if self.gpu_candidates else "sandbox-v2"

    @property
    def handover(self) -> Literal["secret", "stdin"]:
        """How the workload, which holds a token, reaches the sandbox.

        ``secret``: inline in the create call, where no other process of the sandbox keeps the environment that
        carried it: a V2 sandbox whose ENTRYPOINT is known to be empty. ``stdin``: everywhere else. A kept ENTRYPOINT
        (dumb-init, a shell) stays in memory as a parent process whose ``/proc/<pid>/environ`` the task could read.
        """
        starts_first = not self.image.has_base_of_its_own or self.image.entrypoint == ()
        if not self.image.has_base_of_its_own and self.image.entrypoint:
            starts_first = False
        return "secret" if self.backend == "sandbox-v2" and starts_first else "stdin"
