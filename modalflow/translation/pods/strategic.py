"""Strategic merge, Kubernetes' own way to lay one pod on another: what ``kubectl patch`` does, with the origin of every value.

Flows in: pods as plain data, weakest first, ``null`` kept as ``NULL``. Flows out: one plain pod and a ``MergedRoot``, which knows
for every path in it the layer, rank and path of the value there. ``pods.merge`` takes it apart like any other. Lists, keys and
directives: apimachinery's ``strategicpatch`` and the patch-merge-keys of ``core/v1`` in Kubernetes 1.32 (2025-04), held to
``kubectl patch --local`` by the tests where there is one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from modalflow.translation.diagnostics import Diagnostic, did_you_mean
from modalflow.translation.pods.form import DEEPEST, NULL, PlainPod
from modalflow.translation.report import PathKey, Place, Root, kind_of, shown

Path = tuple[PathKey, ...]

PATCH, RETAIN, DELETE, ORDER = "$patch", "$retainKeys", "$deleteFromPrimitiveList/", "$setElementOrder/"
DIRECTIVES = (PATCH, RETAIN, DELETE, ORDER)


class _List(NamedTuple):
    """A list that is merged: by ``key``, or as a set of words if there is none. ``kind`` says what its entries are."""

    key: str | None = None
    kind: str = ""


_METADATA: Mapping[str, _List | str] = {"finalizers": _List(), "ownerReferences": _List("uid")}

KINDS: Mapping[str, Mapping[str, _List | str]] = {
    "Pod": {"metadata": "ObjectMeta", "spec": "PodSpec"},
    "ObjectMeta": _METADATA,
    "PodSpec": {
        "containers": _List("name", "Container"),
        "initContainers": _List("name", "Container"),
        "ephemeralContainers": _List("name", "Container"),
        "volumes": _List("name", "Volume"),
        "imagePullSecrets": _List("name"),
        "hostAliases": _List("ip"),
        "topologySpreadConstraints": _List("topologyKey"),
        "resourceClaims": _List("name"),
        "schedulingGates": _List("name"),
    },
    "Container": {
        "env": _List("name"),
        "ports": _List("containerPort"),
        "volumeMounts": _List("mountPath"),
        "volumeDevices": _List("devicePath"),
    },
    "Volume": {"ephemeral": "Ephemeral"},
    "Ephemeral": {"volumeClaimTemplate": "ClaimTemplate"},
    "ClaimTemplate": {"metadata": "ObjectMeta"},
}
"""By kind, the fields that are no plain map, scalar or atomic list: the kind of an object, or how a list is merged."""


class Source(NamedTuple):
    """Where a value was written."""

    root: Root
    rank: int
    path: Path = ()

    def at(self, *keys: PathKey) -> Source:
        """Return the source of a part."""
        return Source(self.root, self.rank, self.path + keys)


@dataclass(frozen=True, kw_only=True, slots=True)
class MergedRoot(Root):
    """The root of a pod that several layers wrote. ``sources`` holds every path whose neighbours come from elsewhere."""

    sources: Mapping[Path, Source]

    def source(self, path: Path) -> Source:
        """Return where the value at ``path`` was written."""
        for end in range(len(path), 0, -1):
            known = self.sources.get(path[:end])
            if known is not None:
                return known.at(*path[end:])
        return self.sources[()].at(*path)

    def origin(self, path: Path) -> Any:
        """Return the origin in the layer that wrote the value."""
        written = self.source(path)
        return written.root.origin(written.path)

    def render(self, path: Path) -> str:
        """Spell ``path`` as in the layer that wrote the value."""
        written = self.source(path)
        return written.root.render(written.path)


class _Node:
    """A value with its source; ``parts`` instead of the value where the parts have sources of their own."""

    __slots__ = ("parts", "source", "value")

    def __init__(self, value: Any, source: Source, parts: dict[Any, _Node] | list[_Node] | None = None) -> None:
        self.value = value
        self.source = source
        self.parts = parts

    def fields(self) -> dict[Any, _Node] | None:
        """Return the parts of a map, ``None`` if it is none."""
        if isinstance(self.parts, dict):
            return self.parts
        if self.parts is None and isinstance(self.value, dict):
            return {key: _Node(child, self.source.at(key)) for key, child in self.value.items()}
        return None

    def entries(self) -> list[_Node] | None:
        """Return the parts of a list, ``None`` if it is none."""
        if isinstance(self.parts, list):
            return self.parts
        if self.parts is None and isinstance(self.value, list):
            return [_Node(child, self.source.at(index)) for index, child in enumerate(self.value)]
        return None

    def get(self, key: str) -> Any:
        """Return a scalar part of a map, ``None`` if there is none."""
        if isinstance(self.parts, dict):
            part = self.parts.get(key)
            return None if part is None else part.value
        return self.value.get(key) if isinstance(self.value, dict) else None


def merge_strategically(
    pods: Sequence[tuple[PlainPod, Root, int]], findings: list[Diagnostic], main: str = "base"
) -> tuple[PlainPod, MergedRoot, int]:
    """Return the merged pod, its root, and the rank of the strongest layer. Changes none of its arguments.

    ``pods`` are ``(pod, root, rank)``, weakest first and at least one. The task's container stays the first: that of the name
    ``main``, else the first of the weakest pod. Misused directives are reported.
    """
    merging = _Merging(findings)
    merged = _Node({}, Source(pods[0][1], pods[0][2]), {})
    for pod, root, rank in pods:
        merged = merging.map(merged.fields() or {}, pod, Source(root, rank), "Pod")
        _keep_first(merged, main)
    sources: dict[Path, Source] = {}
    value = _put_together(merged, (), sources)
    return value, MergedRoot(layer="pod", prefix="", style="dotted", sources=sources), pods[-1][2]


def _keep_first(pod: _Node, main: str) -> None:
    """Move the task's container to the front: Kubernetes puts new ones there."""
    spec = (pod.fields() or {}).get("spec")
    containers = (spec.fields() or {}).get("containers") if spec is not None else None
    entries = containers.entries() if containers is not None else None
    if spec is None or containers is None or not entries or not isinstance(spec.parts, dict):
        return
    ours = next((entry for entry in entries if entry.get("name") == main), None) or min(entries, key=_first_rank)
    if ours is not entries[0]:
        parts = [ours, *(entry for entry in entries if entry is not ours)]
        spec.parts["containers"] = _Node(None, containers.source, parts)


