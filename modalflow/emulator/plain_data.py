"""Values of YAML and JSON, read strictly: each function takes the place of a value, for its error, and the value.

Flows in: parsed data. Flows out: values of the type that was expected, or ``DataError``. ``faults.documents`` and
``conditions_data`` read with it.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping
from typing import Any

from modalflow.emulator.spans import Span

_PAIR = 2


class DataError(ValueError):
    """A value that is not what was expected; the text names its place, the value and what to write."""


def mapping(value: object, path: str) -> Mapping[object, Any]:
    """Return ``value`` if it is a mapping."""
    if not isinstance(value, Mapping):
        raise DataError(f"{path}: expected a mapping, got {value!r}")
    return value


def only(given: Iterable[object], known: Iterable[str], prefix: str) -> None:
    """Refuse a key that is not ``known``; ``prefix`` is the place of the mapping, with its dot."""
    names = list(known)
    for key in given:
        if key not in names:
            near = difflib.get_close_matches(str(key), names, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(names)}"
            raise DataError(f"{prefix}{key}: unknown key; {hint}")


def text(path: str, value: object) -> str:
    """Return ``value`` if it is text."""
    if not isinstance(value, str):
        raise DataError(f"{path}: expected text, got {value!r}")
    return value


def flag(path: str, value: object) -> bool:
    """Return ``value`` if it is true or false."""
    if not isinstance(value, bool):
        raise DataError(f"{path}: expected true or false, got {value!r}")
    return value


def whole(path: str, value: object) -> int:
    """Return ``value`` if it is a whole number."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise DataError(f"{path}: expected a whole number, got {value!r}")
    return value


def number(path: str, value: object) -> float:
    """Return ``value`` as a float if it is a finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise DataError(f"{path}: expected a number, got {value!r}")
    return float(value)


def span(path: str, value: object) -> Span:
    """Return seconds, or two bounds."""
    if isinstance(value, list) and len(value) == _PAIR:
        return number(path, value[0]), number(path, value[1])
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise DataError(f"{path}: expected seconds such as 0.5, or two bounds such as [0.1, 0.5]; got {value!r}")
    return float(value)
