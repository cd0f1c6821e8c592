"""The files of configMap, secret, downwardAPI and projected volumes: each path with its content and mode.

Flows in: one volume's source. Flows out: ``Entries``, which ``pods.volumes`` places. A secret's content is named, never seen.
"""

from __future__ import annotations

import json
from typing import Any

from modalflow.translation.diagnostics import Diagnostic, did_you_mean
from modalflow.translation.inputs import TranslationOptions
from modalflow.translation.pods import verdicts
from modalflow.translation.pods.env import field_of, report_field_keys, resource_of
from modalflow.translation.pods.merge import Piece, PodPieces
from modalflow.translation.pods.sources import Content, Sources
from modalflow.translation.report import Place, kind_of, shown
from modalflow.translation.setup_plan import Ref, Text

PLAIN_MODE = 0o644
ALL_MODES = 0o777
SECRET_MODE = 0o400
"""For content of Modal Secrets where the pod gives no mode; Kubernetes' own default, 0644, lets every user read it."""

_FIELDS = {
    "configMap": ("name", "items", "defaultMode", "optional"),
    "secret": ("secretName", "items", "defaultMode", "optional"),
    "downwardAPI": ("items", "defaultMode"),
    "projected": ("sources", "defaultMode"),
}
_PROJECTED = {
    "configMap": ("name", "items", "optional"),
    "secret": ("name", "items", "optional"),
    "downwardAPI": ("items",),
    "serviceAccountToken": ("path", "audience", "expirationSeconds"),
}
_IDENTITY = "MODAL_IDENTITY_TOKEN"
"""Set by Modal where the task asks for ``oidc``."""
_AUDIENCE = "oidc.modal.com"
"""Whom Modal's token is for (modal.com/docs/guide/oidc-integration, 2026-11); nobody can choose it."""


class Entries(dict[str, tuple[Content, int]]):
    """Files by their path in the volume, each with its mode."""

    all_optional = False
    """Whether a file may be missing."""
    whole = True
    """Whether everything could be read; what could not has been reported."""
    default_counts = False
    """Whether a file has the mode of the whole volume."""

    def __init__(self) -> None:
        super().__init__()
        self.places: dict[str, Place] = {}
        """Who asks for each file."""

    def add(self, path: str, content: Content, place: Place, *, own: int | None, default: int | None) -> None:
        """Take a file with the mode of its own, else that of the volume. ``place`` is what asks for it."""
        if path in self:
            earlier, origin = self.places[path], place.origin
            earlier.warn(
                "duplicate-file", f"the file {shown(path)} is asked for again by {origin}, which wins", "keep one of them"
            )
        self.places[path] = place
        if own is None:
            self.default_counts = True
            own = default if default is not None else SECRET_MODE if content.secret else PLAIN_MODE
        self[path] = content, own


