"""Faults as plain data: the YAML file of ``--faults``, and the JSON of the control endpoint. Both have the same keys as ``add``.

Flows in: text or parsed mappings. Flows out: latencies and ``Fault`` values, or one ``FaultError`` that names the file, the path
within it, the value, and what to write. Flows back: rules as plain data, for lists.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from google.protobuf.message import Message
from grpclib import Status
from modal_proto import api_pb2

from modalflow.emulator.conditions_data import parse_conditions
from modalflow.emulator.faults.board import Faults
from modalflow.emulator.faults.errors import FaultError
from modalflow.emulator.faults.matching import Expected, is_http
from modalflow.emulator.faults.rules import Fault
from modalflow.emulator.plain_data import DataError, flag, mapping, number, only, span, text, whole
from modalflow.emulator.spans import Span

_STATUSES = {status.name: status for status in Status if status is not Status.OK}


@dataclass(frozen=True, kw_only=True, slots=True)
class FaultDocument:
    """What a file says."""

    seed: int = 0
    latency: Mapping[str, Span] = field(default_factory=dict)
    faults: tuple[Fault, ...] = ()
    capacity: Mapping[str, Any] = field(default_factory=dict)
    """Changes of the conditions."""

    def faults_in_force(self, latency: Span = 0.0) -> Faults:
        """Return the rules; ``latency`` is that of calls for which the file names none."""
        faults = Faults({"*": latency, **self.latency}, seed=self.seed)
        for rule in self.faults:
            faults.put(rule)
        return faults


def read_faults(path: Path) -> FaultDocument:
    """Read a YAML file. ``FaultError`` for what cannot be, or if it cannot be read."""
    try:
        data = yaml.safe_load(path.read_text())
    except OSError as error:
        raise FaultError(f"faults: {str(path)!r} cannot be read: {error.strerror}") from error
    except (
        yaml.YAMLError,
        ValueError,
    ) as error:  # YAML's timestamps are refused by datetime, bytes that are no text by the codec
        raise FaultError(f"{path}: not YAML: {' '.join(str(error).split())}") from error
    try:
        return parse_document({} if data is None else data)
    except DataError as error:
        raise FaultError(f"{path}: {error}") from error


def parse_document(data: object) -> FaultDocument:
    """Read a parsed file."""
    top = mapping(data, "the file")
    only(top, ("seed", "latency", "faults", "capacity"), "")
    faults = top.get("faults", [])
    if not isinstance(faults, list):
        raise FaultError(f"faults: expected a list of mappings, got {faults!r}")
    latency = mapping(top.get("latency", {}), "latency")
    document = FaultDocument(
        seed=whole("seed", top.get("seed", 0)),
        latency={str(pattern): span(f"latency.{pattern}", seconds) for pattern, seconds in latency.items()},
        faults=tuple(parse_fault(one, f"faults[{place}]") for place, one in enumerate(faults)),
        capacity=parse_conditions(top.get("capacity", {})),
    )
    try:
        Faults(document.latency)
    except FaultError as error:
        raise FaultError(f"latency: {error}") from error
    return document


def parse_fault(data: object, path: str = "fault") -> Fault:
    """Read one rule; ``path`` is its place, for errors."""
    given = mapping(data, path)
    only(given, [*_READERS, "retry_after"], f"{path}.")
    if "method" not in given:
        raise FaultError(f"{path}.method: missing; write the name of an RPC, such as SandboxCreateV2")
    if given.get("cut") is not None and given["cut"] not in {"stream", "connection"}:
        raise FaultError(f"{path}.cut: expected 'stream' or 'connection', got {given['cut']!r}")
    keywords: dict[str, Any] = {
        key: read(f"{path}.{key}", given[key]) for key, read in _READERS.items() if given.get(key) is not None
    }
    if given.get("retry_after") is not None:
        seconds = _retry_seconds(f"{path}.retry_after", given["retry_after"], keywords["method"])
        keywords["details"] = [api_pb2.RPCRetryPolicy(retry_after_secs=seconds)]
        keywords.setdefault("status", Status.RESOURCE_EXHAUSTED)
    if keywords.get("times") == 0:
        keywords["times"] = None
    try:
        return Fault(**keywords)
    except FaultError as error:
        raise FaultError(f"{path}: {error}") from error


def _retry_seconds(path: str, value: object, method: str) -> float:
    seconds = number(path, value)
    if seconds < 0:
        raise FaultError(f"{path}: expected seconds of at least 0, got {value!r}")
    if is_http(method):
        raise FaultError(f"{path}: only RPCs carry it; leave it out for {method!r}, and write a status such as 503")
    return seconds


def described(rule: Fault) -> dict[str, object]:
    """Return a rule as plain data: its number, what was asked for, and what it did."""
    asked: dict[str, object] = {"number": rule.number, "method": rule.method}
    if callable(rule.where):
        asked["where"] = "a function"
    elif rule.where:
        asked["where"] = {
            path: {"regex": value.pattern} if isinstance(value, re.Pattern) else value for path, value in rule.where.items()
        }
    plain = {
        "status": rule.status.name if isinstance(rule.status, Status) else rule.status,
        "message": rule.message if rule.status is not None else None,
        "retry_after": _retry_after(rule.details or ()),
        "delay": list(rule.delay) if isinstance(rule.delay, tuple) else rule.delay or None,
        "workspace": rule.workspace,
        "cut": rule.cut,
        "after_handler": rule.after_handler or None,
        "after_messages": rule.after_messages,
        "after_seconds": rule.after_seconds,
        "skip": rule.skip or None,
        "probability": rule.probability if rule.probability < 1 else None,
        "times": "always" if rule.times is None else rule.times,
    }
    return {**asked, **{key: value for key, value in plain.items() if value is not None}, "seen": rule.seen, "hits": rule.hits}


def _retry_after(details: Iterable[Message]) -> float | None:
    return next((one.retry_after_secs for one in details if isinstance(one, api_pb2.RPCRetryPolicy)), None)


def _times(path: str, value: object) -> int:
    """Return the number, 0 for always."""
    if value == "always":
        return 0
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise FaultError(f"{path}: expected a whole number of at least 1, or always; got {value!r}")
    return value


def _status(path: str, value: object) -> Status | int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if value in _STATUSES:
        return _STATUSES[str(value)]
    near = difflib.get_close_matches(str(value).upper(), _STATUSES, 1)
    hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(_STATUSES)}"
    raise FaultError(f"{path}: no gRPC status is called {value!r}; {hint}")


def _where(path: str, value: object) -> dict[str, Expected]:
    return {str(key): _expected(f"{path}.{key}", one) for key, one in mapping(value, path).items()}


def _expected(path: str, value: object) -> Expected:
    if isinstance(value, str | int | float):
        return value
    if isinstance(value, Mapping) and set(value) == {"regex"} and isinstance(value["regex"], str):
        try:
            return re.compile(value["regex"])
        except re.error as error:
            raise FaultError(f"{path}.regex: {value['regex']!r} is no regular expression: {error}") from error
    raise FaultError(f"{path}: expected a value, or a mapping with 'regex'; got {value!r}")


_READERS: Mapping[str, Callable[[str, object], object]] = {
    "method": text,
    "where": _where,
    "workspace": text,
    "skip": whole,
    "times": _times,
    "probability": number,
    "delay": span,
    "status": _status,
    "message": text,
    "cut": text,
    "after_handler": flag,
    "after_messages": whole,
    "after_seconds": number,
}