def _first_rank(node: _Node) -> int:
    """Return the rank of the weakest layer that said something in it."""
    parts = node.parts.values() if isinstance(node.parts, dict) else node.parts or ()
    return min((_first_rank(part) for part in parts), default=node.source.rank)


def _put_together(node: _Node, path: Path, sources: dict[Path, Source]) -> Any:
    sources[path] = node.source
    if isinstance(node.parts, dict):
        return {key: _put_together(part, (*path, key), sources) for key, part in node.parts.items()}
    if node.parts is not None:
        return [_put_together(part, (*path, index), sources) for index, part in enumerate(node.parts)]
    return node.value


class _Merging:
    """Lays one value on another. Misuse is reported where it was written."""

    def __init__(self, findings: list[Diagnostic]) -> None:
        self._findings = findings

    def _error(self, source: Source, message: str, hint: str = "") -> None:
        Place(source.root, source.path, self._findings).error("bad-directive", message, hint)

    def map(self, base: Mapping[Any, _Node], patch: Mapping[Any, Any], source: Source, kind: str) -> _Node:
        """Lay ``patch`` on the fields ``base``."""
        if len(source.path) > DEEPEST:
            return _Node({}, source)
        fields = dict(base)
        directive = patch.get(PATCH)
        if directive is not None:
            if directive not in {"replace", "delete"}:
                self._error(source.at(PATCH), f"expected replace or delete, got {shown(directive)}")
            fields = {}
            if directive == "delete":
                return _Node(None, source, fields)
        if RETAIN in patch:
            self._retain(fields, patch, source)
        for key, value in patch.items():
            if not key.startswith("$"):
                self._field(fields, key, value, patch, source.at(key), KINDS.get(kind, {}).get(key))
            elif key not in {PATCH, RETAIN}:
                self._on_list(fields, key, value, patch, source.at(key), kind)
        return _Node(None, source, fields)

    def _field(
        self, fields: dict[Any, _Node], key: str, value: Any, patch: Mapping[Any, Any], source: Source, rule: _List | str | None
    ) -> None:
        if value is NULL:
            fields.pop(key, None)
            return
        below = fields.get(key)
        if isinstance(value, dict):
            inside = below.fields() if below is not None else None
            fields[key] = self.map(inside or {}, value, source, rule if isinstance(rule, str) else "")
        elif isinstance(value, list) and isinstance(rule, _List):
            entries = (below.entries() if below is not None else None) or []
            order = self._order(patch, key, value, source, rule)
            fields[key] = _Node(None, source, self._list(entries, value, source, rule, order))
        elif isinstance(value, list):
            self._report_replaced(below, value, source)
            fields[key] = _Node(None, source, self._atomic(value, source))
        else:
            fields[key] = _Node(value, source)

    def _report_replaced(self, below: _Node | None, value: list[Any], source: Source) -> None:
        """Tell that a list that Kubernetes does not merge takes the place of a weaker one."""
        was = below.entries() if below is not None else None
        if below is None or not was or [_put_together(entry, (), {}) for entry in was] == value:
            return
        weaker = Place(below.source.root, below.source.path, self._findings).origin
        message = f"replaces {weaker} as a whole, as kubectl patch does"
        Place(source.root, source.path, self._findings).notice("replaced-list", message, "repeat it to keep it")

    def _retain(self, fields: dict[Any, _Node], patch: Mapping[Any, Any], source: Source) -> None:
        retained = patch[RETAIN]
        if not isinstance(retained, list):
            self._error(source.at(RETAIN), f"expected a list of fields, got {kind_of(retained)}")
            return
        for key in patch:
            if not key.startswith("$") and key not in retained and patch[key] is not NULL:
                self._error(source.at(RETAIN), f"does not name {shown(key)}, which stands beside it", f"add {shown(key)}")
        for key in [key for key in fields if key not in retained]:
            del fields[key]

    def _on_list(
        self, fields: dict[Any, _Node], key: str, value: Any, patch: Mapping[Any, Any], source: Source, kind: str
    ) -> None:
        """Obey a directive about a list beside it."""
        directive = next((known for known in (DELETE, ORDER) if key.startswith(known)), None)
        if directive is None:
            self._error(source, "there is no such directive", did_you_mean(key, DIRECTIVES))
            return
        name = key.removeprefix(directive)
        rule = KINDS.get(kind, {}).get(name)
        if not isinstance(rule, _List) or (directive == DELETE and rule.key is not None) or not isinstance(value, list):
            wanted = "a list of words that Kubernetes merges" if directive == DELETE else "a list that Kubernetes merges"
            self._error(source, f"{shown(name)} is not {wanted}" if isinstance(value, list) else "expected a list")
            return
        below = fields.get(name)
        entries = below.entries() if below is not None else None
        if below is None or entries is None:
            return
        if directive == DELETE:
            fields[name] = _Node(None, below.source, [entry for entry in entries if entry.value not in value])
        elif name not in patch:
            order = self._order(patch, name, [], source, rule) or []
            fields[name] = _Node(None, below.source, _ordered(entries, order, entries, rule.key))

    def _order(
        self, patch: Mapping[Any, Any], name: str, value: list[Any], source: Source, rule: _List
    ) -> list[str | int | None] | None:
        """Return the keys of ``$setElementOrder`` for the list ``name``, ``None`` if it is not said or cannot be used."""
        if not any(key.startswith(ORDER) for key in patch):
            return None
        said = patch.get(ORDER + name)
        if not isinstance(said, list):
            return None
        order = [_key_of(entry, rule.key) for entry in said]
        given = [_key_of(entry, rule.key) for entry in value if not (isinstance(entry, dict) and PATCH in entry)]
        places = _places(order)
        at = [places[key] for key in given if key in places]
        if len(at) < len(given) or at != sorted(at):
            here = Source(source.root, source.rank, (*source.path[:-1], ORDER + name))
            self._error(here, f"does not name the entries of {shown(name)} beside it in their order")
            return None
        return order

    def _atomic(self, value: list[Any], source: Source) -> list[_Node]:
        """Take a list as it is, but for ``null`` and directives in it."""
        entries = [entry for entry in enumerate(value) if not (isinstance(entry[1], dict) and PATCH in entry[1])]
        return [self._taken(entry, source.at(index)) for index, entry in entries]

    def _taken(self, value: Any, source: Source, kind: str = "") -> _Node:
        """Take a value under which there is nothing."""
        if isinstance(value, dict):
            return self.map({}, value, source, kind)
        if isinstance(value, list):
            return _Node(None, source, self._atomic(value, source))
        return _Node(None if value is NULL else value, source)

    def _list(self, base: list[_Node], patch: list[Any], source: Source, rule: _List, order: list[Any] | None) -> list[_Node]:
        if rule.key is None:
            known = _places(_key_of_node(entry, None) for entry in base)
            new = [_Node(word, source.at(index)) for index, word in enumerate(patch) if _key_of(word, None) not in known]
            return _ordered(base + new, [_key_of(word, None) for word in patch] if order is None else order, base, None)
        given, below, replaced = self._specials(base, patch, source, rule.key)
        if replaced:
            return [self._taken(entry, at, rule.kind) for entry, at in given]
        merged = list(below)
        known = _places(_key_of_node(node, rule.key) for node in merged)
        for entry, at in given:
            key = _key_of(entry, rule.key)
            if key is None:
                self._error(at, f"has no {rule.key}, by which this list is merged", f"write {rule.key}")
            elif key in known:
                merged[known[key]] = self.map(merged[known[key]].fields() or {}, entry, at, rule.kind)
            else:
                known[key] = len(merged)
                merged.append(self._taken(entry, at, rule.kind))
        keys = [_key_of(entry, rule.key) for entry, _ in given]
        return _ordered(merged, keys if order is None else order, below, rule.key)

    def _specials(
        self, base: list[_Node], patch: list[Any], source: Source, key: str
    ) -> tuple[list[tuple[Any, Source]], list[_Node], bool]:
        """Return the entries without those that are directives, what is left of ``base``, and whether it is to be replaced."""
        given, gone, replaced = [], set[str | int | None](), False
        for index, entry in enumerate(patch):
            at = source.at(index)
            directive = entry.get(PATCH) if isinstance(entry, dict) else None
            if directive is None:
                given.append((entry, at))
            elif directive == "replace":
                replaced = True
            elif directive == "delete":
                gone.add(_key_of(entry, key))
                if None in gone:
                    self._error(at, f"has no {key}, by which this list is merged", f"write {key}")
            else:
                self._error(at.at(PATCH), f"expected replace or delete, got {shown(directive)}")
        return given, [node for node in base if _key_of_node(node, key) not in gone] if gone else base, replaced


