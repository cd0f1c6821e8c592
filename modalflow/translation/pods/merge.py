"""Merges pods as KubernetesExecutor does, keeping where each piece came from and saying where that rule surprises.

The rule is ``PodGenerator.reconcile_pods`` (cncf-kubernetes 10.25.0, the oracle of our tests): containers meet by position, init
containers by name; env, envFrom, ports, mounts and volumes are appended; labels and annotations merge by key; every other field
is taken whole from the override, unless its value there is falsy. Flows out: ``PodPieces``, read by ``pods.fields``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from modalflow.translation.diagnostics import Diagnostic, Severity
from modalflow.translation.pods.form import PlainPod
from modalflow.translation.report import PathKey, Place, Root, kind_of, shown

CONTAINER_LISTS = ("env", "envFrom", "volumeMounts", "ports", "volumeDevices")
"""Lists of a container to which an override appends."""
REPLACED = frozenset({"command", "args", "imagePullSecrets", "hostAliases", "resourceClaims"})
"""Lists with a meaning on Modal to which nothing is appended."""
PLAIN_MAPS = ("nodeSelector", "overhead")
"""Fields that are plain maps in the client, so that an empty one counts as unset; an empty object does not."""


class Piece(NamedTuple):
    """One value of a pod, with the layer it came from and its path there."""

    value: Any
    root: Root
    rank: int
    path: tuple[PathKey, ...]

    def part(self, value: Any, *keys: PathKey) -> Piece:
        """Return the piece of a value inside this one."""
        return Piece(value, self.root, self.rank, self.path + keys)

    def place(self, findings: list[Diagnostic]) -> Place:
        """Return the address of this piece."""
        return Place(self.root, self.path, findings)


Fields = dict[str, Piece]


@dataclass(kw_only=True, slots=True)
class ContainerPieces:
    """One container: its single fields, and its lists that overrides append to. ``whole`` stands for the container itself."""

    whole: Piece
    fields: Fields
    lists: dict[str, list[Piece]] = field(default_factory=dict)


@dataclass(kw_only=True, slots=True)
class PodPieces:
    """A pod taken apart at the grain at which KubernetesExecutor merges."""

    top: Fields = field(default_factory=dict)
    metadata: Fields = field(default_factory=dict)
    labels: Fields = field(default_factory=dict)
    annotations: Fields = field(default_factory=dict)
    spec: Fields = field(default_factory=dict)
    containers: list[ContainerPieces] = field(default_factory=list)
    init_containers: list[ContainerPieces] = field(default_factory=list)
    volumes: list[Piece] = field(default_factory=list)


def take_apart(pod: PlainPod, root: Root, rank: int, findings: list[Diagnostic]) -> PodPieces:
    """Return the pieces of one pod. Parts of the wrong kind are reported and left out."""
    apart = _Apart(root, rank, findings)
    pieces = PodPieces()
    for key, value in pod.items():
        if key == "metadata":
            for name, part in apart.mapping(value, (key,)):
                if name in {"labels", "annotations"}:
                    target = pieces.labels if name == "labels" else pieces.annotations
                    target.update(apart.fields(part, (key, name)))
                else:
                    pieces.metadata[name] = Piece(part, root, rank, (key, name))
        elif key == "spec":
            for name, part in apart.mapping(value, (key,)):
                path = (key, name)
                if name == "containers":
                    pieces.containers = apart.containers(part, path)
                elif name == "initContainers":
                    pieces.init_containers = apart.containers(part, path)
                elif name == "volumes":
                    pieces.volumes = apart.items(part, path)
                else:
                    pieces.spec[name] = Piece(part, root, rank, path)
        else:
            pieces.top[key] = Piece(value, root, rank, (key,))
    return pieces


class _Apart:
    """Takes one pod apart: the layer and its rank are the same for every piece."""

    def __init__(self, root: Root, rank: int, findings: list[Diagnostic]) -> None:
        self._root = root
        self._rank = rank
        self._findings = findings

    def mapping(self, value: object, path: tuple[PathKey, ...]) -> Iterator[tuple[Any, Any]]:
        if isinstance(value, dict):
            yield from value.items()
        else:
            Place(self._root, path, self._findings).error("bad-pod", f"expected a mapping, got {kind_of(value)}")

    def fields(self, value: object, path: tuple[PathKey, ...]) -> Fields:
        return {name: Piece(part, self._root, self._rank, (*path, name)) for name, part in self.mapping(value, path)}

    def items(self, value: object, path: tuple[PathKey, ...]) -> list[Piece]:
        if isinstance(value, list):
            return [Piece(part, self._root, self._rank, (*path, index)) for index, part in enumerate(value)]
        Place(self._root, path, self._findings).error("bad-pod", f"expected a list, got {kind_of(value)}")
        return []

    def containers(self, value: object, path: tuple[PathKey, ...]) -> list[ContainerPieces]:
        found = []
        for piece in self.items(value, path):
            container = ContainerPieces(whole=piece, fields={})
            for name, part in self.mapping(piece.value, piece.path):
                if name in CONTAINER_LISTS:
                    container.lists[name] = self.items(part, (*piece.path, name))
                elif name == "name" and not isinstance(part, str):
                    place = Place(self._root, (*piece.path, name), self._findings)
                    place.error("bad-pod", f"expected text, got {kind_of(part)}")
                else:
                    container.fields[name] = Piece(part, self._root, self._rank, (*piece.path, name))
            found.append(container)
        return found


def reconcile(base: PodPieces, override: PodPieces, findings: list[Diagnostic]) -> PodPieces:
    """Return ``base`` with ``override`` on it. Changes neither."""
    return PodPieces(
        top=_overlay(base.top, override.top, findings),
        metadata=_overlay(base.metadata, override.metadata, findings),
        labels={**base.labels, **override.labels},
        annotations={**base.annotations, **override.annotations},
        spec=_overlay(base.spec, override.spec, findings),
        containers=_by_position(base.containers, override.containers, findings),
        init_containers=_by_name(base.init_containers, override.init_containers, findings),
        volumes=base.volumes + override.volumes,
    )


def _by_position(
    base: list[ContainerPieces], override: list[ContainerPieces], findings: list[Diagnostic]
) -> list[ContainerPieces]:
    paired = [_overlay_container(below, above, findings) for below, above in zip(base, override, strict=False)]
    for below, above in zip(base, override, strict=False):
        _report_names(below, above, findings)
    return [*paired, *base[len(paired) :], *override[len(paired) :]]


def _by_name(base: list[ContainerPieces], override: list[ContainerPieces], findings: list[Diagnostic]) -> list[ContainerPieces]:
    if not base or not override:
        return base or override
    above = {_name(container): container for container in override}
    merged = [
        _overlay_container(container, above[_name(container)], findings) if _name(container) in above else container
        for container in base
    ]
    known = {_name(container) for container in base}
    return [*merged, *(container for container in override if _name(container) not in known)]


def _name(container: ContainerPieces) -> str | None:
    piece = container.fields.get("name")
    return piece.value if piece is not None and isinstance(piece.value, str) else None


def _overlay_container(base: ContainerPieces, override: ContainerPieces, findings: list[Diagnostic]) -> ContainerPieces:
    lists = {name: base.lists.get(name, []) + override.lists.get(name, []) for name in (*base.lists, *override.lists)}
    return ContainerPieces(whole=override.whole, fields=_overlay(base.fields, override.fields, findings), lists=lists)


def _overlay(base: Fields, override: Fields, findings: list[Diagnostic]) -> Fields:
    if not base or not override:
        return base or override
    merged = dict(base)
    for name, piece in override.items():
        below = base.get(name)
        if below is None or _counts(name, piece.value):
            merged[name] = piece
            if below is not None:
                _report_dropped(name, below, piece, findings)
        elif below.value != piece.value:
            piece.place(findings).warn(
                "falsy-override",
                f"{_falsy(piece.value)} cannot undo {below.place(findings).origin}, as in KubernetesExecutor",
                "change it there",
            )
    return merged


def _counts(name: str, value: object) -> bool:
    """Tell whether the oracle takes this value for set. An empty object of the client is; an empty map, list or text is not."""
    return bool(value) or (isinstance(value, dict) and name not in PLAIN_MAPS)


def _falsy(value: object) -> str:
    return f"an empty {'map' if isinstance(value, dict) else 'list'}" if isinstance(value, (dict, list)) else shown(value)


def _report_dropped(name: str, below: Piece, above: Piece, findings: list[Diagnostic]) -> None:
    """Warn of what a whole replacement takes away: the memory limit beside a GPU limit is the classic one."""
    if name in REPLACED and below.value != above.value and below.value:
        above.place(findings).notice(
            "replaced-list",
            f"replaces {below.place(findings).origin} as a whole, as in KubernetesExecutor",
            "repeat it to keep it",
        )
    if name not in {"resources", "nodeSelector"}:
        return
    gone = sorted(_leaves(below.value) - _leaves(above.value))
    if gone:
        listed = ", ".join(".".join(path) for path in gone)
        above.place(findings).warn(
            "dropped-by-override",
            f"replaces {below.place(findings).origin} as a whole, as in KubernetesExecutor, without {listed}",
            "repeat it here to keep it",
        )


def _leaves(value: object) -> set[tuple[str, ...]]:
    if not isinstance(value, dict):
        return set()
    found: set[tuple[str, ...]] = set()
    for key, child in value.items():
        found |= {(str(key), *rest) for rest in _leaves(child)} if isinstance(child, dict) else {(str(key),)}
    return found


def _report_names(below: ContainerPieces, above: ContainerPieces, findings: list[Diagnostic]) -> None:
    old, new = _name(below), _name(above)
    if old is not None and new is not None and old != new:
        above.fields["name"].place(findings).warn(
            "container-name",
            f"containers meet by position, as in KubernetesExecutor: {shown(new)} overrides {shown(old)}",
            f"write {shown(old)}, or reorder the containers",
        )


def merge_pods(*pods: PlainPod) -> PlainPod:
    """Return the pod that KubernetesExecutor would send for pods laid on each other, weakest first, plain data in its spelling.

    Changes none, but shares their values. Raises ``ValueError`` for parts of the wrong kind.
    """
    findings: list[Diagnostic] = []
    root = Root(layer="pod", prefix="", style="dotted")
    merged = lay_on_each_other([(pod, root, 0) for pod in pods], findings)
    broken = next((found for found in findings if found.severity is Severity.ERROR), None)
    if broken is not None:
        raise ValueError(str(broken))
    return merged


def lay_on_each_other(pods: Sequence[tuple[PlainPod, Root, int]], findings: list[Diagnostic]) -> PlainPod:
    """Return the merged pod of at least one ``(pod, root, rank)``, weakest first. What surprises is in ``findings``."""
    apart = [take_apart(pod, root, rank, findings) for pod, root, rank in pods]
    merged = apart[0]
    for above in apart[1:]:
        merged = reconcile(merged, above, findings)
    pod: PlainPod = _values(merged.top)
    for name, content in (("metadata", _metadata), ("spec", _spec)):
        parts = [found for one, _, _ in pods if isinstance(found := one.get(name), dict)]
        if parts:
            pod[name] = content(merged, {key: value for part in parts for key, value in part.items()})
    return pod


def _values(fields: Fields) -> PlainPod:
    return {name: piece.value for name, piece in fields.items()}


def _metadata(pod: PodPieces, present: PlainPod) -> PlainPod:
    """``present`` has the names that either pod sets: an empty map stays one."""
    found = _values(pod.metadata)
    for name, fields in (("labels", pod.labels), ("annotations", pod.annotations)):
        if name in present:
            found[name] = _values(fields)
    return found


def _spec(pod: PodPieces, present: PlainPod) -> PlainPod:
    found = _values(pod.spec)
    for name, containers in (("containers", pod.containers), ("initContainers", pod.init_containers)):
        if name in present:
            found[name] = [_container(container) for container in containers]
    if "volumes" in present:
        found["volumes"] = [piece.value for piece in pod.volumes]
    return found


def _container(container: ContainerPieces) -> PlainPod:
    lists = {name: [piece.value for piece in items] for name, items in container.lists.items()}
    return {**_values(container.fields), **lists}
