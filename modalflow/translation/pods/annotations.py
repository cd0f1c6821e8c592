"""Settings as annotations, for those who have nothing but a pod's YAML: ``modalflow/gpu: "H100:2"``.

Flows in: the annotations of the merged pod. Flows out: ``Setting``s of the ``modal`` keys; ``above_their_pod`` puts them half a
rank above the pod that they stand in, so that they win over its fields and over nothing else. ``pods.fields`` makes tags of the
other annotations.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from modalflow.translation.diagnostics import Diagnostic, closest
from modalflow.translation.keys import KEYS, SYNONYMS
from modalflow.translation.merge import Setting
from modalflow.translation.pods.layers import ANNOTATION as MERGE
from modalflow.translation.pods.merge import Fields
from modalflow.translation.report import Place, shown

PREFIX = "modalflow/"
NOT_IN_PODS = ("template", "execution_timeout")
"""Keys that decide which layers there are, and one that modalflow itself writes."""
LARGEST = 65_536
"""Characters of one annotation; Kubernetes takes 256 KiB of all of them."""
_ABOVE_ITS_POD = 0.5
_WORDS = {"True": True, "False": False}
"""As the keys' documentation spells them, which is Python."""


def read_annotations(annotations: Fields, findings: list[Diagnostic]) -> list[Setting]:
    """Return what the annotations set; what cannot be read is reported and left out."""
    settings: list[Setting] = []
    for name, piece in annotations.items():
        if not name.startswith(PREFIX) or name == MERGE:
            continue
        place, key = piece.place(findings), name.removeprefix(PREFIX)
        spec = None if key in NOT_IN_PODS else KEYS.get(key)
        if spec is None:
            _refuse(key, place)
            continue
        before = len(findings)
        is_text = spec.schema.get("type") == "string"
        value = piece.value if is_text or not isinstance(piece.value, str) else _parsed(piece.value, place)
        if value is None and len(findings) == before:
            place.notice("no-effect", "has no effect: null sets nothing")
        read = None if value is None else spec.read(value, place)
        if read is not None:
            settings.append(Setting(key=key, value=read, place=place, rank=piece.rank))
    return settings


def above_their_pod(settings: Iterable[Setting]) -> list[Setting]:
    """Return the settings half a rank above the pod that each was written in."""
    return [setting._replace(rank=setting.rank + _ABOVE_ITS_POD) for setting in settings]


def _refuse(key: str, place: Place) -> None:
    if key in NOT_IN_PODS:
        place.error("unknown-key", f"{key} is no key of a pod", 'write {"modal": {"template": NAME}} beside it')
        return
    known = [name for name in KEYS if name not in NOT_IN_PODS]
    near = SYNONYMS.get(key) or closest(key, known)
    hint = f"did you mean {shown(PREFIX + near)}?" if near in known else "write a modal key behind it, e.g. modalflow/gpu"
    place.error("unknown-key", "unknown key", hint)


def _parsed(text: str, place: Place) -> Any:
    """Return the value of an annotation, which Kubernetes keeps as text: JSON where it is some, else the text itself."""
    if len(text) > LARGEST:
        place.error("too-large", f"more than {LARGEST} characters", "write it as modal keys")
        return None
    try:
        return _WORDS[text] if text in _WORDS else json.loads(text)
    except ValueError:
        return text
    except RecursionError:
        place.error("too-large", "lists within lists without an end", "write it as modal keys")
        return None
