"""Decides what no single layer can: which GPU, which timeout, and whether the parts fit together.

Flows in: ``Merged`` settings and what the pod asks of GPUs. Flows out: a ``TaskSpec`` (``lower`` makes the plan) and the place
that each plan field came from.
"""

from __future__ import annotations

from dataclasses import dataclass

from modalflow.translation.diagnostics import Diagnostic
from modalflow.translation.gpus import BY_NAME, PRICES_OF, GpuChoice, GpuRequest, check_count, price_list, read_choice
from modalflow.translation.inputs import TranslationOptions
from modalflow.translation.layers import OPTIONS, OPTIONS_RANK
from modalflow.translation.merge import Merged
from modalflow.translation.quantities import SECONDS_A_DAY
from modalflow.translation.report import Place
from modalflow.translation.spec import TaskSpec

TIMEOUT_MARGIN = 600
"""Seconds that a sandbox outlives its task's execution_timeout: start, import of Airflow, and Airflow's own clean-up."""

_RENAMED = {"gpu": "gpu_candidates", "registry_secret": "image.registry_secret", "entrypoint": "image.entrypoint"}
_NO_PLAN_FIELD = ("template", "backend", "execution_timeout")


@dataclass(frozen=True, kw_only=True, slots=True)
class PodGpu:
    """What pods say about GPUs.

    ``count`` is the limit of ``nvidia.com/gpu`` (``None``: no limit), ``rank`` its layer. ``models`` are catalogue names that
    every label agrees on, best first; empty when no label names a model. ``label`` is where the model was named.
    ``refused``: a label named hardware that Modal lacks, which has been reported.
    """

    count: int | None = None
    count_place: Place | None = None
    rank: int = -1
    models: tuple[str, ...] = ()
    label: Place | None = None
    refused: bool = False


def resolve(
    merged: Merged, pod: PodGpu, options: TranslationOptions, findings: list[Diagnostic]
) -> tuple[TaskSpec, dict[str, Place]]:
    """Return the task and the origin of each plan field. Errors are in ``findings``; the task is then not to be run."""
    gpu, gpu_place = _resolve_gpu(merged, pod, options, findings)
    timeout, timeout_place = _resolve_timeout(merged)
    _check_volumes(merged)
    _check_registry_secret(merged)
    places = {_RENAMED.get(key, key): place for key, place in merged.places.items() if key not in _NO_PLAN_FIELD}
    places.pop("gpu_candidates", None)
    if gpu_place is not None:
        places["gpu_candidates"] = gpu_place
    if timeout_place is not None:
        places["timeout"] = timeout_place
    if "gpu_wait" not in places and gpu:
        places["gpu_wait"] = Place(OPTIONS, ("gpu_wait",), findings)
    gpu_wait = merged.get("gpu_wait")
    spec = TaskSpec(
        image=merged.get("image") or "auto",
        registry_secret=merged.get("registry_secret"),
        entrypoint=merged.get("entrypoint"),
        gpu=gpu,
        gpu_wait=options.gpu_wait if gpu_wait is None else gpu_wait,
        cpu=merged.get("cpu"),
        memory=merged.get("memory"),
        env=merged.get("env") or {},
        secrets=tuple((merged.get("secrets") or {}).values()),
        volumes=tuple((merged.get("volumes") or {}).values()),
        timeout=timeout,
        region=merged.get("region") or (),
        cloud=merged.get("cloud"),
        workdir=merged.get("workdir"),
        tags=merged.get("tags") or {},
    )
    return spec, places


def _resolve_timeout(merged: Merged) -> tuple[int, Place | None]:
    """Take the timeout of a task or template, else ``execution_timeout`` and a margin, else the option."""
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
    return min(limit + TIMEOUT_MARGIN, SECONDS_A_DAY), asked_by


