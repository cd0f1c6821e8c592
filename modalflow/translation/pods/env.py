"""The variables of a pod's main container, as Kubernetes puts them together: ``envFrom``, then ``env`` in order.

Flows in: the pieces of the merged pod. Flows out: ``Setting``s of ``env`` and ``secrets``; a text that only the sandbox can know
(a secret's value, its own address) is a ``Text`` of ``setup_plan``. ``pods.sources`` finds Secrets and ConfigMaps.
"""

from __future__ import annotations

import re
from decimal import ROUND_CEILING, Decimal
from typing import Any

from modalflow.translation.control_plane import withholds
from modalflow.translation.diagnostics import Diagnostic, did_you_mean
from modalflow.translation.env import NAME, check_name, check_text, split_references
from modalflow.translation.malformed import in_quantity, report_malformed
from modalflow.translation.merge import Setting
from modalflow.translation.pods.doubles import without_doubles
from modalflow.translation.pods.file_keys import file_key_of
from modalflow.translation.pods.merge import ContainerPieces, Fields, Piece, PodPieces
from modalflow.translation.pods.sources import Sources
from modalflow.translation.quantities import parse_quantity
from modalflow.translation.report import Place, kind_of, shown
from modalflow.translation.setup_plan import LAUNCH_ID, POD_IP, Ref, Tag, Text

FACTS = ("dag_id", "task_id", "run_id", "try_number", "map_index")
"""Labels and annotations that KubernetesExecutor gives each pod; the task's tags have them."""
_SUBSCRIPT = re.compile(r"metadata\.(labels|annotations)\['(.*)'\]", re.DOTALL)
_RESOURCE = re.compile(r"(limits|requests)\.(cpu|memory|ephemeral-storage)")
_OF_A_NODE = ("spec.nodeName", "status.hostIP", "status.hostIPs")
_RESOURCE_FIELDS = ("containerName", "resource", "divisor")
_FIELDS = ("name", "value", "valueFrom")

Value = str | Text


