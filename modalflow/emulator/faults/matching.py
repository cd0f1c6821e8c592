"""Which calls a rule means: names of methods with wildcards, and values of the request's fields.

Flows in: patterns and field paths as a user writes them, and requests. Flows out: yes or no, and an error that says what is not
there. Field paths are protobuf's names with dots (``definition.resources.gpu_config.gpu_type``); a path through a repeated field
means any of its elements, and the part after a map field is a key.
"""

from __future__ import annotations

import difflib
import fnmatch
import re
from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

from google.protobuf.message import Message
from modal_proto import api_pb2
from modal_proto import task_command_router_pb2 as router_pb2
from modal_proto.api_grpc import ModalClientBase
from modal_proto.task_command_router_grpc import TaskCommandRouterBase

from modalflow.emulator.faults.errors import FaultError

Expected: TypeAlias = "str | int | float | bool | re.Pattern[str]"
"""A value that a field must have, or an expression that must be found in it. Enums are given by name."""

RPC_METHODS = ModalClientBase.__abstractmethods__ | TaskCommandRouterBase.__abstractmethods__
HTTP_METHODS = frozenset({"GET /block", "PUT /block", "GET /blob", "PUT /blob"})
"""What the block store serves: 8 MiB blocks of Volume files, and whole blobs."""

Descriptor: TypeAlias = Any
Field: TypeAlias = Any
"""protobuf has two kinds of each, with one interface."""

_REQUESTS: Mapping[str, Descriptor] = {
    method.name: method.input_type
    for file in (api_pb2.DESCRIPTOR, router_pb2.DESCRIPTOR)
    for service in file.services_by_name.values()
    for method in service.methods
}


def is_http(pattern: str) -> bool:
    """Whether a pattern means the block store: its names have a slash, those of RPCs have none."""
    return "/" in pattern


def matched_methods(pattern: str) -> list[str]:
    """Return the methods that a pattern means, sorted. ``FaultError`` if there is none."""
    names = HTTP_METHODS if is_http(pattern) else RPC_METHODS
    found = sorted(name for name in names if fnmatch.fnmatchcase(name, pattern))
    if found:
        return found
    if is_http(pattern):
        raise FaultError(f"the block store serves nothing called {pattern!r}; expected one of {', '.join(sorted(names))}")
    near = difflib.get_close_matches(pattern, sorted(names), 1)
    raise FaultError(f"no RPC is called {pattern!r}" + (f"; did you mean {near[0]!r}?" if near else ""))


def check_paths(pattern: str, where: Mapping[str, Expected]) -> None:
    """``FaultError`` for a path that the request of no method of ``pattern`` has."""
    if where and is_http(pattern):
        raise FaultError("where: requests to the block store have no fields; leave it out")
    for path in where:
        problems = [_missing(_REQUESTS[name], path) for name in matched_methods(pattern)]
        if all(problems):
            raise FaultError(f"where.{path}: {problems[0]}")


def _missing(descriptor: Descriptor, path: str) -> str:
    """Return what is wrong with a path in a message type; empty if nothing is."""
    at: Descriptor | None = descriptor
    parts = iter(path.split("."))
    for part in parts:
        if at is None:
            return f"nothing is below a plain value, but {part!r} is asked for"
        field = at.fields_by_name.get(part)
        if field is None:
            near = difflib.get_close_matches(part, list(at.fields_by_name), 1)
            return f"{at.name} has no field {part!r}" + (f"; did you mean {near[0]!r}?" if near else "")
        if _is_map(field):
            if next(parts, None) is None:
                return f"{part!r} is a map; write {path}.KEY"
            at = field.message_type.fields_by_name["value"].message_type
        else:
            at = field.message_type
    return "" if at is None else f"{at.name} is a message; write one of its fields: {', '.join(sorted(at.fields_by_name))}"


def matches(request: Message, where: Mapping[str, Expected]) -> bool:
    """Whether every path of ``where`` has its value somewhere in the request."""
    return all(any(_equals(value, expected) for value in _values(request, path.split("."))) for path, expected in where.items())


def _equals(value: object, expected: Expected) -> bool:
    if isinstance(expected, re.Pattern):
        return expected.search(str(value)) is not None
    if isinstance(value, bool) or isinstance(expected, bool):
        return value is expected
    return value == expected


def _values(message: Message, parts: list[str]) -> Iterator[object]:
    field: Field | None = message.DESCRIPTOR.fields_by_name.get(parts[0])
    if field is None:
        return
    value, rest = getattr(message, parts[0]), parts[1:]
    if _is_map(field):
        if rest and rest[0] in value:
            yield from _below(field.message_type.fields_by_name["value"], value[rest[0]], rest[1:])
    else:
        repeated = not isinstance(value, Message | str | bytes | int | float)
        for one in value if repeated else (value,):
            yield from _below(field, one, rest)


def _below(field: Field, value: object, rest: list[str]) -> Iterator[object]:
    if isinstance(value, Message):
        if rest:
            yield from _values(value, rest)
    elif field.enum_type is not None:
        known = field.enum_type.values_by_number.get(value)
        yield known.name if known else value
    elif isinstance(value, bytes):
        yield value.decode(errors="replace")
    else:
        yield value


def _is_map(field: Field) -> bool:
    return bool(field.message_type is not None and field.message_type.GetOptions().map_entry)