def _resolve_gpu(
    merged: Merged, pod: PodGpu, options: TranslationOptions, findings: list[Diagnostic]
) -> tuple[GpuRequest, Place | None]:
    native: GpuRequest | None = merged.get("gpu")
    native_place = merged.places.get("gpu")
    if pod.count is None or pod.count_place is None or (native is not None and merged.ranks["gpu"] > pod.rank):
        _report_overruled(native, native_place, pod)
        return native or (), native_place
    if pod.count == 0:
        _report_unused_label(pod)
        return (), pod.count_place
    if pod.models:
        return _choose(pod, pod.models, pod.count_place), pod.count_place
    if native:
        names = tuple(choice.name for choice in native)
        return _choose(pod, names, pod.count_place), pod.count_place
    return _default_gpu(pod, options, findings)


def _choose(pod: PodGpu, names: tuple[str, ...], place: Place) -> GpuRequest:
    """Give each model the count of the pod's limit; report when the first of them does not come in that number."""
    count = pod.count or 0
    if (first := BY_NAME[names[0].upper()]).most < count:
        check_count(count, first, place, name=names[0], got=str(count), written='{"modal": {"gpu": "{}"}}')
        return ()
    for name in names:
        if (model := BY_NAME[name.upper()]).most < count:
            place.warn("dropped-fallback", f"a sandbox has at most {model.most} {name} GPUs: {name} is no fallback for {count}")
    return tuple(GpuChoice(name=name, count=count) for name in names if BY_NAME[name.upper()].most >= count)


def _default_gpu(pod: PodGpu, options: TranslationOptions, findings: list[Diagnostic]) -> tuple[GpuRequest, Place | None]:
    place = Place(OPTIONS, ("default_gpu",), findings)
    if options.default_gpu is None:
        if pod.count_place is not None and not pod.refused:
            pod.count_place.error(
                "gpu-without-model",
                "no GPU model is named, and [modal_executor] default_gpu is not set",
                f'write {{"modal": {{"gpu": MODEL}}}}, a node label, or default_gpu; prices ({PRICES_OF}): {price_list()}',
            )
        return (), None
    choice = read_choice(options.default_gpu, place)
    if choice is None:
        return (), None
    if choice.count != 1 or ":" in options.default_gpu:
        place.error("bad-gpu", f'expected a model without a count, got "{options.default_gpu}"', f'write "{choice.name}"')
        return (), None
    return _choose(pod, (choice.name,), pod.count_place or place), place


def _report_overruled(native: GpuRequest | None, native_place: Place | None, pod: PodGpu) -> None:
    """Tell of what a pod says about GPUs when it does not decide."""
    if native is None or native_place is None:
        _report_unused_label(pod)
        return
    if pod.count is not None and pod.count_place is not None and native and {c.count for c in native} != {pod.count}:
        pod.count_place.warn(
            "overruled-gpu",
            f"{pod.count} GPUs are overruled by {native_place.origin}, which asks for {native[0].text}",
            f'write "{native[0].name}:{pod.count}" there to keep them',
        )
    elif pod.count is not None and pod.count_place is not None and not native:
        pod.count_place.warn("overruled-gpu", f"overruled by {native_place.origin}, which asks for no GPU")
    if pod.label is not None and native and not {BY_NAME[c.name.upper()].name for c in native} & set(pod.models):
        pod.label.warn("overruled-gpu", f"overruled by {native_place.origin}, which asks for {native[0].text}")


def _report_unused_label(pod: PodGpu) -> None:
    if pod.label is not None:
        pod.label.warn(
            "gpu-label-alone",
            "names a GPU, but no nvidia.com/gpu limit asks for one: the task runs without",
            'add resources.limits["nvidia.com/gpu"], or remove the label',
        )


def _check_volumes(merged: Merged) -> None:
    """Refuse one Volume at two paths: modal 1.6.4 does, later and less clearly."""
    first: dict[str, str] = {}
    for path, volume in (merged.get("volumes") or {}).items():
        if volume.name in first:
            merged.places[f"volumes.{path}"].error(
                "volume-twice",
                f'the Volume "{volume.name}" is mounted at "{first[volume.name]}" already; Modal mounts one at one path only',
            )
        first.setdefault(volume.name, path)


def _check_registry_secret(merged: Merged) -> None:
    if merged.get("registry_secret") and merged.get("image") in {None, "auto"}:
        merged.places["registry_secret"].notice("unused-registry-secret", "the image comes from no registry: not used")