class PodEnv:
    """Reads variables. ``settings`` and ``values`` hold what it found."""

    def __init__(self, pod: PodPieces, findings: list[Diagnostic], sources: Sources) -> None:
        self.settings: list[Setting] = []
        self.values: dict[str, Value] = {}
        self._pod = pod
        self._findings = findings
        self.sources = sources
        self._winners: dict[str, Piece] = {}
        self._open = False
        """Whether a Secret of unknown keys may set further variables."""

    def read(self, container: ContainerPieces) -> None:
        """Read ``envFrom`` and ``env``: a later one of the same name wins, and sees the earlier ones, as in Kubernetes."""
        sources = container.lists.get("envFrom", [])
        for piece in sources if len(sources) < 2 else without_doubles(sources, self._findings):  # noqa: PLR2004
            self._read_all_of(piece)
        for piece in container.lists.get("env", ()):
            variable = self._variable(piece, container)
            if variable is not None:
                self._take(*variable, piece)

    def finish(self) -> None:
        """Make ``settings`` of the values, once it is known which variables Secrets give."""
        for name, value in self.values.items():
            piece = self._winners[name]
            place = Place(piece.root, piece.path, self._findings)
            # Modal lets a Secret overrule a plain variable, Kubernetes does not: then the sandbox sets it anew.
            clash = type(value) is str and (self._open or name in self.sources.variables)
            final = Text((value,)) if clash and isinstance(value, str) else value
            self.settings.append(Setting(key="env", value={name: final}, place=place, rank=piece.rank, places={name: place}))

    def _take(self, name: str, value: Value | None, piece: Piece) -> None:
        known = self._winners.get(name)
        if known is not None and known.path[-2] == "env":
            self._report_duplicate(name, known, piece)
        self._winners[name] = piece
        if value is None:
            self.values.pop(name, None)
        else:
            self.values[name] = value

    def _report_duplicate(self, name: str, earlier: Piece, later: Piece) -> None:
        origin = later.place(self._findings).origin
        if earlier.root is later.root:
            earlier.place(self._findings).warn(
                "duplicate-env", f"{name} is set again by {origin}, which wins", "remove one of them"
            )
        else:
            earlier.place(self._findings).notice("overridden-env", f"{name} is set again by {origin}, which wins")

    def _variable(self, piece: Piece, container: ContainerPieces) -> tuple[str, Value | None] | None:
        """Return name and text; the text is ``None`` for a source that gives none, which has been reported."""
        place = piece.place(self._findings)
        entry = piece.value
        if not isinstance(entry, dict):
            place.error("bad-pod", f"expected a mapping with name and value, got {kind_of(entry)}")
            return None
        name = entry.get("name")
        for field in entry:
            if field not in _FIELDS:
                place.at(field).error("unknown-field", "Kubernetes has no such field", did_you_mean(field, _FIELDS))
        if not check_name(name, place) or not isinstance(name, str):
            return None
        if withholds(name, place, self.sources.allow_env):
            return None
        source = entry.get("valueFrom")
        if source is not None:
            if "value" in entry:
                place.at("value").error("bad-pod", "value and valueFrom exclude each other", "keep one of them")
            return name, self._value_from(piece.part(source, "valueFrom"), container)
        text = entry.get("value", "")
        return (name, self.expand(text)) if check_text(text, place.at("value")) else None

    def expand(self, text: str) -> Value:
        """Expand ``$(NAME)``; what only the sandbox knows stays a reference."""
        if "$" not in text:
            return text
        parts: list[Any] = []
        for literal, name in split_references(text):
            known = self.values.get(name) if name is not None else None
            if isinstance(known, Text):
                parts += known.parts
            elif known is None and name is not None and self._open:
                parts.append(Ref(name, otherwise=literal))
            else:
                parts.append(literal if known is None else known)
        value = Text(tuple(parts))
        literal_text = value.literal
        return value if literal_text is None else literal_text

    # -- valueFrom

    def _value_from(self, piece: Piece, container: ContainerPieces) -> Value | None:
        place = piece.place(self._findings)
        source = piece.value
        if not isinstance(source, dict) or len(source) != 1:
            wrong = f"expected a mapping, got {kind_of(source)}" if not isinstance(source, dict) else "names more than one source"
            place.error("bad-pod", "names no source" if source == {} else wrong, "write a value")
            return None
        ((kind, content),) = source.items()
        part = piece.part(content, kind)
        place = part.place(self._findings)
        if kind not in _READERS:
            place.error("unknown-field", "Kubernetes has no such field", did_you_mean(kind, _READERS))
        elif not isinstance(content, dict):
            place.error("bad-pod", f"expected a mapping, got {kind_of(content)}")
        else:
            return self._referred(kind, part, container)
        return None

    def _referred(self, kind: str, part: Piece, container: ContainerPieces) -> Value | None:
        if kind == "secretKeyRef":
            return self.sources.secret_key(part)
        if kind == "configMapKeyRef":
            return self.sources.config_map_key(part)
        if kind == "fileKeyRef":
            return file_key_of(self._pod, part, self._findings)
        place = part.place(self._findings)
        if kind == "fieldRef":
            return field_of(self._pod, part.value, place)
        return resource_of(container, part.value, place)

    # -- envFrom

    def _read_all_of(self, piece: Piece) -> None:
        place = piece.place(self._findings)
        entry = piece.value
        if not isinstance(entry, dict):
            place.error("bad-pod", f"expected a mapping, got {kind_of(entry)}")
            return
        prefix = entry.get("prefix") or ""
        kinds = [name for name in entry if name != "prefix"]
        for kind in kinds:
            if kind not in {"secretRef", "configMapRef"}:
                hint = did_you_mean(kind, ("secretRef", "configMapRef", "prefix"))
                place.at(kind).error("unknown-field", "Kubernetes has no such field", hint)
                return
        if len(kinds) != 1 or not isinstance(prefix, str) or not isinstance(entry[kinds[0]], dict):
            place.error("bad-pod", "expected one of secretRef and configMapRef, with a name")
            return
        part = piece.part(entry[kinds[0]], kinds[0])
        read = self.sources.whole_secret if kinds[0] == "secretRef" else self.sources.whole_config_map
        found = read(part, prefix=prefix)
        if found is None:
            if prefix and part.value.get("optional"):
                place.at("prefix").notice("no-effect", "has no effect: there is nothing that it would stand before")
            return
        self._open = self._open or found.is_open
        for key, value in found.values.items():
            name = prefix + key
            if not NAME.fullmatch(name):
                place.notice("skipped-key", f"{shown(name)} cannot name a variable: left out, as in Kubernetes")
            elif not withholds(name, place, self.sources.allow_env):
                self._take(name, value, piece)


_READERS = ("secretKeyRef", "configMapKeyRef", "fieldRef", "resourceFieldRef", "fileKeyRef")


