"""Conditions as plain data: the ``capacity`` of a faults file, ``NAME=VALUE`` of a command line, JSON of the control endpoint.

Flows in: parsed mappings, or text whose values are YAML. Flows out: changes for ``Conditions``. Flows back: conditions as plain
data, the defaults left out.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import yaml

from modalflow.emulator.plain_data import DataError, mapping, number, only, span, text, whole
from modalflow.emulator.state.conditions import Conditions, ConditionsError

_UNITS = {"MiB": 1, "GiB": 1024, "TiB": 1024 * 1024}


def parse_conditions(data: object, path: str = "capacity") -> dict[str, Any]:
    """Return the conditions that are named. ``DataError`` for what cannot be; ``null`` takes a bound away."""
    given = mapping(data, path)
    only(given, _READERS, f"{path}.")
    changes: dict[str, Any] = {
        key: getattr(Conditions(), key) if given[key] is None else read(f"{path}.{key}", given[key])
        for key, read in _READERS.items()
        if key in given
    }
    try:
        Conditions(**changes)
    except ConditionsError as error:
        raise DataError(f"{path}: {error}") from error
    return changes


def parse_settings(texts: Iterable[str]) -> dict[str, Any]:
    """Read ``NAME=VALUE`` entries, the values in YAML: ``cpus=16``, ``scheduling_delay=[1, 5]``, ``give_up={H100: 120}``."""
    data: dict[str, object] = {}
    for entry in texts:
        name, equals, value = entry.partition("=")
        if not equals:
            raise DataError(f"expected NAME=VALUE such as cpus=16, got {entry!r}")
        try:
            data[name.strip()] = yaml.safe_load(value)
        except (yaml.YAMLError, ValueError) as error:  # YAML's timestamps are refused by datetime
            raise DataError(f"{name}: {value!r} is not YAML: {' '.join(str(error).split())}") from error
    return parse_conditions(data)


def plain_conditions(conditions: Conditions) -> dict[str, object]:
    """Return what is not the default, as ``parse_conditions`` reads it."""
    usual = Conditions()
    return {
        one.name: _plain(getattr(conditions, one.name))
        for one in dataclasses.fields(Conditions)
        if getattr(conditions, one.name) != getattr(usual, one.name)
    }


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, frozenset):
        return sorted(value)
    return list(value) if isinstance(value, tuple) else value


# -- values


def _counts(path: str, value: object) -> dict[str, int]:
    return {str(name): whole(f"{path}.{name}", count) for name, count in mapping(value, path).items()}


def _seconds_by_name(path: str, value: object) -> dict[str, float]:
    return {str(name): number(f"{path}.{name}", seconds) for name, seconds in mapping(value, path).items()}


def _names(path: str, value: object) -> frozenset[str]:
    if not isinstance(value, list):
        raise DataError(f"{path}: expected a list of names, got {value!r}")
    return frozenset(text(path, one) for one in value)


def _memory(path: str, value: object) -> int:
    if isinstance(value, str) and (found := re.fullmatch(r"(\d+) ?([MGT]iB)", value)):
        return int(found[1]) * _UNITS[found[2]]
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise DataError(f"{path}: expected MiB, or a size such as 64GiB; got {value!r}")


_READERS: Mapping[str, Callable[[str, object], object]] = {
    "gpus": _counts,
    "cpus": number,
    "memory_mb": _memory,
    "max_gpus": whole,
    "max_sandboxes": whole,
    "give_up": _seconds_by_name,
    "unavailable": _names,
    "scheduling_delay": span,
    "create_rate_v1": number,
    "create_rate_v2": number,
    "create_burst": whole,
    "retry_after": number,
    "preempt_after": span,
    "preempt_probability": number,
    "preempt_grace": number,
    "seed": whole,
}