def _key_of(entry: Any, key: str | None) -> str | int | None:
    """Return by what an entry is known, ``None`` for one that is not."""
    found = entry if key is None else entry.get(key) if isinstance(entry, dict) else None
    return found if isinstance(found, (str, int)) else None


def _key_of_node(node: _Node, key: str | None) -> str | int | None:
    found = node.value if key is None else node.get(key)
    return found if isinstance(found, (str, int)) else None


def _places(keys: Iterable[str | int | None]) -> dict[str | int | None, int]:
    found: dict[str | int | None, int] = {}
    for place, key in enumerate(keys):
        found.setdefault(key, place)
    return found


def _ordered(merged: list[_Node], order: Sequence[str | int | None], server: Sequence[_Node], key: str | None) -> list[_Node]:
    """Return ``merged`` in Kubernetes' order: entries in ``order`` as they are there, the others as in ``server``.

    An entry of the others comes before the next one of ``order`` only if it did so in ``server``.
    """
    wanted = _places(order)
    known = _places(_key_of_node(node, key) for node in server)
    asked = [(wanted[name], node) for node in merged if (name := _key_of_node(node, key)) in wanted]
    others = [node for node in merged if _key_of_node(node, key) not in wanted]
    found: list[_Node] = []
    taken = 0
    for _, node in sorted(asked, key=lambda pair: pair[0]):
        here = known.get(_key_of_node(node, key))
        while here is not None and taken < len(others):
            if known.get(_key_of_node(others[taken], key), here) >= here:
                break
            found.append(others[taken])
            taken += 1
        found.append(node)
    return [*found, *others[taken:]]
