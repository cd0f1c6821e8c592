"""The HTTP addresses that the emulator gives out, and the tokens of the command router: each good for one thing, for a while."""

from __future__ import annotations

import asyncio
import hashlib
import http.client
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from urllib.parse import urlsplit

import modal
import pytest
from grpclib import GRPCError, Status
from grpclib.client import Channel
from modal_proto import api_pb2, task_command_router_pb2
from modal_proto.api_grpc import ModalClientStub
from modal_proto.task_command_router_grpc import TaskCommandRouterStub

from modalflow.emulator import EmulatorThread
from modalflow.emulator.block_store import ADDRESS_SECONDS
from modalflow.emulator.state.blobs import BLOCK_SIZE
from tests.emulator.conftest import Sandboxes

CONTENT = b"content of a block"


def fetched(address: str, *, method: str = "GET", data: bytes | None = None, headers: Mapping[str, str] = {}) -> bytes:
    """The answer's body; HTTPError for any status but 200."""
    request = urllib.request.Request(address, data=data, method=method, headers=dict(headers))
    with urllib.request.urlopen(request) as answer:
        return bytes(answer.read())


def refused(status: int, address: str, **options: object) -> str:
    with pytest.raises(urllib.error.HTTPError) as caught:
        fetched(address, **options)  # type: ignore[arg-type]
    with caught.value:
        assert caught.value.code == status
        return caught.value.read().decode()


@pytest.fixture
def put_url(emulator: EmulatorThread) -> str:
    return emulator._emulator.core.block_store.put_url(hashlib.sha256(CONTENT).hexdigest())


@pytest.fixture
def get_url(emulator: EmulatorThread, put_url: str) -> str:
    fetched(put_url, method="PUT", data=CONTENT)
    return emulator._emulator.core.block_store.block_url(hashlib.sha256(CONTENT).hexdigest(), 3, 10)


def test_an_address_is_good_for_its_range(get_url: str) -> None:
    assert fetched(get_url) == CONTENT[3:10]
    for changed in (
        get_url.replace("3-10", "0-18"),
        get_url[:-1],
        get_url.partition("?")[0],
        get_url.replace("until=1", "until=2"),
    ):
        assert refused(403, changed) == "the address is not one that this emulator gave out for this method"


def test_an_address_is_good_for_one_method(put_url: str, get_url: str) -> None:
    refused(403, put_url)
    refused(403, get_url, method="PUT", data=CONTENT)
    refused(405, get_url, method="DELETE")


def test_an_address_is_good_for_one_content(put_url: str) -> None:
    assert refused(400, put_url, method="PUT", data=b"other") == "the content does not match its SHA-256"
    refused(
        403,
        put_url.replace(hashlib.sha256(CONTENT).hexdigest(), hashlib.sha256(b"other").hexdigest()),
        method="PUT",
        data=b"other",
    )
    refused(413, put_url, method="PUT", data=bytes(BLOCK_SIZE + 2))


def test_an_address_expires(emulator: EmulatorThread, get_url: str) -> None:
    emulator.clock.advance(ADDRESS_SECONDS + 2)
    assert refused(403, get_url) == "the address has expired"


def test_no_path_leaves_the_store(get_url: str) -> None:
    parts = urlsplit(get_url)
    connection = http.client.HTTPConnection(parts.netloc)
    for path in (
        "/block/../../etc/passwd",
        "/block/..%2f..%2fetc%2fpasswd",
        "//etc/passwd",
        "/blob/..",
        "/block/" + "0" * 63 + "/x",
    ):
        connection.request("GET", f"{path}?{parts.query}")
        answer = connection.getresponse()
        assert answer.status in (403, 404), path
        answer.read()
    connection.close()


def test_a_web_page_gets_nothing(get_url: str) -> None:
    assert refused(403, get_url, headers={"Host": "rebound.example"}) == "Host: expected 127.0.0.1 or localhost"
    assert refused(403, get_url, headers={"Origin": "http://rebound.example"}) == "not for web pages"
    assert fetched(get_url, headers={"Host": "localhost:1"}) == CONTENT[3:10]


# -- the command router


def router_call(emulator: EmulatorThread, jwt: str, task_id: str) -> Status:
    """Status of a call with that token, about that task."""

    async def call() -> Status:
        async with Channel("127.0.0.1", emulator.port) as channel:
            stub = TaskCommandRouterStub(channel)
            request = task_command_router_pb2.TaskExecPollRequest(task_id=task_id, exec_id="none")
            try:
                await stub.TaskExecPoll(request, metadata={"authorization": f"Bearer {jwt}"})
            except GRPCError as error:
                return Status(error.status)
            return Status.OK

    return asyncio.run(call())


def access(emulator: EmulatorThread, sandbox: modal.Sandbox) -> tuple[str, str]:
    """Task id of a sandbox, and a token for it."""

    async def call() -> tuple[str, str]:
        environment = emulator.environment()
        metadata = {
            "x-modal-token-id": environment["MODAL_TOKEN_ID"],
            "x-modal-token-secret": environment["MODAL_TOKEN_SECRET"],
            "x-modal-client-version": "1.6.4",
        }
        async with Channel("127.0.0.1", emulator.port) as channel:
            stub = ModalClientStub(channel)
            task = await stub.SandboxGetTaskIdV2(api_pb2.SandboxGetTaskIdRequest(sandbox_id=sandbox.object_id), metadata=metadata)
            request = api_pb2.TaskGetCommandRouterAccessRequest(task_id=task.task_id)
            answer = await stub.TaskGetCommandRouterAccess(request, metadata=metadata)
            return task.task_id, answer.jwt

    return asyncio.run(call())


@pytest.fixture
def authority_mints(emulator: EmulatorThread) -> Callable[..., str]:
    def mint(workspace: str, seconds: int = 60, **claims: str) -> str:
        return emulator._emulator.core.authority.mint(workspace, seconds=seconds, **claims)

    return mint


def test_a_router_token_is_for_one_task(
    emulator: EmulatorThread, sandboxes: Sandboxes, authority_mints: Callable[..., str]
) -> None:
    one, other = (access(emulator, sandboxes.create("sleep", "60")) for _ in range(2))
    [own] = emulator._emulator.core.store.workspaces
    assert router_call(emulator, one[1], one[0]) == Status.NOT_FOUND  # the exec; the task is found
    assert router_call(emulator, one[1], other[0]) == Status.NOT_FOUND
    assert router_call(emulator, authority_mints("ak-another", task=one[0]), one[0]) == Status.NOT_FOUND
    for jwt in (one[1][:-1], "x.y.z", "", authority_mints(own, seconds=-1, task=one[0]), authority_mints(own)):
        assert router_call(emulator, jwt, one[0]) == Status.UNAUTHENTICATED
