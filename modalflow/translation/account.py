"""What became of every leaf of a task's configuration: the law that nothing is dropped silently, made visible.

Flows in: the arguments of ``translate``. Flows out: one ``Leaf`` for each leaf of each layer that a task or template wrote, for
``modalflow translate`` and the tests. No reader has to cooperate: a leaf is honoured if the plan is another one without it, and
reported if a finding names it. So the account shows what happened, not what somebody meant to happen. It translates about
once for each leaf and is not for the scheduler.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from modalflow.translation.diagnostics import Diagnostic, Severity
from modalflow.translation.foreign import is_of_the_process
from modalflow.translation.functions.plan import Plan
from modalflow.translation.inputs import TaskContext, TemplateSource, TranslationOptions
from modalflow.translation.layers import CONFIG, DEFAULTS, KUBERNETES, MODAL, OPTIONS, Layer
from modalflow.translation.origins import Origin
from modalflow.translation.pods import legacy
from modalflow.translation.pods.form import NULL, field_name, keep_nulls, read_pod_form
from modalflow.translation.pods.layers import is_strategic
from modalflow.translation.report import PathKey, Place, Root
from modalflow.translation.translate import draft, read_layers

Path = tuple[PathKey, ...]
Fields = dict[str, object]

ABOUT_MERGING = frozenset({"dropped-by-override", "container-name", "legacy-config", "replaced-list"})
"""Findings at a value that tell of another one, or of its form: they do not account for the parts of the value they stand at."""
STRUCTURE = "structure"
"""What a leaf is honoured as that only says what its neighbours are: a container's name, the document's kind."""

AGREES = "agrees"
"""What a leaf is honoured as that is read and asks for what holds without it: another value would be reported."""

ENTRIES = frozenset(
    {
        "env",
        "envFrom",
        "volumes",
        "volumeMounts",
        "hostAliases",
        "resourceClaims",
        "claims",
        "preferredDuringSchedulingIgnoredDuringExecution",
        "matchExpressions",
        "imagePullSecrets",
    }
)
"""Lists whose entries are read as one: with one field refused, the entry is."""


class Fate(StrEnum):
    """What became of a leaf. ``EMPTY``: it asks for nothing (``null``, ``{}``). ``UNACCOUNTED`` would be a bug of ours."""

    HONOURED = "honoured"
    REPORTED = "reported"
    OVERRIDDEN = "overridden"
    EMPTY = "empty"
    UNACCOUNTED = "unaccounted"


@dataclass(frozen=True, kw_only=True, slots=True)
class Leaf:
    """One leaf. ``fields`` are plan fields that it decides (``env.A``), ``codes`` findings about it, ``by`` who overrides it."""

    origin: Origin
    fate: Fate
    fields: tuple[str, ...] = ()
    codes: tuple[str, ...] = ()
    by: Origin | None = None


def account(
    executor_config: object, *, context: TaskContext, options: TranslationOptions, templates: TemplateSource
) -> tuple[Leaf, ...]:
    """Return the fate of every leaf, in the order written. Never raises; what cannot be read at all is one reported leaf."""
    try:
        return tuple(_account(executor_config, context, options, templates))
    except BaseException as error:  # user objects can raise anything, and translate has reported it
        if is_of_the_process(error):
            raise
        return (Leaf(origin=CONFIG.origin(()), fate=Fate.REPORTED, codes=("untranslatable",)),)


def _account(config: object, context: TaskContext, options: TranslationOptions, templates: TemplateSource) -> Iterator[Leaf]:
    findings: list[Diagnostic] = []
    layers = read_layers(config, context.queue, options, templates, findings)
    if layers is None or not isinstance(config, Mapping):
        yield Leaf(origin=CONFIG.origin(()), fate=Fate.REPORTED, codes=tuple(found.code for found in findings))
        return
    for key, value in config.items():
        if key == legacy.KEY:
            yield from _beside_legacy_pod(value, layers, findings)
        elif key not in {"modal", "pod_override"}:
            for path, inner in leaves(value, (key,)):
                yield _told_or(Leaf(origin=CONFIG.origin(path), fate=_set(inner), fields=("template",)), CONFIG, path, findings)
    strategic = is_strategic(layers, options.merge)
    ablation = _Ablation([_plain(layer, nulls=strategic) for layer in layers], context, options, findings, templates)
    for rank, layer in enumerate(layers):
        if layer.root not in (KUBERNETES, DEFAULTS, OPTIONS) and not (layer.root == MODAL and "modal" not in config):
            yield from ablation.layer(rank, layer)


def _beside_legacy_pod(content: object, layers: Sequence[Layer], findings: Sequence[Diagnostic]) -> Iterator[Leaf]:
    """Account for the keys of the form of Airflow 1.x that did not become part of a pod; the pod is a layer like others."""
    taken = next((layer.root.keys for layer in layers if isinstance(layer.root, legacy.LegacyRoot)), frozenset())
    for path, value in leaves(content):
        if not path or path[0] not in taken or value is None:
            origin = legacy.WRITTEN.origin(path)
            yield _told_or(Leaf(origin=origin, fate=_set(value)), legacy.WRITTEN, path, findings)


def _set(value: object) -> Fate:
    return Fate.EMPTY if value is None or value in ({}, []) else Fate.HONOURED


def _told_or(leaf: Leaf, root: Root, path: Path, findings: Sequence[Diagnostic]) -> Leaf:
    codes = codes_at(root, path, findings)
    return Leaf(origin=leaf.origin, fate=Fate.REPORTED, codes=codes) if codes else leaf


def leaves(value: object, path: Path = ()) -> Iterator[tuple[Path, object]]:
    """Yield every leaf with its path: scalars, and mappings and lists with nothing in them."""
    if isinstance(value, dict) and value:
        for key, child in value.items():
            yield from leaves(child, (*path, key))
    elif isinstance(value, (list, tuple)) and value:
        for index, child in enumerate(value):
            yield from leaves(child, (*path, index))
    else:
        yield path, value


def codes_at(root: Root, path: Path, findings: Sequence[Diagnostic]) -> tuple[str, ...]:
    """Return the codes of the findings at the leaf, else at the nearest value around it."""
    for end in range(len(path), -1, -1):
        here = root.render(path[:end])
        codes = [
            found.code
            for found in findings
            if found.origin.path == here
            and (found.origin.layer, found.origin.file) == (root.layer, root.file)
            and (end == len(path) or found.code not in ABOUT_MERGING)
        ]
        if codes:
            return tuple(dict.fromkeys(codes))
    return ()


def plan_fields(plan: Plan) -> Fields:
    """Return a plan as flat fields: ``cpu``, ``image.reference``, ``env.NAME``, ``volumes./path`` …"""
    found: Fields = {}
    for field in dataclasses.fields(plan):
        value = getattr(plan, field.name)
        if dataclasses.is_dataclass(value):
            found.update({f"{field.name}.{part.name}": getattr(value, part.name) for part in dataclasses.fields(value)})
        elif isinstance(value, Mapping):
            found.update({f"{field.name}.{name}": entry for name, entry in value.items()})
        elif isinstance(value, tuple) and value and dataclasses.is_dataclass(value[0]):
            found.update({f"{field.name}.{_name_of(entry)}": entry for entry in value})
        else:
            found[field.name] = value
    return found


def _name_of(entry: Any) -> object:
    for name in ("mount_path", "path", "name"):
        if (value := getattr(entry, name, None)) is not None:
            return value
    return entry


def _plain(layer: Layer, *, nulls: bool) -> Layer:
    """Give a pod layer its plain form, so that leaves can be taken out of it; one that is no pod stays as it is.

    ``nulls``: a ``null`` removes something, and so is a leaf.
    """
    if not layer.is_pod:
        return layer
    plain = read_pod_form(keep_nulls(layer.content) if nulls else layer.content, Place(layer.root, (), []))
    return layer if plain is None else dataclasses.replace(layer, content=plain)


def without(value: Any, path: Path) -> Any:
    """Return ``value`` without what is at ``path``; only what leads there is copied."""
    head, rest = path[0], path[1:]
    if not rest:
        if isinstance(value, dict):
            return {key: child for key, child in value.items() if key != head}
        return [child for index, child in enumerate(value) if index != head]
    return changed(value, (head,), without(value[head], rest))


def changed(value: Any, path: Path, new: object) -> Any:
    """Return ``value`` with ``new`` at ``path``."""
    if not path:
        return new
    copy: Any = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = changed(value[path[0]], path[1:], new)
    return copy


class _Ablation:
    """Translates with a leaf taken away, or changed, and compares."""

    def __init__(
        self,
        layers: list[Layer],
        context: TaskContext,
        options: TranslationOptions,
        findings: list[Diagnostic],
        templates: TemplateSource,
    ) -> None:
        self._templates = templates
        self._layers = layers
        self._context = context
        self._options = options
        fields, places, found = self._effects(layers)
        self._fields, self._places = fields, places
        self._found = found
        self._findings = [*findings, *found]

    def _effects(self, layers: Sequence[Layer]) -> tuple[Fields, dict[str, Place], list[Diagnostic]]:
        findings: list[Diagnostic] = []
        plan, places = draft(layers, self._context, self._options, findings, self._templates)
        return plan_fields(plan), places, findings

    def layer(self, rank: int, written: Layer) -> Iterator[Leaf]:
        """Yield the fate of every leaf of the layer at ``rank``; ``written`` is the layer as its author wrote it."""
        root, content = written.root, self._layers[rank].content
        if not isinstance(content, dict):
            yield Leaf(origin=root.origin(()), fate=Fate.REPORTED, codes=codes_at(root, (), self._findings))
            return
        if isinstance(written.content, dict):
            for path, value in leaves(written.content):
                if value is None and NULL not in _values_at(content, tuple(_spelled(path))):
                    yield Leaf(origin=root.origin(tuple(_spelled(path))), fate=Fate.EMPTY)
        written_here = root.is_written if isinstance(root, legacy.LegacyRoot) else bool
        fates = [
            (path, value, self._fate(rank, root, path, value))
            for path, value in leaves(content)
            if value is not None and (not path or written_here(path))
        ]
        twins = {(path[-1], str(value)): leaf for path, value, leaf in fates if path and leaf.fields}
        for path, value, leaf in fates:
            # A request that repeats the limit decides nothing by itself; both say the same of the same field.
            twin = twins.get((path[-1], str(value))) if path and leaf.fate is Fate.HONOURED and not leaf.fields else None
            yield leaf if twin is None else dataclasses.replace(leaf, fate=twin.fate, fields=twin.fields, by=twin.by)

    def _fate(self, rank: int, root: Root, path: Path, value: object) -> Leaf:
        origin = root.origin(path)
        if not path:
            return Leaf(origin=origin, fate=Fate.EMPTY)
        if root == MODAL and path == ("template",):
            return _told_or(Leaf(origin=origin, fate=Fate.HONOURED, fields=("template",)), root, path, self._findings)
        if refusals := self._refusals(origin):
            return Leaf(origin=origin, fate=Fate.REPORTED, codes=refusals)
        codes = codes_at(root, path, self._findings)
        fields, _, findings = self._effects(self._with(rank, without(self._layers[rank].content, path)))
        if decided := _differing(self._fields, fields):
            return Leaf(origin=origin, fate=Fate.HONOURED, fields=decided, codes=codes)
        if codes := codes or _gone(self._found, findings):
            return Leaf(origin=origin, fate=Fate.REPORTED, codes=codes)
        return self._without_effect(rank, root, path, value)

    def _without_effect(self, rank: int, root: Root, path: Path, value: object) -> Leaf:
        """Return the fate of a leaf without which everything is the same, and of which nothing is said."""
        if _is_structure(path):
            return Leaf(origin=root.origin(path), fate=Fate.HONOURED, fields=(STRUCTURE,))
        if overridden := self._overridden(rank, root, path):
            return overridden
        if codes := self._codes_of_entry(root, path, self._layers[rank].content):
            return Leaf(origin=root.origin(path), fate=Fate.REPORTED, codes=codes)
        agreeing = self._agreeing(rank, root, path, value)
        return agreeing if agreeing.fate is not Fate.UNACCOUNTED else self._without_effect_below(rank, root, path, value)

    def _refusals(self, origin: Origin) -> tuple[str, ...]:
        """Return the errors at the leaf itself: it has no effect, whatever the rest of a plan that is not run looks like."""
        here = [f for f in self._findings if f.origin.path == origin.path and f.severity is Severity.ERROR]
        return tuple(dict.fromkeys(f.code for f in here if (f.origin.layer, f.origin.file) == (origin.layer, origin.file)))

    def _codes_of_entry(self, root: Root, path: Path, content: object) -> tuple[str, ...]:
        """Return the errors beside the leaf in the same entry of a list; for a mount, also those of the volume of its name.

        A volume goes with its mounts, if not one of them is left. Neighbours in a list do not go with each other.
        """
        for end in range(len(path) - 1):
            if path[end] not in ENTRIES or not isinstance(path[end + 1], int):
                continue
            for inner in range(len(path) - 1, end + 1, -1):
                if isinstance(path[inner], str) and (codes := self._errors(root, path[:inner], path[: inner + 1])):
                    return codes
            partner = {"volumes": "volumeMounts", "volumeMounts": "volumes"}.get(str(path[end]))
            name = _at(content, (*path[: end + 2], "name"))
            if partner is not None and isinstance(name, str):
                found = [self._errors(other, entry) for other, entry in self._entries(partner, name)]
                if any(found) and (partner == "volumes" or all(found)):
                    return tuple(dict.fromkeys(code for codes in found for code in codes))
        return ()

    def _errors(self, root: Root, path: Path, but_not: Path | None = None) -> tuple[str, ...]:
        here, own = root.render(path), None if but_not is None else root.render(but_not)
        codes = [
            found.code
            for found in self._findings
            if found.severity is Severity.ERROR
            and (found.origin.layer, found.origin.file) == (root.layer, root.file)
            and _is_below(found.origin.path, here)
            and not (own is not None and _is_below(found.origin.path, own))
        ]
        return tuple(dict.fromkeys(codes))

    def _entries(self, field: str, name: str) -> Iterator[tuple[Root, Path]]:
        """Yield where the pods have volumes, or mounts of the task's container, of that name."""
        where: Path = ("spec", "volumes") if field == "volumes" else ("spec", "containers", 0, "volumeMounts")
        for layer in self._layers:
            entries = _at(layer.content, where) if layer.is_pod else None
            for index, entry in enumerate(entries if isinstance(entries, list) else ()):
                if isinstance(entry, dict) and entry.get("name") == name:
                    yield layer.root, (*where, index)

    def _with(self, rank: int, content: object) -> list[Layer]:
        layers = list(self._layers)
        layers[rank] = dataclasses.replace(layers[rank], content=content)
        return layers

    def _overridden(self, rank: int, root: Root, path: Path) -> Leaf | None:
        """Ask whether the leaf would count if nothing stood above its layer."""
        if rank + 1 == len(self._layers):
            return None
        below = self._layers[: rank + 1]
        fields, places, found = self._effects(below)
        less, _, unsaid = self._effects(self._with(rank, without(below[rank].content, path))[: rank + 1])
        named = (name for name, place in places.items() if place.root == root and place.path == path[: len(place.path)])
        decided = _differing(fields, less) or tuple(name for name in named if self._is_of_another(name, root))
        if not decided and not codes_at(root, path, found) and not _gone(found, unsaid):
            return None
        place = next((self._places[name] for name in _origin_names(decided) if name in self._places), None)
        by = None if place is None or place.root == root else place.origin
        return Leaf(origin=root.origin(path), fate=Fate.OVERRIDDEN, fields=decided, by=by)

    def _without_effect_below(self, rank: int, root: Root, path: Path, value: object) -> Leaf:
        """Ask whether the leaf, which has no effect in its own layer either, would be read there if nothing stood above it."""
        below = _Ablation(self._layers[: rank + 1], self._context, self._options, [], self._templates)
        entry = below._codes_of_entry(root, path, self._layers[rank].content)
        read = rank + 1 < len(self._layers) and (entry or below._agreeing(rank, root, path, value).fate is not Fate.UNACCOUNTED)
        return Leaf(origin=root.origin(path), fate=Fate.OVERRIDDEN if read else Fate.UNACCOUNTED)

    def _is_of_another(self, name: str, root: Root) -> bool:
        winner = self._places.get(name)
        return winner is None or winner.root != root

    def _agreeing(self, rank: int, root: Root, path: Path, value: object) -> Leaf:
        """Ask whether the leaf is read, though it says what holds anyway: then another value has another effect."""
        origin = root.origin(path)
        if _set(value) is Fate.EMPTY:
            return Leaf(origin=origin, fate=Fate.EMPTY)
        named = [name for name, place in self._places.items() if place.root == root and place.path == path[: len(place.path)]]
        if named:
            return Leaf(origin=origin, fate=Fate.HONOURED, fields=tuple(named))
        heard = False
        for other in _others(value):
            fields, _, findings = self._effects(self._with(rank, changed(self._layers[rank].content, path, other)))
            if decided := _differing(self._fields, fields):
                return Leaf(origin=origin, fate=Fate.HONOURED, fields=decided)
            heard = heard or bool(_gone(findings, self._findings))
        return Leaf(origin=origin, fate=Fate.HONOURED, fields=(AGREES,)) if heard else Leaf(origin=origin, fate=Fate.UNACCOUNTED)