class FileReader:
    """Reads volume sources."""

    def __init__(self, pod: PodPieces, findings: list[Diagnostic], sources: Sources) -> None:
        self._pod = pod
        self._findings = findings
        self._sources = sources

    def entries(self, source: Piece) -> Entries | None:
        """Return the files of one volume; ``None`` if it cannot be read, which has been reported."""
        kind = str(source.path[-1])
        content = source.value
        found = Entries()
        default = self._mode(content.get("defaultMode"), source.place(self._findings).at("defaultMode"))
        if not self._known(content, _FIELDS[kind], source):
            return None
        if kind != "projected":
            found.whole = self._take(kind, source, default, found)
        else:
            parts = content.get("sources", [])
            if not isinstance(parts, list):
                source.place(self._findings).at("sources").error("bad-pod", f"expected a list, got {kind_of(parts)}")
                return None
            for index, part in enumerate(parts):
                found.whole = self._projected(source.part(part, "sources", index), default, found) and found.whole
        if default is not None and not found.default_counts and found.whole:
            source.place(self._findings).at("defaultMode").notice("no-effect", "has no effect: no file is left to have it")
        return found

    def store(self, source: Piece, options: TranslationOptions) -> Entries | None:
        """Return the files of a Secrets Store CSI volume: keys of the Modal Secret that stands for its SecretProviderClass."""
        place, value = source.place(self._findings), source.value
        attributes = value.get("volumeAttributes")
        name = attributes.get("secretProviderClass") if isinstance(attributes, dict) else None
        if not isinstance(attributes, dict) or not isinstance(name, str):
            place.error("bad-pod", "expected volumeAttributes with secretProviderClass")
            return None
        for field in ("fsType", "nodePublishSecretRef", "readOnly"):
            if field in value:
                place.at(field).notice("no-effect", "has no effect: the files come from a Modal Secret")
        for key in attributes:
            if key != "secretProviderClass":
                place.at("volumeAttributes", key).warn(
                    "dropped", "is not honoured: the files come from a Modal Secret", "remove it"
                )
        known = options.kubernetes_secrets.get(name)
        if known is None or known.keys is None:
            place.at("volumeAttributes", "secretProviderClass").error(
                "unknown-keys",
                f"[modal_executor] kubernetes_secrets does not say which files of which Modal Secret {shown(name)} brings",
                f'add {{{shown(name)}: {{"name": NAME_OF_A_MODAL_SECRET, "keys": [FILE, ...]}}}}',
            )
            return None
        contents = self._sources.contents(source, name, None, kind="Secret", optional=False) or {}
        found = Entries()
        for key, content in contents.items():
            found.add(key, content, place, own=SECRET_MODE, default=None)
        return found

    def _projected(self, part: Piece, default: int | None, found: Entries) -> bool:
        place = part.place(self._findings)
        if not isinstance(part.value, dict) or len(part.value) != 1:
            place.error("bad-pod", "expected one source")
            return False
        ((kind, content),) = part.value.items()
        if kind in verdicts.PROJECTED:
            optional = isinstance(content, dict) and content.get("optional") is True
            found.all_optional = found.all_optional or optional
            if optional:
                place.at(kind).notice("absent", "a sandbox has no cluster; it is optional: left out")
            else:
                verdicts.apply(verdicts.PROJECTED[kind], content, place.at(kind))
            return optional
        if kind not in _PROJECTED:
            hint = did_you_mean(kind, (*_PROJECTED, *verdicts.PROJECTED))
            place.at(kind).error("unknown-field", "Kubernetes has no such field", hint)
            return False
        source = part.part(content, kind)
        if not isinstance(content, dict):
            source.place(self._findings).error("bad-pod", f"expected a mapping, got {kind_of(content)}")
            return False
        if not self._known(content, _PROJECTED[kind], source):
            return False
        return self._token(source, default, found) if kind == "serviceAccountToken" else self._take(kind, source, default, found)

    def _token(self, source: Piece, default: int | None, found: Entries) -> bool:
        """Give Modal's token of the sandbox in the place of the cluster's of the pod, if the task has one."""
        place, path = source.place(self._findings), source.value.get("path")
        if not isinstance(path, str) or not path or path.startswith("/") or ".." in path.split("/"):
            place.error("bad-sub-path", f"expected a path inside the volume, got {shown(path)}")
            return False
        if not self._sources.identity:
            hint = 'write {"modal": {"oidc": True}} for Modal\'s own token, or give the task a Modal Secret'
            place.warn("dropped", "is not honoured: a sandbox has no Kubernetes identity", hint)
            found.all_optional = True
            return True
        asked = source.value.get("audience")
        text = f"is Modal's token, for {_AUDIENCE}" + (f" and not for {shown(asked)}" if asked is not None else "")
        place.warn("modal-token", text, "let the cloud role trust Modal")
        content = Content(Text((Ref(_IDENTITY),)), secret=True)
        found.add(path, content, place, own=None, default=default)
        return True

    def _known(self, content: dict[str, Any], names: tuple[str, ...], source: Piece) -> bool:
        unknown = [field for field in content if field not in names]
        for field in unknown:
            place = source.place(self._findings).at(field)
            place.error("unknown-field", "Kubernetes has no such field", did_you_mean(field, names))
        return not unknown

    def _take(self, kind: str, source: Piece, default: int | None, found: Entries) -> bool:
        items, good = self._items(source)
        if kind == "downwardAPI":
            taken = [self._downward(item, default, found) for item in items]
            return all(taken) and good
        name = source.value.get("secretName" if "secretName" in source.value else "name")
        optional = source.value.get("optional") is True
        if not isinstance(name, str) or not name:
            source.place(self._findings).error("bad-pod", "expected a name")
            return False
        keys = [item.value["key"] for item in items] if "items" in source.value else None
        contents = self._sources.contents(
            source, name, keys, kind="Secret" if kind == "secret" else "ConfigMap", optional=optional
        )
        found.all_optional = found.all_optional or optional
        if contents is None:
            return optional and good
        if keys is None:
            for key, content in contents.items():
                found.add(key, content, source.place(self._findings), own=None, default=default)
            return good
        for item in items:
            content_of = contents.get(item.value["key"])
            if content_of is None:
                item.place(self._findings).notice("absent", f"the optional {shown(name)} has no such key: left out")
            else:
                place = item.place(self._findings)
                mode = self._mode(item.value.get("mode"), place.at("mode"))
                found.add(item.value["path"], content_of, place, own=mode, default=default)
        return good

    def _items(self, source: Piece) -> tuple[list[Piece], bool]:
        """Return the well-formed items, and whether that is all of them."""
        needs_key = str(source.path[-1]) != "downwardAPI"
        names = ("key", "path", "mode") if needs_key else ("path", "mode", "fieldRef", "resourceFieldRef")
        items = source.value.get("items") or []
        if not isinstance(items, list):
            source.place(self._findings).at("items").error("bad-pod", f"expected a list, got {kind_of(items)}")
            return [], False
        pieces = [source.part(item, "items", index) for index, item in enumerate(items)]
        good = [piece for piece in pieces if self._item_is_good(piece, names, needs_key=needs_key)]
        return good, len(good) == len(pieces)

    def _item_is_good(self, piece: Piece, names: tuple[str, ...], *, needs_key: bool) -> bool:
        place = piece.place(self._findings)
        item = piece.value
        if not isinstance(item, dict) or (needs_key and not isinstance(item.get("key"), str)):
            place.error("bad-pod", "expected a mapping with key and path" if needs_key else "expected a mapping with path")
            return False
        path = item.get("path")
        if path is None:
            place.error("bad-pod", "expected a path")
            return False
        if not isinstance(path, str) or not path or path.startswith("/") or ".." in path.split("/"):
            place.at("path").error("bad-sub-path", f"expected a path inside the volume, got {shown(path)}")
            return False
        return self._known(item, names, piece)

    def _downward(self, item: Piece, default: int | None, found: Entries) -> bool:
        place = item.place(self._findings)
        text: object = None
        if "fieldRef" in item.value and "resourceFieldRef" in item.value:
            place.error("bad-pod", "fieldRef and resourceFieldRef exclude each other", "keep one of them")
            return False
        for kind in ("fieldRef", "resourceFieldRef"):
            content = item.value.get(kind)
            if isinstance(content, dict):
                at = place.at(kind)
                text = self._field(content, at) if kind == "fieldRef" else resource_of(self._pod.containers[0], content, at)
                break
        else:
            place.error("bad-pod", "expected fieldRef or resourceFieldRef")
        if not isinstance(text, (str, Text)):
            return False
        content_of = Content(text if isinstance(text, Text) else Text((text,)))
        mode = self._mode(item.value.get("mode"), place.at("mode"))
        found.add(item.value["path"], content_of, place, own=mode, default=default)
        return True

    def _field(self, content: dict[str, Any], place: Place) -> object:
        path = content.get("fieldPath")
        if path in {"metadata.labels", "metadata.annotations"}:
            report_field_keys(content, place)
            pieces = self._pod.labels if path.endswith("labels") else self._pod.annotations
            return "\n".join(f"{name}={json.dumps(piece.value)}" for name, piece in sorted(pieces.items()))
        return field_of(self._pod, content, place)

    def _mode(self, value: object, place: Place) -> int | None:
        if value is None or (isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= ALL_MODES):
            return value
        place.error("bad-mode", f"expected a file mode from 0 to 0777, got {shown(value)}", "write 0400 in YAML, 256 in JSON")
        return None
