"""Dicts: found, made, listed, and their entries read and written."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from google.protobuf.empty_pb2 import Empty
from grpclib import Status
from modal_proto import api_pb2

from modalflow.emulator.services.naming import creation_info, find_or_make, fresh
from modalflow.emulator.state.dicts import ModalDict
from modalflow.emulator.state.store import Workspace
from modalflow.emulator.wire import Call, Service, create, fail, streaming, unary

MAX_UPDATE_ENTRIES = 10_000
MAX_UPDATE_BYTES = 100 * 1024 * 1024
"""Entries of one update, and bytes of one object (https://modal.com/docs/guide/dicts, read 2026-11)."""


class Dicts(Service):
    """Dict*."""

    @create
    async def DictGetOrCreate(self, request: api_pb2.DictGetOrCreateRequest, call: Call) -> api_pb2.DictGetOrCreateResponse:
        """Find or make a Dict, as the creation type says; ``data`` fills a new one."""

        def make(environment: str, name: str) -> ModalDict:
            object_id, created_at = fresh(call.workspace, "di")
            return ModalDict(
                object_id=object_id, name=name, environment=environment, created_at=created_at, heard_at=self.core.clock.time()
            )

        found, made = find_or_make(self.core, call.workspace.dicts, "Dict", call, request, make)
        if made:
            found.update(_entries(request.data), self.core.clock.time(), if_not_exists=False)
            self.core.state_changed(call.workspace, found)
        return api_pb2.DictGetOrCreateResponse(dict_id=found.object_id, metadata=_metadata(call.workspace, found))

    @unary
    async def DictGetById(self, request: api_pb2.DictGetByIdRequest, call: Call) -> api_pb2.DictGetByIdResponse:
        """Find a Dict by id."""
        found = self._dict(call, request.dict_id)
        return api_pb2.DictGetByIdResponse(dict_id=found.object_id, metadata=_metadata(call.workspace, found))

    @unary
    async def DictHeartbeat(self, request: api_pb2.DictHeartbeatRequest, call: Call) -> Empty:
        """Hear that an ephemeral Dict is still in use."""
        self._dict(call, request.dict_id).heard_at = self.core.clock.time()
        return Empty()

    @unary
    async def DictList(self, request: api_pb2.DictListRequest, call: Call) -> api_pb2.DictListResponse:
        """List named Dicts, the newest first, in pages."""
        environment = call.environment(request.environment_name)
        page = call.workspace.dicts.page(
            environment, before=request.pagination.created_before, limit=request.pagination.max_objects or 100
        )
        return api_pb2.DictListResponse(
            environment_name=environment,
            dicts=[
                api_pb2.DictListResponse.DictInfo(
                    name=one.name, created_at=one.created_at, dict_id=one.object_id, metadata=_metadata(call.workspace, one)
                )
                for one in page
            ],
        )

    @create
    async def DictDelete(self, request: api_pb2.DictDeleteRequest, call: Call) -> Empty:
        """Delete a Dict with its entries."""
        found = self._dict(call, request.dict_id)
        call.workspace.dicts.remove(found.object_id)
        self.core.state_changed(call.workspace, found)
        return Empty()

    # -- entries

    @unary
    async def DictGet(self, request: api_pb2.DictGetRequest, call: Call) -> api_pb2.DictGetResponse:
        """Return the value of a key, or that there is none."""
        value = self._dict(call, request.dict_id).get(request.key, self.core.clock.time())
        return api_pb2.DictGetResponse(found=value is not None, value=value)

    @unary
    async def DictContains(self, request: api_pb2.DictContainsRequest, call: Call) -> api_pb2.DictContainsResponse:
        """Tell whether a key is there."""
        value = self._dict(call, request.dict_id).get(request.key, self.core.clock.time())
        return api_pb2.DictContainsResponse(found=value is not None)

    @create
    async def DictUpdate(self, request: api_pb2.DictUpdateRequest, call: Call) -> api_pb2.DictUpdateResponse:
        """Set entries, with ``if_not_exists`` only those that are missing; tell whether any was set."""
        if len(request.updates) > MAX_UPDATE_ENTRIES:
            fail(
                Status.INVALID_ARGUMENT, f"Dict.update: at most {MAX_UPDATE_ENTRIES} entries at once, got {len(request.updates)}"
            )
        size = request.ByteSize()
        if size > MAX_UPDATE_BYTES:
            # The client reads these words, which the proxy before Modal's servers answers with, as RequestSizeError.
            fail(Status.INVALID_ARGUMENT, f"Received :status = '413': {size} bytes, at most {MAX_UPDATE_BYTES} are taken")
        found = self._dict(call, request.dict_id)
        created = found.update(_entries(request.updates), self.core.clock.time(), if_not_exists=request.if_not_exists)
        self.core.state_changed(call.workspace, found)
        return api_pb2.DictUpdateResponse(created=created)

    @unary
    async def DictPop(self, request: api_pb2.DictPopRequest, call: Call) -> api_pb2.DictPopResponse:
        """Remove a key and return its value, or that there is none."""
        found = self._dict(call, request.dict_id)
        value = found.pop(request.key, self.core.clock.time())
        self.core.state_changed(call.workspace, found)
        return api_pb2.DictPopResponse(found=value is not None, value=value)

    @unary
    async def DictClear(self, request: api_pb2.DictClearRequest, call: Call) -> Empty:
        """Remove all entries."""
        found = self._dict(call, request.dict_id)
        found.clear()
        self.core.state_changed(call.workspace, found)
        return Empty()

    @unary
    async def DictLen(self, request: api_pb2.DictLenRequest, call: Call) -> api_pb2.DictLenResponse:
        """Count the entries, up to 100,000."""
        return api_pb2.DictLenResponse(len=self._dict(call, request.dict_id).count(self.core.clock.time()))

    @streaming
    async def DictContents(self, request: api_pb2.DictContentsRequest, call: Call) -> AsyncIterator[api_pb2.DictEntry]:
        """Stream the entries as they were at the call, their keys, values, or both."""
        for key, value in self._dict(call, request.dict_id).items(self.core.clock.time()):
            yield api_pb2.DictEntry(key=key if request.keys else b"", value=value if request.values else b"")

    def _dict(self, call: Call, dict_id: str) -> ModalDict:
        found = call.workspace.dicts.get(dict_id, self.core.clock.time())
        if found is None:
            fail(Status.NOT_FOUND, f"Dict '{dict_id}' not found")
        return found


def _entries(entries: Sequence[api_pb2.DictEntry]) -> dict[bytes, bytes]:
    return {entry.key: entry.value for entry in entries}


def _metadata(workspace: Workspace, one: ModalDict) -> api_pb2.DictMetadata:
    return api_pb2.DictMetadata(name=one.name, creation_info=creation_info(workspace, one))
