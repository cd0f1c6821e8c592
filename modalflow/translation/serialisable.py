"""Finds what an ``executor_config`` cannot keep: values that Airflow's DAG serialiser turns into text.

Between DAG file and scheduler an ``executor_config`` passes ``BaseSerialization.serialize`` (airflow 3.3.2), which keeps plain
data and a whole ``V1Pod`` and calls ``str()`` on the rest. Used while a DAG is parsed, when the real objects are still there.
"""

from __future__ import annotations

import dataclasses
import datetime
import math
from enum import Enum
from pathlib import PurePath

from modalflow.translation.diagnostics import Diagnostic
from modalflow.translation.foreign import is_of_the_process
from modalflow.translation.layers import CONFIG, CONFIG_KEYS, MODAL, POD_OVERRIDE, is_too_large
from modalflow.translation.pods.legacy import KEY as LEGACY
from modalflow.translation.report import PathKey, Place, kind_of, shown, type_name

DEEPEST = 32
"""Nesting beyond which an executor_config is taken for one that holds itself."""

_INSTEAD: tuple[tuple[tuple[type, ...], str], ...] = (
    ((PurePath,), "write str(path)"),
    ((bytes, bytearray), "write text"),
)
_KEPT = (str, int, float, bool, type(None), datetime.datetime, datetime.timedelta, set)


def check_serialisable(config: object) -> list[Diagnostic]:
    """Return an error for each value that would not survive, with its path, type and what to write instead. Never raises."""
    findings: list[Diagnostic] = []
    try:
        if isinstance(config, dict):
            if is_too_large(config, findings):
                return findings
            for key, value in config.items():
                _check_top(key, value, findings)
    except BaseException as error:  # A user's object can raise anything, and a DAG file must not fail for our looking at it.
        if is_of_the_process(error):
            raise
        Place(CONFIG, (), findings).error("untranslatable", f"reading it raised {type(error).__name__}", "write plain data")
    return findings


def _check_top(key: object, value: object, findings: list[Diagnostic]) -> None:
    if key == "modal":
        _walk(value, Place(MODAL, (), findings), 1)
    elif key == "pod_override":
        if not hasattr(type(value), "attribute_map"):
            _walk(value, Place(POD_OVERRIDE, (), findings), 1)
    elif not isinstance(key, str) or key in CONFIG_KEYS or key == LEGACY:
        # An unknown key is refused by its name, which says more than what stands under it.
        _check_key(key, Place(CONFIG, (), findings))
        _walk(value, Place(CONFIG, (_path_key(key),), findings), 1)


def _walk(value: object, place: Place, depth: int) -> None:
    if depth > DEEPEST:
        place.error("too-deep", f"nested more than {DEEPEST} levels deep, or holding itself")
    elif isinstance(value, dict):
        for key, child in value.items():
            _check_key(key, place)
            _walk(child, place.at(_path_key(key)), depth + 1)
    elif isinstance(value, (list, tuple)):
        for index, child in enumerate(value):
            _walk(child, place.at(index), depth + 1)
    else:
        _check_scalar(value, place)


def _check_scalar(value: object, place: Place) -> None:
    if isinstance(value, Enum):
        # An enum that is a str or an int keeps its value; any other becomes the text of its name.
        if not isinstance(value, (str, int)):
            place.error("not-serialisable", f"{kind_of(value)} does not survive storing the DAG", "write its value")
    elif isinstance(value, float) and not math.isfinite(value):
        place.error("not-serialisable", f"{value} does not survive storing the DAG", "write a finite number")
    elif not isinstance(value, _KEPT):
        place.error("not-serialisable", f"a {type_name(value)} does not survive storing the DAG", _instead(value))


def _check_key(key: object, place: Place) -> None:
    if not isinstance(key, str):
        hint = f'write "{key}"' if isinstance(key, (int, float)) else "write text"
        place.error("not-serialisable", f"the key {shown(key)} is no text and does not survive storing the DAG", hint)


def _path_key(key: object) -> PathKey:
    return key if isinstance(key, (str, int)) else shown(key)


def _instead(value: object) -> str:
    name = type_name(value)
    if name.startswith("modal."):
        return f"write the name of the {name.rsplit('.', maxsplit=1)[-1]} as text"
    if hasattr(type(value), "attribute_map"):
        return "write a dict in its place, or the whole pod as V1Pod in pod_override"
    if dataclasses.is_dataclass(value):
        return "write a dict, e.g. by dataclasses.asdict"
    for kinds, hint in _INSTEAD:
        if isinstance(value, kinds):
            return hint
    return "write what it returns" if callable(value) else "write plain data: text, numbers, lists and dicts"
