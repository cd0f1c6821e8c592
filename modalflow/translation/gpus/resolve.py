"""Decides which GPU a task gets: what its ``gpu`` key, its limit and its labels say, weighed against each other.

Flows in: ``Merged`` settings and ``PodGpu``. Flows out, for ``resolve``: the candidates, and who chose the model and the number.
Stronger layers win; in one layer: the ``gpu`` key, then required labels, preferred ones, ``default_gpu``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from modalflow.translation.diagnostics import Diagnostic, Severity
from modalflow.translation.gpus.catalogue import (
    BY_NAME,
    PINNED,
    PRICES_OF,
    GpuChoice,
    GpuRequest,
    check_count,
    model_of,
    price_list,
    without_doubles,
)
from modalflow.translation.gpus.demands import Strength, Unclear, substitute
from modalflow.translation.gpus.requests import read_choice
from modalflow.translation.inputs import TranslationOptions
from modalflow.translation.layers import OPTIONS
from modalflow.translation.merge import Merged
from modalflow.translation.report import Place, shown


@dataclass(frozen=True, kw_only=True, slots=True)
class PodGpu:
    """What pods say about GPUs.

    ``count`` is the limit (``None``: no limit), ``rank`` its layer; ``slice`` are the whole GPUs that the limit's own name comes
    to (``nvidia.com/mig-1g.5gb``). ``models`` are catalogue names that every required label agrees on, best first; empty when
    none says anything; ``strength`` tells whether they were named or merely bounded. ``label`` is where. ``preferred`` are what
    preferences rank first. ``claim`` is what a device claim stands for, with its own numbers. ``without_gpu``: a label wants a
    machine without one. ``refused``: hardware was named that Modal lacks, which has been reported. ``unclear`` are labels that
    may choose a GPU in words that nobody explained. ``pinned``: an H100 may not become an H200. ``runtime`` is
    where NVIDIA's runtime is chosen, which gives some clusters' pods the GPUs of a node without a limit. ``regions`` are those of
    each model, where alternatives pair them (``()``: anywhere), ``regions_place`` where, ``regions_rank`` their layer.
    """

    count: int | None = None
    count_place: Place | None = None
    rank: int = -1
    models: tuple[str, ...] = ()
    strength: Strength = Strength.NONE
    label: Place | None = None
    preferred: tuple[str, ...] = ()
    preferred_label: Place | None = None
    slice: tuple[str, ...] = ()
    claim: GpuRequest = ()
    without_gpu: Place | None = None
    unclear: tuple[Unclear, ...] = ()
    pinned: bool = False
    runtime: Place | None = None
    refused: bool = False
    regions: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    regions_place: Place | None = None
    regions_rank: int = -1


NO_GPU = PodGpu()


@dataclass(frozen=True, kw_only=True, slots=True)
class ChosenGpu:
    """The candidates, where the model was chosen, and where their number was, if elsewhere."""

    request: GpuRequest = ()
    place: Place | None = None
    count_place: Place | None = None


OVERRULED_BY = {
    "gpu": frozenset({"gpu-not-on-modal", "unknown-gpu", "no-gpu-fits", "gpu-conflict", "unknown-claim"}),
    "region": frozenset({"unknown-region", "region-conflict", "region-excluded"}),
}
"""Errors of a pod about which GPU it wants and where, by the key that settles them in a stronger layer."""
_OF_THE_KEY = frozenset({"unknown-gpu", "bad-gpu", "bad-gpu-count"})
"""Errors of a ``gpu`` key, which would have named a model."""


def overruled(finding: Diagnostic, by: Place, key: str, codes: frozenset[str]) -> Diagnostic:
    """Return the warning that an error of a pod is, where ``key`` of a stronger layer says what the task gets."""
    if finding.severity is not Severity.ERROR or finding.code not in codes:
        return finding
    message = f"overruled by {by.origin}: {finding.message}"
    code = "overruled-gpu" if key == "gpu" else "overruled-region"
    return replace(finding, code=code, severity=Severity.WARNING, message=message, hint="")


def resolve_gpu(merged: Merged, pod: PodGpu, options: TranslationOptions, findings: list[Diagnostic]) -> ChosenGpu:
    """Return the GPU of a task. Errors are in ``findings``."""
    chosen = _resolve(merged, pod, options, findings)
    if not pod.regions or merged.ranks.get("region", -1) > pod.regions_rank:
        return chosen
    request = tuple(replace(choice, regions=pod.regions.get(_unpinned(choice.name), ())) for choice in chosen.request)
    return replace(chosen, request=request)


def _unpinned(name: str) -> str:
    return "H100" if name == PINNED else model_of(name).name


def _resolve(merged: Merged, pod: PodGpu, options: TranslationOptions, findings: list[Diagnostic]) -> ChosenGpu:
    native: GpuRequest | None = merged.get("gpu")
    native_place = merged.places.get("gpu")
    limit = pod.count_place
    if pod.count is None or limit is None or (native is not None and merged.ranks["gpu"] > pod.rank):
        _report_overruled(native, native_place, pod)
        return ChosenGpu(request=_substituted(native or (), native_place, options), place=native_place)
    if pod.count == 0:
        _report_unused_label(pod)
        return ChosenGpu(place=limit)
    own = _of_pod(pod, limit)
    if own is not None:
        return own
    if native and native_place is not None:
        return _from_native(native, native_place, pod, options, limit)
    return _from_preference(pod, options, findings, limit)


def _of_pod(pod: PodGpu, limit: Place) -> ChosenGpu | None:
    """Return what the pod alone decides: a claim, a slice, or models that required labels name."""
    if pod.without_gpu is not None:
        message = f"wants a machine without a GPU, but {limit.origin} asks for one"
        pod.without_gpu.error("gpu-conflict", message, "keep one of them")
        return ChosenGpu()
    if pod.claim:
        return ChosenGpu(request=pod.claim, place=limit)
    if pod.slice:
        size = model_of(pod.slice[0]).memory
        alike = [name for name in pod.models if pod.strength is Strength.NAMES and model_of(name).memory == size]
        if pod.label is not None and pod.strength is Strength.NAMES and not alike and not set(pod.slice) & set(pod.models):
            message = f"is not what the limit's slice comes to: {' or '.join(pod.slice)} is used"
            pod.label.warn("gpu-substituted", message, 'write {"modal": {"gpu": MODEL}} for another')
        return _chosen(pod, alike or pod.slice, limit, limit)
    if pod.strength >= Strength.NAMES:
        return _chosen(pod, pod.models, pod.label or limit, limit)
    return None


def _from_native(native: GpuRequest, place: Place, pod: PodGpu, options: TranslationOptions, limit: Place) -> ChosenGpu:
    """Take the models of a weaker layer's ``gpu``, as far as the labels allow, and rank them by what is preferred."""
    if pod.unclear and _report_unclear(pod, options, tuple(model_of(choice.name).name for choice in native)):
        return ChosenGpu()
    kept = tuple(choice for choice in _substituted(native, place, options) if _allowed(choice.name, pod))
    if not kept and pod.label is not None:
        pod.label.error("gpu-conflict", f"does not allow {native[0].name} of {place.origin}", "keep one of them")
        return ChosenGpu()
    wanted = {name: index for index, name in enumerate(pod.preferred)}
    names = sorted((choice.name for choice in kept), key=lambda name: wanted.get(model_of(name).name, len(wanted)))
    return _chosen(pod, names, place, limit)