def field_of(pod: PodPieces, content: dict[str, Any], place: Place) -> Value | None:
    """Return one of the pod's own fields. ``metadata.name`` and ``uid`` are the launch id; what a sandbox lacks is empty."""
    path = content.get("fieldPath")
    report_field_keys(content, place)
    if isinstance(path, str) and (match := _SUBSCRIPT.fullmatch(path)) is not None:
        return _entry_of(pod.labels if match[1] == "labels" else pod.annotations, match[2])
    known: dict[object, Value] = {
        "metadata.name": Text((Ref(LAUNCH_ID),)),
        "metadata.uid": Text((Ref(LAUNCH_ID),)),
        "metadata.namespace": _text_of(pod.metadata.get("namespace")),
        "spec.serviceAccountName": _text_of(pod.spec.get("serviceAccountName") or pod.spec.get("serviceAccount")),
        "status.podIP": Text((Ref(POD_IP),)),
        "status.podIPs": Text((Ref(POD_IP),)),
        **dict.fromkeys(_OF_A_NODE, ""),
    }
    if not isinstance(path, str) or path not in known:
        place.at("fieldPath").error("bad-field-path", f"Kubernetes gives no variable of {shown(path)}")
        return None
    if path in _OF_A_NODE:
        place.warn("no-node", f"a sandbox has no node: {path} is empty", "write the address of what the task should reach")
    return known[path]


def report_field_keys(content: dict[str, Any], place: Place) -> None:
    """Report the keys of a ``fieldRef`` beside its path."""
    if "apiVersion" in content:
        place.at("apiVersion").notice("no-effect", "has no effect: there is one version of these fields")
    for field in content:
        if field not in {"fieldPath", "apiVersion"}:
            place.at(field).error(
                "unknown-field", "Kubernetes has no such field", did_you_mean(field, ("fieldPath", "apiVersion"))
            )


def _entry_of(pieces: Fields, name: str) -> Value | None:
    if name in pieces:
        value = pieces[name].value
        return value if isinstance(value, str) else None
    return Text((Tag(name),)) if name in FACTS else ""


def _text_of(piece: Piece | None) -> str:
    return piece.value if piece is not None and isinstance(piece.value, str) and piece.value else "default"


def resource_of(container: ContainerPieces, content: dict[str, Any], place: Place) -> str | None:
    """Return a resource of the container as Kubernetes counts it (vCPU, bytes), divided by ``divisor`` and rounded up."""
    named, asked = content.get("containerName"), content.get("resource")
    own = container.fields.get("name")
    for field in content:
        if field not in _RESOURCE_FIELDS:
            place.at(field).error("unknown-field", "Kubernetes has no such field", did_you_mean(field, _RESOURCE_FIELDS))
    if named is not None and (own is None or named == own.value):
        place.at("containerName").notice("no-effect", "has no effect: the task's own container is meant anyway")
    if named is not None and own is not None and named != own.value:
        place.at("containerName").error("bad-resource", f"only the task's own container is there, no {shown(named)}")
        return None
    match = _RESOURCE.fullmatch(asked) if isinstance(asked, str) else None
    if match is None:
        place.at("resource").error("bad-resource", f"expected limits.cpu, requests.memory or the like, got {shown(asked)}")
        return None
    divisor = parse_quantity(content.get("divisor") or "1")
    if divisor is None or divisor < 0:
        written = content.get("divisor")
        report_malformed(place.at("divisor"), "bad-quantity", 'a quantity such as "1Mi"', written, in_quantity)
        return None
    amount = _amount(container, match[1], match[2], place)
    if amount is None:
        return None
    return str((amount / (divisor or Decimal(1))).to_integral_value(ROUND_CEILING))


def _amount(container: ContainerPieces, side: str, name: str, place: Place) -> Decimal | None:
    piece = container.fields.get("resources")
    resources = piece.value if piece is not None and isinstance(piece.value, dict) else {}
    other = "requests" if side == "limits" else "limits"
    for key in (side, other):
        given = resources.get(key)
        if not isinstance(given, dict) or name not in given:
            continue
        if key == other and side == "limits":
            place.warn("no-limit", f"the container has no limit of {name}: this is its request", f"set resources.limits.{name}")
        if (amount := parse_quantity(given[name])) is None:
            place.error("bad-resource", f"resources.{key}.{name} is no quantity: {shown(given[name])}")
        return amount
    place.error("no-resource", f"the container says nothing of {name}", f"set resources.{side}.{name}, or write the value")
    return None
