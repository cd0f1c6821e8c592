"""Queues: order, partitions, waiting, limits, and what is told where there is no room or nothing to get."""

from __future__ import annotations

import asyncio
import queue
from concurrent.futures import ThreadPoolExecutor

import modal
import pytest
from google.protobuf.message import Message
from grpclib import Status
from modal.exception import AlreadyExistsError, InvalidError, NotFoundError, RequestSizeError
from modal_proto import api_pb2

from modalflow.emulator import EmulatorThread
from modalflow.emulator.machines.arrivals import Arrivals
from modalflow.emulator.services import queues as service
from modalflow.emulator.state import queues as state
from modalflow.emulator.state.queues import DEFAULT_TTL_SECONDS, ModalQueue, QueueFullError
from tests.emulator.conftest import Eventually, connect, rpc


@pytest.fixture
def named(workspace_client: modal.Client) -> modal.Queue:
    return modal.Queue.from_name("a-queue", create_if_missing=True, client=workspace_client)


def calls(emulator: EmulatorThread, method: str, one: modal.Queue) -> list[Message]:
    return [call for call in emulator.calls(method) if call.queue_id == one.object_id]  # type: ignore[attr-defined]


def test_first_in_first_out(named: modal.Queue) -> None:
    named.put_many([1, "two", None])
    named.put(4)
    assert named.len() == 4
    assert [named.get(), named.get_many(2), named.get(block=False)] == [1, ["two", None], 4]
    assert (named.get(block=False), named.get_many(5, block=False), named.len()) == (None, [], 0)
    with pytest.raises(queue.Empty):
        named.get(timeout=0)


def test_partitions_are_independent(named: modal.Queue) -> None:
    named.put(0)
    named.put_many([1, 2], partition="p")
    named.put(3, partition="ä" * 32)
    assert (named.len(), named.len(partition="p"), named.len(total=True)) == (1, 2, 4)
    assert named.get(partition="p") == 1
    named.clear(partition="p")
    assert (named.len(partition="p"), named.get(block=False, partition="p"), named.len(total=True)) == (0, None, 2)
    named.clear(all=True)
    assert named.len(total=True) == 0


def test_iterate_leaves_the_items_and_goes_on_with_new_ones(named: modal.Queue) -> None:
    named.put_many(list(range(1200)))
    assert list(named.iterate()) == list(range(1200))
    assert named.len() == 1200
    seen = named.iterate(item_poll_timeout=20.0, partition="p")
    named.put("first", partition="p")
    assert next(seen) == "first"
    named.put("second", partition="p")
    assert next(seen) == "second"
    assert list(named.iterate(item_poll_timeout=0.01, partition="p")) == ["first", "second"]


def test_a_get_waits_for_a_put_and_each_item_goes_to_one(
    named: modal.Queue, shared_emulator: EmulatorThread, eventually: Eventually
) -> None:
    named.hydrate()
    with ThreadPoolExecutor(3) as threads:
        getters = [threads.submit(named.get, timeout=20) for _ in range(3)]
        eventually(lambda: len(calls(shared_emulator, "QueueGet", named)) == 3)
        named.put_many([1, 2])
        named.put(3)
        assert {getter.result() for getter in getters} == {1, 2, 3}


def test_a_getter_that_left_takes_nothing_with_it(
    named: modal.Queue, shared_emulator: EmulatorThread, eventually: Eventually
) -> None:
    named.hydrate()

    async def leave() -> None:
        getter = asyncio.ensure_future(named.get.aio(timeout=20))
        await asyncio.to_thread(eventually, lambda: bool(calls(shared_emulator, "QueueGet", named)))
        getter.cancel()
        with pytest.raises(asyncio.CancelledError):
            await getter

    asyncio.run(leave())
    named.put("kept")
    assert named.get(timeout=20) == "kept"


def test_a_full_queue(named: modal.Queue, monkeypatch: pytest.MonkeyPatch, shared_emulator: EmulatorThread) -> None:
    monkeypatch.setattr(state, "MAX_ITEMS", 2)
    named.put_many([1, 2], block=False)
    with pytest.raises(queue.Full, match="Queue is full: a partition holds at most 2 items, this one has 2"):
        named.put(3, block=False)
    with pytest.raises(queue.Full, match="Queue is full"):
        named.put(3, timeout=0.01)
    named.put(3, block=False, partition="another")
    named.get()
    with pytest.raises(queue.Full):
        named.put_many([3, 4], block=False)
    assert named.len() == 1


