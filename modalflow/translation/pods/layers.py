"""Lays the pods of a task on each other: by KubernetesExecutor's rule, or by Kubernetes' strategic merge where that is chosen.

Flows in: the pod layers. Flows out: ``PodPieces`` for ``pods.fields``; and what it read of a strategically merged pod, with the
layer that each value came from. One choice holds for all pods of a task: that of the strongest layer that makes one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from modalflow.translation.diagnostics import Diagnostic
from modalflow.translation.gpus.resolve import PodGpu
from modalflow.translation.inputs import PodMerge
from modalflow.translation.keys import MERGES
from modalflow.translation.layers import KUBERNETES, TASK_LAYERS, Layer
from modalflow.translation.merge import Setting
from modalflow.translation.pods.form import PlainPod, keep_nulls, read_pod_form
from modalflow.translation.pods.merge import PodPieces, take_apart
from modalflow.translation.pods.strategic import MergedRoot, merge_strategically
from modalflow.translation.report import Place, Root, shown

ANNOTATION = "modalflow/merge"
"""How a pod says what ``merge`` says in ``modal`` keys."""


def is_strategic(layers: Iterable[Layer], default: PodMerge) -> bool:
    """Tell how the pods of these layers meet, weakest first: the last one that says so decides. Reports nothing."""
    return merge_rule(layers, default)[0] == "strategic"


def merge_rule(layers: Iterable[Layer], default: PodMerge) -> tuple[str, Layer | None]:
    """Return how the pods of these layers meet, and the layer that says so, ``None`` for the site's default."""
    choice: str = default
    chosen_by = None
    for layer in layers:
        content = layer.content
        said = _annotated(content) if layer.is_pod else content.get("merge") if isinstance(content, dict) else None
        if said is not None and type(said) is str and said in MERGES:
            choice, chosen_by = said, layer
    return choice, chosen_by


def _annotated(pod: Any) -> object:
    metadata = pod.get("metadata") if type(pod) is dict else getattr(pod, "metadata", None)
    if metadata is None:
        return None
    annotations = metadata.get("annotations") if type(metadata) is dict else getattr(metadata, "annotations", None)
    return annotations.get(ANNOTATION) if type(annotations) is dict else None


def merged_pod(layers: Sequence[tuple[int, Layer]], findings: list[Diagnostic]) -> tuple[PodPieces, MergedRoot] | None:
    """Return the pod that strategic merge makes of pod layers, given with their ranks; ``None`` if none can be read."""
    pods: list[tuple[PlainPod, Root, int]] = []
    for rank, layer in layers:
        plain = read_pod_form(keep_nulls(layer.content), Place(layer.root, (), findings))
        if plain is not None:
            pods.append((plain, layer.root, rank))
    if not pods:
        return None
    pod, root, rank = merge_strategically(pods, findings)
    return take_apart(pod, root, rank, findings), root


def with_sources(settings: Iterable[Setting], root: MergedRoot) -> list[Setting]:
    """Return what was read of a merged pod, with the layer, rank and path at which each value was written."""
    return [_with_source(setting, root) if setting.place.root is root else setting for setting in settings]


def _with_source(setting: Setting, root: MergedRoot) -> Setting:
    written = root.source(setting.place.path)
    places = setting.places
    if places is not None:
        places = {name: _written(place, root) for name, place in places.items()}
    return setting._replace(place=_written(setting.place, root), rank=written.rank, places=places)


def gpu_with_source(gpu: PodGpu, root: MergedRoot) -> PodGpu:
    """The same for what was read about GPUs."""
    counted = gpu.count_place
    return replace(
        gpu,
        rank=gpu.rank if counted is None or counted.root is not root else root.source(counted.path).rank,
        count_place=counted and _written(counted, root),
        label=gpu.label and _written(gpu.label, root),
        preferred_label=gpu.preferred_label and _written(gpu.preferred_label, root),
        without_gpu=gpu.without_gpu and _written(gpu.without_gpu, root),
    )


def _written(place: Place, root: MergedRoot) -> Place:
    if place.root is not root:
        return place
    written = root.source(place.path)
    return Place(written.root, written.path, place.findings)


def report_overruled_image(layers: Sequence[Layer], image: str, chosen: str, place: Place | None) -> None:
    """Tell of a pod template whose image stands above the one of ``[kubernetes_executor]``: there it is the other way round."""
    if layers[0].root is not KUBERNETES or place is None or chosen == image:
        return
    if any(layer.is_pod and layer.root is place.root and layer.root.layer not in TASK_LAYERS for layer in layers):
        Place(KUBERNETES, ("image",), place.findings).warn(
            "overruled-image",
            f"{shown(image)} gives way to {place.origin}, where KubernetesExecutor runs it",
            "keep one of them",
        )
