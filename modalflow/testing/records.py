"""Looking for a sandbox among those that were created, and saying what the nearest one lacks.

Flows in: ``SandboxRecord``s and what is wanted of one. Flows out: the records that have it, or a text for the failed assertion.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from modalflow.emulator.introspection import SandboxRecord
from modalflow.emulator.state.gpus import UnknownGpuError, canonical

_NEAREST = 3


def _gpu(wanted: object, record: SandboxRecord) -> bool:
    if wanted is None or record.gpu is None:
        return wanted is record.gpu
    name, _, count = str(wanted).partition(":")
    has, _, has_count = record.gpu.partition(":")
    try:
        return (canonical(name), count or "1") == (canonical(has), has_count)
    except UnknownGpuError:
        return False


def _subset(wanted: object, has: Mapping[str, str]) -> bool:
    return isinstance(wanted, Mapping) and wanted.items() <= has.items()


_WANTED: Mapping[str, tuple[Callable[[Any, SandboxRecord], bool], Callable[[SandboxRecord], object]]] = {
    "gpu": (_gpu, lambda one: one.gpu),
    "cpu": (lambda wanted, one: round(wanted * 1000) == one.milli_cpu, lambda one: one.milli_cpu / 1000),
    "memory": (lambda wanted, one: wanted == one.memory_mb, lambda one: one.memory_mb),
    "image": (lambda wanted, one: wanted in one.image, lambda one: one.image),
    "env": (lambda wanted, one: {wanted} <= {*one.env_names} if isinstance(wanted, str) else {*wanted} <= {*one.env_names},
            lambda one: sorted(one.env_names)),
    "tags": (lambda wanted, one: _subset(wanted, one.tags), lambda one: dict(one.tags)),
    "volumes": (lambda wanted, one: _subset(wanted, one.volumes), lambda one: dict(one.volumes)),
    "argv": (lambda wanted, one: [*wanted] == [*one.argv], lambda one: list(one.argv)),
    "timeout": (lambda wanted, one: wanted == one.timeout, lambda one: one.timeout),
    "workdir": (lambda wanted, one: wanted == one.workdir, lambda one: one.workdir),
    "region": (lambda wanted, one: wanted in one.regions, lambda one: list(one.regions)),
    "name": (lambda wanted, one: wanted == one.name, lambda one: one.name),
    "app": (lambda wanted, one: wanted == one.app, lambda one: one.app),
    "status": (lambda wanted, one: wanted == one.status, lambda one: one.status),
    "exit_code": (lambda wanted, one: wanted == one.exit_code, lambda one: one.exit_code),
}  # fmt: skip
"""What can be wanted: whether a record has it, and what it has instead."""


def matching(records: Iterable[SandboxRecord], wanted: Mapping[str, object]) -> list[SandboxRecord]:
    """Return the records that have all that is wanted. ``TypeError`` for what cannot be wanted."""
    for key in wanted:
        if key not in _WANTED:
            near = difflib.get_close_matches(key, _WANTED, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"expected one of {', '.join(_WANTED)}"
            raise TypeError(f"sandboxes have no {key!r}; {hint}")
    return [record for record in records if not _lacking(record, wanted)]


def _lacking(record: SandboxRecord, wanted: Mapping[str, object]) -> list[str]:
    return [key for key, value in wanted.items() if not _WANTED[key][0](value, record)]


def failure(records: Sequence[SandboxRecord], wanted: Mapping[str, object], found: int, times: int | None) -> str:
    """Return why an assertion failed: how many there are, and of the nearest ones what is different."""
    what = ", ".join(f"{key}={value!r}" for key, value in wanted.items()) or "anything"
    number = "at least one sandbox" if times is None else f"{times} sandbox{'' if times == 1 else 'es'}"
    lines = [f"expected {number} created with {what}; found {found} of {len(records)}"]
    others = [record for record in records if _lacking(record, wanted)]
    for record in sorted(others, key=lambda one: len(_lacking(one, wanted)))[:_NEAREST]:
        label = f"{record.sandbox_id} {record.name}".rstrip()
        differences = [f"{key} is {_WANTED[key][1](record)!r}, not {wanted[key]!r}" for key in _lacking(record, wanted)]
        lines.append(f"  {label}: {'; '.join(differences)}")
    return "\n".join(lines)
