"""Where a pod's Secrets and ConfigMaps are on Modal: Modal Secrets, and files on the scheduler's host.

Flows in: references of ``pods.env`` and ``pods.volumes``, and ``[modal_executor] kubernetes_secrets`` and ``config_maps``. Flows
out: ``Text``s that name the variables which Modal Secrets inject, and ``Setting``s of ``secrets``. No value of a secret is ever
seen here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from modalflow.translation.diagnostics import Diagnostic
from modalflow.translation.env import variable_of
from modalflow.translation.images import read_object_name
from modalflow.translation.inputs import FileContent, SecretSource, TemplateSource, TranslationOptions
from modalflow.translation.merge import Setting
from modalflow.translation.plan import SecretPlan
from modalflow.translation.pods.merge import Piece
from modalflow.translation.report import Place, shown
from modalflow.translation.setup_plan import Ref, Text


@dataclass(frozen=True, slots=True)
class Found:
    """All keys of one Secret or ConfigMap that are known; ``is_open`` says that Modal injects others too."""

    values: Mapping[str, str | Text] = field(default_factory=dict)
    is_open: bool = False


@dataclass(frozen=True, slots=True)
class Content:
    """The value of one key: text, or base64 of bytes (``encoded``). ``secret``: it comes from a Modal Secret."""

    text: Text
    encoded: bool = False
    secret: bool = False


class Sources:
    """Finds Secrets and ConfigMaps. ``settings`` holds the Modal Secrets that are needed."""

    def __init__(
        self,
        findings: list[Diagnostic],
        options: TranslationOptions,
        templates: TemplateSource | None,
    ) -> None:
        self.settings: list[Setting] = []
        self.variables: dict[str, str] = {}
        """The Modal Secret that each referenced variable comes from."""
        self.whole: set[str] = set()
        """Modal Secrets whose variables the pod wants as they are."""
        self.identity = False
        """Whether Modal gives the task a token of its identity."""
        self.allow_env = options.allow_env
        """Variables that tasks may have though they are secrets of Airflow's."""
        self._findings = findings
        self._options = options
        self._templates = templates

    # -- for variables

    def secret_key(self, piece: Piece) -> Text | None:
        """Read a ``secretKeyRef``."""
        name, key, optional = self._reference(piece)
        if name is None or key is None:
            return None
        found = self.contents(piece, name, [key], kind="Secret", optional=optional)
        return None if found is None or key not in found else found[key].text

    def config_map_key(self, piece: Piece) -> str | Text | None:
        """Read a ``configMapKeyRef``."""
        name, key, optional = self._reference(piece)
        if name is None or key is None:
            return None
        found = self.contents(piece, name, [key], kind="ConfigMap", optional=optional)
        if found is None or key not in found:
            return None
        if found[key].encoded:
            piece.place(self._findings).error("bad-env-value", f"{shown(key)} holds bytes that are no text")
            return None
        literal = found[key].text.literal
        return found[key].text if literal is None else literal

    def whole_secret(self, piece: Piece, *, prefix: str) -> Found | None:
        """Read a ``secretRef``."""
        return self._whole(piece, "Secret", prefix)

    def whole_config_map(self, piece: Piece, *, prefix: str) -> Found | None:
        """Read a ``configMapRef``."""
        return self._whole(piece, "ConfigMap", prefix)

    def _whole(self, piece: Piece, kind: str, prefix: str) -> Found | None:
        name, optional = self._name(piece), piece.value.get("optional") is True
        if name is None:
            return None
        source = self._source(piece, name, kind, optional=optional)
        self._tell_optional(piece, source)
        if not isinstance(source, SecretSource):
            if source is None:
                return None
            texts = {key: content for key, content in source.items() if isinstance(content, str)}
            return Found(dict(texts))
        if source.keys is None and prefix:
            piece.place(self._findings).error(
                "unknown-keys",
                f"the keys of the {kind} {shown(name)} are not known here, and Modal puts no prefix before them",
                f"list them in [modal_executor] {_OPTION[kind]}: {{{shown(name)}: {{{_NAMED[kind]}: {shown(source.name)}, "
                '"keys": [...]}}',
            )
            return None
        if source.keys is None:
            self._need(piece, source.name, (), optional=optional)
            self.whole.add(source.name)
            return Found(is_open=True)
        self._need(piece, source.name, tuple(source.keys.values()), optional=optional)
        return Found({key: Text((Ref(variable),), optional) for key, variable in source.keys.items()})

    # -- for files too

    def contents(
        self, piece: Piece, name: str, keys: list[str] | None, *, kind: str, optional: bool
    ) -> dict[str, Content] | None:
        """Return the given keys (``None``: all of them); ``None`` if it is not there, which has been reported unless optional."""
        source = self._source(piece, name, kind, optional=optional)
        self._tell_optional(piece, source)
        if source is None:
            return None
        place = piece.place(self._findings)
        if isinstance(source, SecretSource):
            if keys is None and source.keys is None:
                place.error(
                    "unknown-keys",
                    f"the keys of the {kind} {shown(name)} are not known here",
                    f"write items, or list them in [modal_executor] {_OPTION[kind]}: {{{shown(name)}: "
                    f'{{{_NAMED[kind]}: {shown(source.name)}, "keys": [...]}}}}',
                )
                return None
            wanted = keys if keys is not None else list(source.keys or ())
            variables = {key: (source.keys or {}).get(key) or variable_of(key) for key in wanted}
            self._need(piece, source.name, tuple(variables.values()), optional=optional)
            return {key: Content(Text((Ref(name),), optional), secret=True) for key, name in variables.items()}
        missing = [key for key in keys or () if key not in source]
        if missing and not optional:
            place.error("no-such-key", f"the {kind} {shown(name)} has no key {shown(missing[0])}", f"known: {', '.join(source)}")
            return None
        found = source if keys is None else {key: source[key] for key in keys if key in source}
        return {key: _content(value) for key, value in found.items()}

    def _tell_optional(self, piece: Piece, found: object) -> None:
        if "optional" in piece.value and found is not None and not (piece.value["optional"] and isinstance(found, SecretSource)):
            piece.place(self._findings).at("optional").notice("no-effect", "has no effect: it is known where it is")

    def _source(self, piece: Piece, name: str, kind: str, *, optional: bool) -> SecretSource | Mapping[str, FileContent] | None:
        place = piece.place(self._findings)
        if kind == "Secret":
            found = self._options.kubernetes_secrets.get(name)
            if found is None and read_object_name(name, place.at("name"), "Secret") is None:
                return None
            return found or SecretSource(name=name)
        known = self._options.config_maps.get(name)
        if isinstance(known, SecretSource):
            return known
        if known is None or self._templates is None:
            if optional:
                place.notice("absent", f"the optional ConfigMap {shown(name)} is not in [modal_executor] config_maps: left out")
            else:
                place.error(
                    "unknown-config-map",
                    f"Modal has no ConfigMaps, and [modal_executor] config_maps does not say where {shown(name)} is",
                    f'add {{{shown(name)}: "/path/to/its.yaml"}}, or {{{shown(name)}: {{"secret": NAME_OF_A_MODAL_SECRET}}}}',
                )
            return None
        content = self._templates.config_map(known)
        if isinstance(content, str):
            Place(place.root, place.path, self._findings).error(
                "unreadable-config-map", f"[modal_executor] config_maps names {known} for {shown(name)}: {content}"
            )
            return None
        return content

    def _name(self, piece: Piece) -> str | None:
        name = piece.value.get("name")
        if isinstance(name, str) and name:
            return name
        piece.place(self._findings).error("bad-pod", "expected a name")
        return None

    def _reference(self, piece: Piece) -> tuple[str | None, str | None, bool]:
        key: Any = piece.value.get("key")
        if not isinstance(key, str) or not key:
            piece.place(self._findings).error("bad-pod", "expected a key")
            key = None
        return self._name(piece), key, piece.value.get("optional") is True

    def _need(self, piece: Piece, secret: str, variables: tuple[str, ...], *, optional: bool) -> None:
        place = piece.place(self._findings)
        for variable in variables:
            other = self.variables.setdefault(variable, secret)
            if other != secret:
                place.error(
                    "secret-collision",
                    f"the Modal Secrets {shown(other)} and {shown(secret)} both give {variable}; "
                    "Modal lets one replace the other",
                    "give one of them another key, and name it in [modal_executor] kubernetes_secrets",
                )
        plan = SecretPlan(name=secret, required_keys=() if optional else variables, optional=optional)
        self.settings.append(Setting(key="secrets", value={secret: plan}, place=place, rank=piece.rank, places={secret: place}))


def _content(value: FileContent) -> Content:
    return Content(Text((value,))) if isinstance(value, str) else Content(Text((value.decode("ascii"),)), encoded=True)


_OPTION = {"Secret": "kubernetes_secrets", "ConfigMap": "config_maps"}
_NAMED = {"Secret": '"name"', "ConfigMap": '"secret"'}