def _from_preference(pod: PodGpu, options: TranslationOptions, findings: list[Diagnostic], limit: Place) -> ChosenGpu:
    """Take preferred models, with ``default_gpu`` after them; else those that a number bounds; else ``default_gpu``."""
    if pod.unclear and _report_unclear(pod, options):
        return ChosenGpu()
    count = pod.count or 0
    preferred = tuple(name for name in pod.preferred if _allowed(name, pod) and model_of(name).most >= count)
    if preferred:
        default = _default_name(options, findings) if options.default_gpu is not None else None
        names = (*preferred, *((default,) if default is not None else ()))
        fits = [name for name in names if _allowed(name, pod) and model_of(name).most >= count]
        return _chosen(pod, fits, pod.preferred_label or limit, limit)
    if pod.strength is Strength.BOUNDS:
        return _chosen(pod, pod.models, pod.label or limit, limit, any_number=True)
    return _default_gpu(pod, options, findings, limit)


def _report_unclear(pod: PodGpu, options: TranslationOptions, names: tuple[str, ...] = ()) -> bool:
    """Refuse to take ``names``, else ``default_gpu``, where a label of the pod may have chosen another GPU."""
    if not names and (options.default_gpu or "").upper() in BY_NAME:
        names = (model_of(options.default_gpu or "").name,)
    found = next((label for label in pod.unclear if not names or not set(names) <= set(label.models)), None)
    if found is None or pod.refused:
        return found is not None
    other = f"it may not be {' or '.join(names)}" if names else "nothing says which"
    model = f'"{found.models[0]}"' if found.models else "MODEL"
    hint = (
        f'add {{{shown(found.label)}: {{"gpu": {model}}}}} to [modal_executor] labels, or write {{"modal": {{"gpu": {model}}}}}'
    )
    found.place.error("unclear-gpu-label", f"{shown(found.label)} seems to choose a GPU, and {other}", hint)
    return True