def test_a_put_that_waits_for_room_gets_it(
    named: modal.Queue, monkeypatch: pytest.MonkeyPatch, shared_emulator: EmulatorThread, eventually: Eventually
) -> None:
    monkeypatch.setattr(state, "MAX_ITEMS", 1)
    named.put(1)

    with ThreadPoolExecutor(1) as threads:
        put = threads.submit(named.put, 2, timeout=20)
        eventually(lambda: len(calls(shared_emulator, "QueuePut", named)) > 1)
        assert named.get() == 1
        put.result()
    assert named.get(timeout=20) == 2


def test_items_and_requests_that_are_too_large(named: modal.Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidError, match=r"Queue item of \d+ bytes: an item may have at most 1048576"):
        named.put(b"x" * (1024 * 1024 + 1))
    monkeypatch.setattr(service, "MAX_REQUEST_BYTES", 1000)
    with pytest.raises(RequestSizeError, match=r"Queue\.put_many request is too large"):
        named.put_many([b"x" * 600, b"x" * 600])
    assert named.len() == 0


def test_a_retried_put_adds_its_items_once(named: modal.Queue, shared_emulator: EmulatorThread) -> None:
    named.hydrate()
    fault = shared_emulator.faults.add("QueuePut", status=Status.UNAVAILABLE, after_handler=True)
    named.put("once")
    assert (named.len(), fault.hits) == (1, 1)


def test_a_queue_is_found_made_and_deleted_by_name(workspace_client: modal.Client) -> None:
    objects = modal.Queue.objects
    objects.create("one", client=workspace_client)
    with pytest.raises(AlreadyExistsError, match="Queue 'one' already exists"):
        objects.create("one", client=workspace_client)
    found = modal.Queue.from_name("one", client=workspace_client)
    info = found.info()
    assert (info.name, info.created_by) == ("one", "emulator")
    same = modal.Queue.from_id(found.object_id, client=workspace_client)
    same.put(1)
    assert found.get() == 1
    assert [one.name for one in objects.list(client=workspace_client)] == ["one"]
    objects.delete("one", client=workspace_client)
    with pytest.raises(NotFoundError, match="Queue 'one' not found in environment 'main'"):
        objects.delete("one", client=workspace_client)
    objects.delete("one", allow_missing=True, client=workspace_client)


def test_who_waits_at_a_queue_that_is_deleted_is_told(
    workspace_client: modal.Client, named: modal.Queue, shared_emulator: EmulatorThread, eventually: Eventually
) -> None:
    named.hydrate()
    with ThreadPoolExecutor(1) as threads:
        getter = threads.submit(named.get, timeout=20)
        eventually(lambda: bool(calls(shared_emulator, "QueueGet", named)))
        modal.Queue.objects.delete("a-queue", client=workspace_client)
        with pytest.raises(NotFoundError):
            getter.result()


def test_counts_of_the_list(named: modal.Queue, workspace_client: modal.Client) -> None:
    named.put_many([1, 2, 3])
    named.put(4, partition="p")
    listed = rpc(workspace_client, "QueueList", api_pb2.QueueListRequest(total_size_limit=3))
    assert [(one.num_partitions, one.total_size) for one in listed.queues] == [(2, 3)]


def test_an_ephemeral_queue(workspace_client: modal.Client, shared_emulator: EmulatorThread, eventually: Eventually) -> None:
    with modal.Queue.ephemeral(client=workspace_client) as one:
        one.put(1)
        assert one.get() == 1
        assert modal.Queue.objects.list(client=workspace_client) == []
        beat = api_pb2.QueueHeartbeatRequest(queue_id=one.object_id)
        eventually(lambda: beat in shared_emulator.calls("QueueHeartbeat"))


