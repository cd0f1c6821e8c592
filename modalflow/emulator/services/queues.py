"""Queues: found, made, listed; items put, taken, looked at, waited for."""

from __future__ import annotations

import asyncio
import contextlib

from google.protobuf.empty_pb2 import Empty
from grpclib import Status
from modal_proto import api_pb2

from modalflow.emulator.services.naming import creation_info, find_or_make, fresh
from modalflow.emulator.state.queues import ModalQueue, QueueFullError, QueueItem, QueueItemError, check_partition
from modalflow.emulator.state.store import Workspace
from modalflow.emulator.wire import Call, Service, Stream, create, fail, received, unary

LONG_POLL_SECONDS = 55.0
"""No call waits longer; modal 1.6.4 asks for at most 50 s."""
MAX_REQUEST_BYTES = 100 * 1024 * 1024
LOOKED_AT = 500
"""Items that one ``QueueNextItems`` returns at most; the client asks again from the last one."""


class Queues(Service):
    """Queue*."""

    @create
    async def QueueGetOrCreate(self, request: api_pb2.QueueGetOrCreateRequest, call: Call) -> api_pb2.QueueGetOrCreateResponse:
        """Find or make a Queue, as the creation type says."""

        def make(environment: str, name: str) -> ModalQueue:
            object_id, created_at = fresh(call.workspace, "qu")
            return ModalQueue(
                object_id=object_id, name=name, environment=environment, created_at=created_at, heard_at=self.core.clock.time()
            )

        found, made = find_or_make(self.core, call.workspace.queues, "Queue", call, request, make)
        if made:
            self.core.state_changed(call.workspace, found)
        return api_pb2.QueueGetOrCreateResponse(queue_id=found.object_id, metadata=_metadata(call.workspace, found))

    @unary
    async def QueueGetById(self, request: api_pb2.QueueGetByIdRequest, call: Call) -> api_pb2.QueueGetByIdResponse:
        """Find a Queue by id."""
        found = self._queue(call, request.queue_id)
        return api_pb2.QueueGetByIdResponse(queue_id=found.object_id, metadata=_metadata(call.workspace, found))

    @unary
    async def QueueHeartbeat(self, request: api_pb2.QueueHeartbeatRequest, call: Call) -> Empty:
        """Hear that an ephemeral Queue is still in use."""
        self._queue(call, request.queue_id).heard_at = self.core.clock.time()
        return Empty()

    @unary
    async def QueueList(self, request: api_pb2.QueueListRequest, call: Call) -> api_pb2.QueueListResponse:
        """List named Queues, the newest first, in pages, with their partitions and items counted."""
        environment = call.environment(request.environment_name)
        now = self.core.clock.time()
        page = call.workspace.queues.page(
            environment, before=request.pagination.created_before, limit=request.pagination.max_objects or 100
        )
        most = request.total_size_limit or 2**31 - 1
        return api_pb2.QueueListResponse(
            queues=[
                api_pb2.QueueListResponse.QueueInfo(
                    name=one.name,
                    created_at=one.created_at,
                    num_partitions=len(one.live(now)),
                    total_size=min(one.count(None, now), most),
                    queue_id=one.object_id,
                    metadata=_metadata(call.workspace, one),
                )
                for one in page
            ]
        )

    @create
    async def QueueDelete(self, request: api_pb2.QueueDeleteRequest, call: Call) -> Empty:
        """Delete a Queue with its items; who waits for one is told."""
        found = self._queue(call, request.queue_id)
        call.workspace.queues.remove(found.object_id)
        self.core.arrivals.closed(found.object_id)
        self.core.state_changed(call.workspace, found)
        return Empty()

    # -- items

    @create
    async def QueuePut(self, request: api_pb2.QueuePutRequest, call: Call) -> Empty:
        """Add items to the end of a partition, all or, where there is no room, none (RESOURCE_EXHAUSTED)."""
        queue = self._queue(call, request.queue_id)
        if (size := request.ByteSize()) > MAX_REQUEST_BYTES:
            # The client reads these words, which the proxy before Modal's servers answers with, as RequestSizeError.
            fail(Status.INVALID_ARGUMENT, f"Received :status = '413': {size} bytes, at most {MAX_REQUEST_BYTES} are taken")
        try:
            queue.put(request.partition_key, request.values, self.core.clock.time(), ttl=request.partition_ttl_seconds)
        except QueueItemError as error:
            fail(Status.INVALID_ARGUMENT, str(error))
        except QueueFullError as error:
            # Without details: the client of a blocking put retries by itself, that of another tells its user.
            fail(Status.RESOURCE_EXHAUSTED, str(error))
        self.core.arrivals.arrived((queue.object_id, request.partition_key), len(request.values))
        self.core.state_changed(call.workspace, queue)
        return Empty()

    async def QueueGet(self, stream: Stream) -> None:
        """Remove and return up to ``n_values`` items, waiting ``timeout`` seconds for the first one.

        Items whose caller has gone before the answer could be sent are put back where they were.
        """
        request, call = await received(self, stream)
        queue = self._queue(call, request.queue_id)
        place = (queue.object_id, _partition(request.partition_key))
        items = await self._taken(call, place, request.n_values or 1, request.timeout)
        try:
            await stream.send_message(api_pb2.QueueGetResponse(values=[item.value for item in items]))
        except BaseException:
            queue.put_back(place[1], items, self.core.clock.time())
            self.core.arrivals.arrived(place, len(items))
            raise
        if items:
            self.core.state_changed(call.workspace, queue)

    async def _taken(self, call: Call, place: tuple[str, bytes], count: int, seconds: float) -> list[QueueItem]:
        items = self._queue(call, place[0]).take(place[1], count, self.core.clock.time())
        if items or seconds <= 0:
            return items
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(min(seconds, LONG_POLL_SECONDS)):
                while not items:
                    await self.core.arrivals.take_turn(place)
                    items = self._queue(call, place[0]).take(place[1], count, self.core.clock.time())
        return items

    @unary
    async def QueueNextItems(self, request: api_pb2.QueueNextItemsRequest, call: Call) -> api_pb2.QueueNextItemsResponse:
        """Return items after ``last_entry_id`` without removing them, waiting ``item_poll_timeout`` seconds for one."""
        place = (request.queue_id, _partition(request.partition_key))
        if not (request.last_entry_id or "0").isdecimal():
            fail(Status.INVALID_ARGUMENT, f"last_entry_id: expected what an item came with, got {request.last_entry_id!r}")
        last = int(request.last_entry_id or 0)
        items = self._queue(call, place[0]).after(place[1], last, self.core.clock.time(), limit=LOOKED_AT)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(min(request.item_poll_timeout, LONG_POLL_SECONDS)):
                while not items and request.item_poll_timeout > 0:
                    await self.core.arrivals.watch(place)
                    items = self._queue(call, place[0]).after(place[1], last, self.core.clock.time(), limit=LOOKED_AT)
        return api_pb2.QueueNextItemsResponse(
            items=[api_pb2.QueueItem(value=item.value, entry_id=str(item.number)) for item in items]
        )

    @unary
    async def QueueLen(self, request: api_pb2.QueueLenRequest, call: Call) -> api_pb2.QueueLenResponse:
        """Count the items of a partition, or of all."""
        key = None if request.total else _partition(request.partition_key)
        return api_pb2.QueueLenResponse(len=self._queue(call, request.queue_id).count(key, self.core.clock.time()))

    @unary
    async def QueueClear(self, request: api_pb2.QueueClearRequest, call: Call) -> Empty:
        """Drop the items of a partition, or of all."""
        queue = self._queue(call, request.queue_id)
        queue.clear(None if request.all_partitions else _partition(request.partition_key))
        self.core.state_changed(call.workspace, queue)
        return Empty()

    def _queue(self, call: Call, queue_id: str) -> ModalQueue:
        found = call.workspace.queues.get(queue_id, self.core.clock.time())
        if found is None:
            fail(Status.NOT_FOUND, f"Queue '{queue_id}' not found")
        return found


def _partition(key: bytes) -> bytes:
    try:
        check_partition(key)
    except QueueItemError as error:
        fail(Status.INVALID_ARGUMENT, str(error))
    return key


def _metadata(workspace: Workspace, one: ModalQueue) -> api_pb2.QueueMetadata:
    return api_pb2.QueueMetadata(name=one.name, creation_info=creation_info(workspace, one))