def _allowed(name: str, pod: PodGpu) -> bool:
    return not pod.strength or model_of(name).name in pod.models


def _substituted(request: GpuRequest, place: Place | None, options: TranslationOptions) -> GpuRequest:
    """Report every candidate that stands for other hardware, and return the request if they may."""
    stand_ins: dict[str, list[str]] = {}
    for choice in request:
        if choice.stands_for:
            stand_ins.setdefault(choice.stands_for, []).append(choice.name)
    for name, models in stand_ins.items():
        if place is not None:
            substitute(shown(name), tuple(models), "", place, options.gpu_substitution)
    return request


def _chosen(pod: PodGpu, names: Iterable[str], place: Place, limit: Place, *, any_number: bool = False) -> ChosenGpu:
    """Give each model the count of the pod's limit; report those that do not come in that number.

    ``any_number``: nobody named the models, so those that do not come in it are passed over without a word.
    """
    count = pod.count or 0
    offered = list(names)
    if any_number:
        offered = [name for name in offered if model_of(name).most >= count] or offered
    first = model_of(offered[0])
    if all(model_of(name).most < count for name in offered):
        check_count(count, first, limit, name=offered[0], got=str(count), written='{"modal": {"gpu": "{}"}}')
        return ChosenGpu()
    for name in offered:
        if (model := model_of(name)).most < count:
            limit.warn("dropped-fallback", f"a sandbox has at most {model.most} {name} GPUs: it cannot be one of {count}")
    if pod.pinned:
        offered = [PINNED if name.upper() in {"H100", "H100-80GB"} else name for name in offered]
    request = without_doubles(GpuChoice(name=name, count=count) for name in offered if model_of(name).most >= count)
    return ChosenGpu(request=request, place=place, count_place=limit if place is not limit else None)


def _default_name(options: TranslationOptions, findings: list[Diagnostic]) -> str | None:
    """Return the checked ``default_gpu``; what is wrong with it is reported."""
    place = Place(OPTIONS, ("default_gpu",), findings)
    text = options.default_gpu or ""
    choice = read_choice(text, place)
    if choice is None:
        return None
    if choice.stands_for:
        substitute(shown(choice.stands_for), (choice.name,), "", place, "never")
        return None
    if choice.count != 1 or ":" in text:
        place.error("bad-gpu", f'expected a model without a count, got "{text}"', f'write "{choice.name}"')
        return None
    return choice.name


def _default_gpu(pod: PodGpu, options: TranslationOptions, findings: list[Diagnostic], limit: Place) -> ChosenGpu:
    place = Place(OPTIONS, ("default_gpu",), findings)
    if options.default_gpu is None:
        if not pod.refused and not any(found.code in _OF_THE_KEY for found in findings):
            limit.error(
                "gpu-without-model",
                "no GPU model is named, and [modal_executor] default_gpu is not set",
                f'write {{"modal": {{"gpu": MODEL}}}}, a node label, or default_gpu; prices ({PRICES_OF}): {price_list()}',
            )
        return ChosenGpu()
    name = _default_name(options, findings)
    if name is None:
        return ChosenGpu()
    if not _allowed(name, pod) and pod.label is not None:
        hint = 'write {"modal": {"gpu": MODEL}}'
        pod.label.error("gpu-conflict", f"does not allow {name} of {place.origin}, and no other GPU is named", hint)
        return ChosenGpu()
    return _chosen(pod, (name,), place, limit)


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
    if pod.label is not None and native and not {model_of(c.name).name for c in native} & set(pod.models):
        pod.label.warn("overruled-gpu", f"overruled by {native_place.origin}, which asks for {native[0].text}")


def _report_unused_label(pod: PodGpu) -> None:
    if pod.refused:
        return
    if pod.label is not None and pod.strength > Strength.EXCLUDES:
        pod.label.warn(
            "gpu-label-alone",
            "names a GPU, but no nvidia.com/gpu limit asks for one: the task runs without",
            'add resources.limits["nvidia.com/gpu"], or remove the label',
        )
    elif pod.runtime is not None:
        pod.runtime.warn(
            "gpu-label-alone",
            "chooses NVIDIA's runtime, but no nvidia.com/gpu limit asks for a GPU: the task runs without",
            'add resources.limits["nvidia.com/gpu"], or remove it',
        )


substituted = _substituted
"""For requests that no pod has a say in."""
