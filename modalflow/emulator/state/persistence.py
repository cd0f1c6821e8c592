"""What outlives an emulator that was given a ``state_dir``: every change is written before the caller hears of it.

Flows in: the store, and after each change the records that it concerned. Flows out: rows of a ``StateFolder``, and at the next
start the store as it was. ``families`` says which kinds of records there are. The contents that they refer to lie in ``blobs/``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from modalflow.emulator.state.families import FAMILIES
from modalflow.emulator.state.family import Family
from modalflow.emulator.state.state_folder import Change, Row, StateError, StateFolder
from modalflow.emulator.state.store import Store, Workspace

_BY_TYPE: dict[type, Family[Any]] = {family.type: family for family in FAMILIES}
_CREDENTIALS = "credentials"


class Persistence:
    """The store's copy on disk."""

    def __init__(self, state: StateFolder, store: Store) -> None:
        self._state = state
        self._store = store
        self._place = state.last_place()

    # -- reading

    def load(self) -> None:
        """Fill the empty store. ``StateError`` for a record that cannot be read; nothing is written or removed then."""
        for family in FAMILIES:
            self._load(family)

    def _load(self, family: Family[Any]) -> None:
        records: dict[tuple[str, str], Any] = {}
        for row in self._state.rows(family.name):
            key = (row.workspace, row.id)
            try:
                if not row.part:
                    records[key] = family.load(json.loads(row.data))
                    family.add(self._store.workspace(row.workspace), records[key])
                elif family.parts is not None:
                    family.parts.load(records[key], row.part, row.data)
            except (LookupError, TypeError, ValueError) as error:
                raise StateError(
                    f"state_dir: {str(self._state.file)!r} holds a {family.name} {row.id!r} that cannot be read ({error!r}); "
                    "it is left as it is: put a copy of the folder back, or use a new one"
                ) from error
        for record in records.values():
            if family.parts is not None:
                family.parts.journal(record).written()

    def digests(self) -> set[str]:
        """Every blob that a record of any workspace refers to."""
        return {
            digest
            for workspace in self._store.workspaces.values()
            for family in FAMILIES
            for record in family.records(workspace).values()
            for digest in family.digests(record)
        }

    # -- writing

    def keep(self, workspace: Workspace, *records: object) -> None:
        """Write those records as they are now, or remove them if they are not the workspace's any more; all of it without any.

        ``StateError`` if that is not possible; the next ``keep`` of the same records makes up for it.
        """
        with self._state.change() as change:
            if records:
                for record in records:
                    self._keep(change, workspace, _BY_TYPE[type(record)], record)
            else:
                self._keep_all(change, workspace)
        for record in records or self._all(workspace):
            family = _BY_TYPE[type(record)]
            if family.parts is not None and family.dump(record) is not None:
                family.parts.journal(record).written()

    def _keep(self, change: Change, workspace: Workspace, family: Family[Any], record: object) -> None:
        record_id = family.id(record)
        data = family.dump(record) if family.records(workspace).get(record_id) is record else None
        if data is None:
            change.drop(workspace.name, family.name, record_id)
            return
        change.put([self._row(workspace, family.name, record_id, "", json.dumps(data).encode())])
        if family.parts is None:
            return
        keys = family.parts.journal(record).keys
        contents = {key: family.parts.dump(record, key) for key in (family.parts.keys(record) if keys is None else keys)}
        change.put(
            self._row(workspace, family.name, record_id, key, content) for key, content in contents.items() if content is not None
        )
        change.drop_parts(workspace.name, family.name, record_id, (key for key, content in contents.items() if content is None))

    def _keep_all(self, change: Change, workspace: Workspace) -> None:
        for family in FAMILIES:
            records = family.records(workspace)
            for gone in change.ids(workspace.name, family.name) - set(records):
                change.drop(workspace.name, family.name, gone)
            for record in records.values():
                self._keep(change, workspace, family, record)

    @staticmethod
    def _all(workspace: Workspace) -> Iterator[object]:
        for family in FAMILIES:
            yield from family.records(workspace).values()

    def _row(self, workspace: Workspace, family: str, record_id: str, part: str, data: bytes) -> Row:
        self._place += 1
        return Row(workspace=workspace.name, family=family, id=record_id, part=part, place=self._place, data=data)


def kept_credentials(state: StateFolder) -> tuple[str, str] | None:
    """Return the token id and secret that the folder's emulator made up, if it did."""
    for row in state.rows(_CREDENTIALS):
        token_id, token_secret = json.loads(row.data)
        return str(token_id), str(token_secret)
    return None


def keep_credentials(state: StateFolder, token_id: str, token_secret: str) -> None:
    """Keep made-up credentials, so that a restart accepts the same."""
    data = json.dumps([token_id, token_secret]).encode()
    with state.change() as change:
        change.put([Row(workspace="", family=_CREDENTIALS, id="token", part="", place=0, data=data)])