@pytest.mark.parametrize(
    ("method", "request_"),
    [
        ("QueuePut", api_pb2.QueuePutRequest(partition_key=b"x" * 65, values=[b""])),
        ("QueueGet", api_pb2.QueueGetRequest(partition_key=b"x" * 65)),
        ("QueuePut", api_pb2.QueuePutRequest(values=[b""], partition_ttl_seconds=-1)),
        ("QueueNextItems", api_pb2.QueueNextItemsRequest(last_entry_id="no-number")),
    ],
)
def test_requests_that_the_python_client_never_makes(
    named: modal.Queue, workspace_client: modal.Client, method: str, request_: api_pb2.QueuePutRequest
) -> None:
    named.hydrate()
    request_.queue_id = named.object_id
    with pytest.raises(InvalidError):
        rpc(workspace_client, method, request_)


def test_workspaces_do_not_see_each_others_queues(named: modal.Queue, shared_emulator: EmulatorThread) -> None:
    named.put(1)
    other = connect(shared_emulator, MODAL_TOKEN_ID="ak-other", MODAL_TOKEN_SECRET="as-other")
    with pytest.raises(NotFoundError):
        modal.Queue.from_id(named.object_id, client=other).get(block=False)
    other.close()
    assert named.len() == 1


def test_a_partition_ends_by_the_emulators_clock(named: modal.Queue, shared_emulator: EmulatorThread) -> None:
    named.put(1)
    named.put(2, partition="short", partition_ttl=60)
    shared_emulator.clock.advance(61)
    assert (named.len(), named.len(partition="short"), named.len(total=True)) == (1, 0, 1)
    shared_emulator.clock.advance(DEFAULT_TTL_SECONDS)
    assert (named.get(block=False), named.len(total=True)) == (None, 0)


# -- time and order, without a client


def modal_queue() -> ModalQueue:
    return ModalQueue(object_id="qu-1", name="q", environment="main", created_at=0.0, heard_at=0.0)


def test_a_partition_ends_a_day_after_its_last_put_or_as_it_was_told() -> None:
    one = modal_queue()
    one.put(b"", [b"1"], 0.0, ttl=0)
    one.put(b"short", [b"1"], 0.0, ttl=10)
    assert one.live(9.0) == [b"", b"short"]
    assert one.live(10.0) == [b""]
    one.put(b"", [b"2"], DEFAULT_TTL_SECONDS - 1.0, ttl=0)
    assert one.count(b"", DEFAULT_TTL_SECONDS * 2 - 2.0) == 2
    assert one.take(b"", 5, DEFAULT_TTL_SECONDS * 2) == []


def test_what_could_not_be_delivered_comes_first_again() -> None:
    one = modal_queue()
    one.put(b"", [b"1", b"2", b"3"], 0.0, ttl=0)
    taken = one.take(b"", 2, 0.0)
    one.put_back(b"", taken, 0.0)
    assert [item.value for item in one.take(b"", 3, 0.0)] == [b"1", b"2", b"3"]
    one.put_back(b"", taken, 0.0)
    assert one.count(None, 0.0) == 2


def test_a_partition_is_full_by_its_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "MAX_PARTITION_BYTES", 10)
    one = modal_queue()
    one.put(b"", [b"12345", b"12345"], 0.0, ttl=0)
    with pytest.raises(QueueFullError, match="at most 10 bytes"):
        one.put(b"", [b"1"], 0.0, ttl=0)
    one.take(b"", 1, 0.0)
    one.put(b"", [b"1"], 0.0, ttl=0)
    monkeypatch.setattr(state, "MAX_PARTITIONS", 1)
    with pytest.raises(QueueFullError, match="at most 1 partitions"):
        one.put(b"p", [b"1"], 0.0, ttl=0)


def test_takers_are_woken_in_their_order_and_one_who_leaves_passes_it_on() -> None:
    arrivals, place = Arrivals(), ("qu-1", b"")

    async def scene() -> None:
        first, second, third = (asyncio.ensure_future(arrivals.take_turn(place)) for _ in range(3))
        watcher = asyncio.ensure_future(arrivals.watch(place))
        await asyncio.sleep(0)
        arrivals.arrived(place, 1)
        first.cancel()
        await asyncio.wait([first, second, watcher])
        assert (first.cancelled(), second.done(), watcher.done(), third.done()) == (True, True, True, False)
        arrivals.closed("qu-1")
        await third

    asyncio.run(scene())
    assert (arrivals._takers, arrivals._watchers) == ({}, {})
