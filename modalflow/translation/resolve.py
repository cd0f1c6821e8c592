"""Decides what no single layer can: which GPU, which timeout, and whether the parts fit together.

Flows in: ``Merged`` settings and what the pod asks of GPUs. Flows out: a ``TaskSpec`` (``lower`` makes the plan) and the place
that each plan field came from.
"""

from __future__ import annotations

from dataclasses import replace

from modalflow.translation.control_plane import without_secrets
from modalflow.translation.diagnostics import Diagnostic, did_you_mean
from modalflow.translation.gpus.catalogue import GpuRequest
from modalflow.translation.gpus.resolve import PodGpu, resolve_gpu
from modalflow.translation.images import AUTO, NAMED
from modalflow.translation.inputs import TranslationOptions
from modalflow.translation.layers import OPTIONS, OPTIONS_RANK
from modalflow.translation.merge import Merged
from modalflow.translation.plan import MODALFLOWS, BucketPlan, Home
from modalflow.translation.quantities import SECONDS_A_DAY
from modalflow.translation.report import Place, shown
from modalflow.translation.setup_plan import NO_SETUP, SetupPlan
from modalflow.translation.spec import TaskSpec
from modalflow.translation.volumes import check_once

TIMEOUT_MARGIN = 600
"""Seconds that a sandbox outlives its task's execution_timeout: start, import of Airflow, and Airflow's own clean-up."""

_RENAMED = {
    "gpu": "gpu_candidates",
    "registry_secret": "image.registry_secret",
    "entrypoint": "image.entrypoint",
    "force_build": "image.force_build",
}
_NO_PLAN_FIELD = ("template", "execution_timeout", "merge")


def resolve(
    merged: Merged, pod: PodGpu, options: TranslationOptions, findings: list[Diagnostic], setup: SetupPlan = NO_SETUP
) -> tuple[TaskSpec, dict[str, Place]]:
    """Return the task and the origin of each plan field. Errors are in ``findings``; the task is then not to be run."""
    gpu = resolve_gpu(merged, pod, options, findings)
    timeout, timeout_place = _resolve_timeout(merged)
    check_once((merged.get("volumes") or {}).values(), merged.places, findings)
    _check_registry_secret(merged)
    places = {_RENAMED.get(key, key): place for key, place in merged.places.items() if key not in _NO_PLAN_FIELD}
    places.pop("gpu_candidates", None)
    if gpu.place is not None:
        places["gpu_candidates"] = gpu.place
    if gpu.count_place is not None:
        places["gpu_candidates.count"] = gpu.count_place
    if timeout_place is not None:
        places["timeout"] = timeout_place
    if "gpu_wait" not in places and gpu.request:
        places["gpu_wait"] = Place(OPTIONS, ("gpu_wait",), findings)
    get = merged.values.get
    gpu_wait = get("gpu_wait")
    _check_gpu_wait(merged, options, gpu.request)
    request, region = gpu.request, get("region") or ()
    if pod.regions and any(choice.regions for choice in request):
        request, region = _in_regions(request, region)
        if pod.regions_place is not None:
            places["region"] = pod.regions_place
    mounts = (get("volumes") or {}).values()
    buckets = tuple([mount for mount in mounts if isinstance(mount, BucketPlan)])
    for bucket in buckets:
        places[f"buckets.{bucket.mount_path}"] = places.pop(f"volumes.{bucket.mount_path}")
    spec = TaskSpec(
        image=get("image") or "auto",
        registry_secret=get("registry_secret"),
        entrypoint=get("entrypoint"),
        gpu=request,
        gpu_wait=options.gpu_wait if gpu_wait is None else gpu_wait,
        cpu=get("cpu"),
        memory=get("memory"),
        env=without_secrets(get("env") or {}, merged.places, options.allow_env),
        secrets=tuple((get("secrets") or {}).values()),
        volumes=tuple([mount for mount in mounts if not isinstance(mount, BucketPlan)]) if buckets else tuple(mounts),
        buckets=buckets,
        runtime=get("runtime"),
        namespace=get("namespace"),
        conn_id=get("conn_id"),
        home=_home(merged, options, places),
        timeout=timeout,
        region=region,
        cloud=get("cloud"),
        workdir=get("workdir"),
        tags=get("tags") or {},
        setup=setup,
        backend=get("backend") or "sandbox",
        disk=get("disk"),
        force_build=get("force_build") or False,
        oidc=get("oidc") or False,
        keep_on_failure=get("keep_on_failure") or 0,
    )
    return spec, places


