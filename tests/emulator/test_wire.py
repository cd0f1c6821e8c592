"""What is true of every call: who may make it, retries, faults, and what is not served."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable

import modal
import modal.exception
import pytest
from grpclib import GRPCError, Status
from grpclib.client import Channel
from modal_proto import api_pb2
from modal_proto import task_command_router_pb2 as router_pb2
from modal_proto.api_grpc import ModalClientStub
from modal_proto.task_command_router_grpc import TaskCommandRouterStub

from modalflow.emulator import EmulatorThread
from tests.emulator.conftest import Sandboxes, StartEmulator, connect


def test_a_wrong_token_is_refused(start_emulator: StartEmulator) -> None:
    emulator = start_emulator()
    for wrong in ({"MODAL_TOKEN_SECRET": "as-wrong"}, {"MODAL_TOKEN_ID": "ak-wrong"}):
        client = connect(emulator, **wrong)
        with pytest.raises(modal.exception.AuthError, match="accepts only the one it was started with"):
            modal.App.lookup("tests", create_if_missing=True, client=client)
        client.close()


@pytest.mark.parametrize(
    ("missing", "status", "message"),
    [
        ("x-modal-client-version", Status.FAILED_PRECONDITION, "x-modal-client-version is missing"),
        ("x-modal-token-secret", Status.UNAUTHENTICATED, "Token missing. Could not authenticate client."),
    ],
)
def test_a_call_without_a_header_is_refused(emulator: EmulatorThread, missing: str, status: Status, message: str) -> None:
    environment = emulator.environment()
    metadata = {
        "x-modal-client-version": "1.6.4",
        "x-modal-token-id": environment["MODAL_TOKEN_ID"],
        "x-modal-token-secret": environment["MODAL_TOKEN_SECRET"],
        "x-emulator-workspace": environment["MODAL_TOKEN_ID"],
    }
    del metadata[missing]

    async def call() -> None:
        async with Channel("127.0.0.1", emulator.port) as channel:
            await ModalClientStub(channel).AppList(api_pb2.AppListRequest(), metadata=metadata)

    with pytest.raises(GRPCError) as caught:
        asyncio.run(call())
    assert (caught.value.status, caught.value.message) == (status, message)


@pytest.mark.parametrize("authorization", ["Basic x", "Bearer forged.token.here", "Bearer e30.e30."])
def test_the_command_router_wants_the_token_that_it_was_given(emulator: EmulatorThread, authorization: str) -> None:
    async def call() -> None:
        async with Channel("127.0.0.1", emulator.port) as channel:
            request = router_pb2.TaskExecPollRequest(task_id="ta-1", exec_id="1")
            await TaskCommandRouterStub(channel).TaskExecPoll(request, metadata={"authorization": authorization})

    with pytest.raises(GRPCError) as caught:
        asyncio.run(call())
    assert caught.value.status is Status.UNAUTHENTICATED


def test_with_any_token_each_is_a_workspace_of_its_own(start_emulator: StartEmulator) -> None:
    emulator = start_emulator(any_token=True)
    first = connect(emulator, MODAL_TOKEN_ID="ak-1", MODAL_TOKEN_SECRET="as-1")
    second = connect(emulator, MODAL_TOKEN_ID="ak-2", MODAL_TOKEN_SECRET="as-2")
    modal.App.lookup("tests", create_if_missing=True, client=first)
    with pytest.raises(modal.exception.NotFoundError, match="App 'tests' not found in environment 'main'"):
        modal.App.lookup("tests", client=second)
    modal.App.lookup("tests", client=first)
    for client in (first, second):
        client.close()


def test_the_tokens_of_two_emulators_differ(start_emulator: StartEmulator) -> None:
    one, two = start_emulator().environment(), start_emulator().environment()
    assert one["MODAL_TOKEN_SECRET"] != two["MODAL_TOKEN_SECRET"]


def test_it_listens_on_loopback_only(emulator: EmulatorThread) -> None:
    found = {str(info[4][0]) for info in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)}
    for address in [address for address in found if not address.startswith("127.")]:
        with pytest.raises(OSError, match="refused"):
            socket.create_connection((address, emulator.port), timeout=2)
    socket.create_connection(("127.0.0.1", emulator.port), timeout=2).close()


def test_a_call_that_is_not_served_says_its_name(sandboxes: Sandboxes) -> None:
    with pytest.raises(modal.exception.UnimplementedError, match="FunctionGet is not implemented by the modalflow emulator"):
        modal.Function.from_name("an-app", "a-function", client=sandboxes.client).hydrate()
    sandbox = sandboxes.create("cat")
    with pytest.raises(
        modal.exception.UnimplementedError, match="TaskSnapshotMemory is not implemented by the modalflow emulator"
    ):
        sandbox._experimental_snapshot()


@pytest.mark.parametrize(
    ("method", "gpu"), [pytest.param("SandboxCreateV2", None, id="v2"), pytest.param("SandboxCreate", "A10G", id="v1")]
)
def test_a_create_whose_answer_was_lost_makes_one_sandbox(
    sandboxes: Sandboxes, emulator: EmulatorThread, method: str, gpu: str | None
) -> None:
    rule = emulator.faults.add(method, status=Status.UNAVAILABLE, after_handler=True)
    sandbox = sandboxes.create("cat", name="once", gpu=gpu)
    assert rule.hits == 1
    assert len(emulator.calls(method)) == 2
    assert sandboxes.running() == [sandbox.object_id]


def test_a_call_that_failed_before_the_handler_is_retried(sandboxes: Sandboxes, emulator: EmulatorThread) -> None:
    rule = emulator.faults.add("SandboxWaitV2", status=Status.UNAVAILABLE, times=2)
    assert sandboxes.output("echo", "x") == "x\n"
    assert rule.hits == 2


def test_a_permanent_fault_reaches_the_caller(sandboxes: Sandboxes, emulator: EmulatorThread) -> None:
    emulator.faults.add("SandboxCreateV2", status=Status.RESOURCE_EXHAUSTED, message="Sandbox creation rate limit exceeded")
    with pytest.raises(modal.exception.ResourceExhaustedError, match="Sandbox creation rate limit exceeded"):
        sandboxes.create("true")
    assert sandboxes.output("echo", "x") == "x\n"


def test_status_details_reach_the_client(sandboxes: Sandboxes, emulator: EmulatorThread, timed: Callable[[], float]) -> None:
    policy = api_pb2.RPCRetryPolicy(retry_after_secs=0.2)
    rule = emulator.faults.add("SandboxCreateV2", status=Status.RESOURCE_EXHAUSTED, details=[policy])
    sandboxes.create("true")
    assert rule.hits == 1
    assert timed() >= 0.2


@pytest.fixture
def timed() -> Callable[[], float]:
    begun = time.monotonic()
    return lambda: time.monotonic() - begun


def test_a_fault_of_a_call_that_does_not_exist_is_refused(emulator: EmulatorThread) -> None:
    with pytest.raises(ValueError, match=r"no RPC is called 'SandboxCreateV3'; did you mean 'SandboxCreateV2'\?"):
        emulator.faults.add("SandboxCreateV3")


def test_an_environment_must_exist(client: modal.Client) -> None:
    with pytest.raises(modal.exception.NotFoundError, match="Environment 'dev' not found"):
        modal.App.lookup("tests", create_if_missing=True, environment_name="dev", client=client)
    modal.Environment.objects.create("dev", client=client)
    modal.App.lookup("tests", create_if_missing=True, environment_name="dev", client=client)
    with pytest.raises(modal.exception.NotFoundError, match="App 'tests' not found in environment 'main'"):
        modal.App.lookup("tests", client=client)


def test_a_delay_is_only_that(sandboxes: Sandboxes, emulator: EmulatorThread, timed: Callable[[], float]) -> None:
    emulator.faults.add("SandboxCreateV2", delay=0.3)
    sandboxes.create("true")
    assert timed() >= 0.3


def test_latency_is_added_to_every_call(start_emulator: StartEmulator) -> None:
    client = connect(start_emulator(latency=0.1))
    begun = time.monotonic()
    for _ in range(3):
        modal.App.lookup("tests", create_if_missing=True, client=client)
    assert 0.3 <= time.monotonic() - begun < 3
    client.close()