def _at(value: Any, path: Path) -> Any:
    """Return what is at ``path``, ``None`` if there is no such place."""
    for key in path:
        if isinstance(value, dict):
            value = value.get(key)
        elif isinstance(value, list) and isinstance(key, int) and key < len(value):
            value = value[key]
        else:
            return None
    return value


def _is_below(place: str, path: str) -> bool:
    return place == path or place.startswith((f"{path}.", f"{path}["))


def _values_at(content: Any, path: Path) -> tuple[object, ...]:
    """Return what is at ``path``, or nothing."""
    for key in path:
        if not (key in content if isinstance(content, dict) else isinstance(content, list) and key in range(len(content))):
            return ()
        content = content[key]
    return (content,)


def _spelled(path: Path) -> Iterator[PathKey]:
    return (field_name(key) if isinstance(key, str) else key for key in path)


def _differing(one: Fields, other: Fields) -> tuple[str, ...]:
    names = dict.fromkeys((*one, *other))
    return tuple(name for name in names if one.get(name) != other.get(name))


def _gone(before: Sequence[Diagnostic], after: Sequence[Diagnostic]) -> tuple[str, ...]:
    left = {(found.code, found.origin.path, found.message) for found in after}
    return tuple(dict.fromkeys(found.code for found in before if (found.code, found.origin.path, found.message) not in left))


def _origin_names(fields: tuple[str, ...]) -> Iterator[str]:
    """Spell plan fields as ``Translation.origins`` does."""
    for name in fields:
        yield "image" if name == "image.reference" else name


def _others(value: object) -> Iterator[object]:
    """Yield values that are another than ``value``: some of its kind, and one of no kind that any reader takes."""
    if isinstance(value, bool):
        yield not value
    elif isinstance(value, (int, float)):
        yield value + 1
    elif isinstance(value, str):
        yield from (f"{value}1", f"1{value}")
    yield ["\0"]


def _is_structure(path: Path) -> bool:
    if path in {("apiVersion",), ("kind",)}:
        return True
    return path[:1] == ("spec",) and path[1:2] in {("containers",), ("initContainers",)} and path[3:] == ("name",)