def _in_regions(request: GpuRequest, region: tuple[str, ...]) -> tuple[GpuRequest, tuple[str, ...]]:
    """Give the task the regions of its candidates where all have the same."""
    own = {frozenset(choice.regions): choice.regions for choice in request}
    if len(own) > 1:
        return request, region
    return tuple(replace(choice, regions=()) for choice in request), request[0].regions


def _home(merged: Merged, options: TranslationOptions, places: dict[str, Place]) -> Home:
    """Return where the task runs: where its namespace is on Modal, else the place of its connection."""
    home = _of_namespace(merged, options, places)
    conn_id = merged.get("conn_id")
    if conn_id is None:
        return home
    place = places["home.conn_id"] = merged.places["conn_id"]
    if conn_id != options.modal_conn_id and conn_id not in options.connections:
        known = ", ".join(map(shown, options.connections)) or "none"
        place.error(
            "unknown-connection",
            f"{shown(conn_id)} is not among the connections that tasks may use; [modal_executor] modal_conn_ids has: {known}",
            did_you_mean(conn_id, options.connections) or "add it there",
        )
    whose = None if conn_id == options.modal_conn_id else conn_id
    if home != MODALFLOWS and home.conn_id != whose:
        theirs = "modalflow's own" if home.conn_id is None else shown(home.conn_id)
        place.error(
            "connection-conflict",
            f"[modal_executor] namespaces puts {shown(merged.get('namespace'))} where the connection is {theirs}",
            f'leave one of the two out, or add "conn_id": {shown(conn_id)} to the entry of the namespace',
        )
    return replace(home, conn_id=whose)


def _of_namespace(merged: Merged, options: TranslationOptions, places: dict[str, Place]) -> Home:
    name = merged.get("namespace")
    if name is None:
        return MODALFLOWS
    place = places["home.environment"] = places["home.app"] = merged.places["namespace"]
    home = options.namespaces.get(name)
    if home is None:
        known = ", ".join(map(shown, options.namespaces)) or "none"
        place.error(
            "unknown-namespace",
            f"[modal_executor] namespaces does not say where {shown(name)} is; known: {known}",
            did_you_mean(name, options.namespaces) or f'add {{{shown(name)}: "ENVIRONMENT/APP"}}',
        )
    return home or MODALFLOWS


def _check_gpu_wait(merged: Merged, options: TranslationOptions, gpu: GpuRequest) -> None:
    """Tell of a wait that Airflow cuts short: it takes back a task that is queued longer than it allows."""
    wait, longest = merged.get("gpu_wait"), options.longest_gpu_wait
    if gpu and wait is not None and longest is not None and wait > longest:
        merged.places["gpu_wait"].warn(
            "long-gpu-wait",
            f"{wait:g} s is more than [scheduler] task_queued_timeout ({longest:g}): Airflow takes the task back while it waits",
            f"write {longest:g} or less, or raise task_queued_timeout",
        )


def _resolve_timeout(merged: Merged) -> tuple[int, Place | None]:
    """Take the timeout of a task or template, else ``execution_timeout``, a margin and ``keep_on_failure``, else the option."""
    timeout = merged.get("timeout") or SECONDS_A_DAY
    place = merged.places.get("timeout")
    limit = merged.get("execution_timeout")
    if limit is None or merged.ranks.get("timeout", -1) > OPTIONS_RANK:
        return timeout, place
    asked_by = merged.places["execution_timeout"]
    if limit >= SECONDS_A_DAY:
        asked_by.warn(
            "timeout-capped",
            f"an execution_timeout of {limit} s is more than a sandbox lives; Modal ends it after 24h",
            "split the task, or set execution_timeout below 24h",
        )
    return min(limit + TIMEOUT_MARGIN + (merged.get("keep_on_failure") or 0), SECONDS_A_DAY), asked_by


def _check_registry_secret(merged: Merged) -> None:
    image = merged.get("image") or AUTO
    is_named = image.startswith(NAMED)
    if merged.get("registry_secret") and (is_named or image == AUTO):
        why = "an image of [modal_executor] images says its own" if is_named else "the image comes from no registry"
        merged.places["registry_secret"].notice("unused-registry-secret", f"{why}: not used")


PLAN_NAMES = _RENAMED
"""Fields of a task whose origin goes by another name."""
