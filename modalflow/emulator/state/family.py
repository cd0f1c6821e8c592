"""How one kind of record outlives the emulator: a ``Family`` stands beside the dataclass and is listed in ``families``.

Flows in: records as the services change them. Flows out: plain data that ``persistence`` writes, and records read back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from modalflow.emulator.state.journal import Journal
from modalflow.emulator.state.store import Workspace

T = TypeVar("T")

Data = Mapping[str, Any]
"""What JSON can hold, by field."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Parts(Generic[T]):
    """What of a record is written piece by piece: a Volume's files, a Dict's entries.

    ``journal``: what changed. ``keys``: all there are. ``dump``: one as bytes, ``None`` if it is gone. ``load``: put one
    back; keys come sorted. A key is never empty.
    """

    journal: Callable[[T], Journal]
    keys: Callable[[T], Iterable[str]]
    dump: Callable[[T, str], bytes | None]
    load: Callable[[T, str, bytes], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Family(Generic[T]):
    """One kind of record.

    ``records``: those of a workspace by id. ``add``: take one back in. ``dump``: its fields, ``None`` if it ends with the
    emulator. ``digests``: the blobs that it refers to; the others are removed.
    """

    name: str
    type: type[T]
    id: Callable[[T], str]
    records: Callable[[Workspace], Mapping[str, T]]
    add: Callable[[Workspace, T], None]
    dump: Callable[[T], Data | None]
    load: Callable[[Data], T]
    digests: Callable[[T], Iterable[str]] = lambda _record: ()
    parts: Parts[T] | None = None
