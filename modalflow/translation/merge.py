"""Folds the settings of all layers into one value for each key, remembering who won.

Flows in: ``Setting``s (a key's value as one layer gives it, already read). Flows out: ``Merged``. ``resolve`` makes a task of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from modalflow.translation.diagnostics import Diagnostic, did_you_mean
from modalflow.translation.keys import KEYS, SYNONYMS, Merge
from modalflow.translation.layers import Layer
from modalflow.translation.report import Place, kind_of, shown
from modalflow.translation.volumes import both


class Setting(NamedTuple):
    """One key as one layer sets it. ``rank`` orders layers; ``places`` holds an address for each entry where they differ."""

    key: str
    value: Any
    place: Place
    rank: float
    places: Mapping[str, Place] | None = None


@dataclass(kw_only=True, slots=True)
class Merged:
    """The winning value of each key, and where it came from (``cpu``; ``env.NAME`` for keys that merge entry by entry)."""

    values: dict[str, Any] = field(default_factory=dict)
    places: dict[str, Place] = field(default_factory=dict)
    ranks: dict[str, float] = field(default_factory=dict)

    def get(self, key: str) -> Any:
        """Return the value of ``key``, ``None`` if nobody set it."""
        return self.values.get(key)


def read_native(layer: Layer, rank: int, findings: list[Diagnostic]) -> list[Setting]:
    """Read a layer of ``modal`` keys; what cannot be read is reported and left out."""
    settings: list[Setting] = []
    content = layer.content
    if not isinstance(content, Mapping):
        Place(layer.root, (), findings).error("bad-config", f"expected a dict, got {kind_of(content)}")
        return settings
    for key, value in content.items():
        if value is None:
            continue
        spec = KEYS.get(key) if isinstance(key, str) else None
        if spec is None:
            _report_unknown(key, Place(layer.root, (key if isinstance(key, (str, int)) else shown(key),), findings))
            continue
        place = Place(layer.root, (key,), findings)
        read = spec.read(value, place)
        if read is not None:
            settings.append(Setting(key=key, value=read, place=place, rank=rank))
    return settings


_kept: dict[str, tuple[object, list[Setting]]] = {}
"""Under ``options``: the dict of options seen last, and what was read of it. Replaced whole, so any thread may look."""


def read_options(layer: Layer, rank: int, findings: list[Diagnostic]) -> list[Setting]:
    """Read the layer of ``[modal_executor]``. The same dict comes with every task: while it is without fault, it is read once."""
    content, settings = _kept.get("options", (None, []))
    if content is not layer.content:
        found: list[Diagnostic] = []
        settings = read_native(layer, rank, found)
        findings += found
        if not found:
            _kept["options"] = (layer.content, settings)
    return [Setting(key, value, place.into(findings), rank, places) for key, value, place, rank, places in settings]


def _report_unknown(key: object, place: Place) -> None:
    hint = ""
    if isinstance(key, str):
        hint = f'did you mean "{SYNONYMS[key]}"?' if key in SYNONYMS else did_you_mean(key, KEYS)
    place.error("unknown-key", "unknown key", hint or f"known: {', '.join(KEYS)}")


def merge(settings: Iterable[Setting]) -> Merged:
    """Fold settings by the rule of each key; a higher rank is stronger, and a later setting among equals."""
    merged = Merged()
    for setting in sorted(settings, key=lambda s: s.rank):
        key = setting.key
        rule = KEYS[key].merge
        if rule is Merge.REPLACE:
            merged.values[key] = setting.value
            merged.places[key] = setting.place
            merged.ranks[key] = setting.rank
            continue
        if rule is Merge.APPEND and not setting.value:
            _forget(merged, key)
        entries = merged.values.setdefault(key, {})
        for name, value in setting.value.items():
            entries[name] = both(entries.get(name), value) if rule is Merge.APPEND else value
            merged.places[f"{key}.{name}"] = _entry_place(setting, name, rule)
    return merged


def _entry_place(setting: Setting, name: str, rule: Merge) -> Place:
    if setting.places is not None:
        return setting.places[name]
    return setting.place.at(name) if rule is Merge.BY_KEY else setting.place


def _forget(merged: Merged, key: str) -> None:
    for name in merged.values.pop(key, {}):
        del merged.places[f"{key}.{name}"]
