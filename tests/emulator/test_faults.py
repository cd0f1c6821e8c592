"""Scripted faults, seen by the unmodified client: what it asks again is counted in the requests, not in time."""

from __future__ import annotations

import asyncio
import io
import re
import socket
from pathlib import Path

import modal
import modal.exception
import pytest
from google.protobuf.message import Message
from grpclib import Status
from modal_proto import api_pb2

from modalflow.emulator import EmulatorThread
from modalflow.emulator.faults import FaultError, Faults
from modalflow.emulator.faults.matching import Expected
from tests.emulator.conftest import Eventually, Sandboxes, StartEmulator, connect


def wrote(emulator: EmulatorThread, method: str) -> int:
    return len(emulator.calls(method))


# -- which calls


def test_a_rule_takes_the_calls_after_the_first_ones(sandboxes: Sandboxes, emulator: EmulatorThread) -> None:
    rule = emulator.faults.add("SandboxCreateV2", status=Status.INVALID_ARGUMENT, message="no", skip=1, times=2)
    ids = []
    for _ in range(4):
        try:
            ids.append(sandboxes.create("true").object_id)
        except modal.exception.InvalidError as error:
            ids.append(str(error))
    assert ids[1:3] == ["no", "no"]
    assert all(one.startswith("sb-") for one in (ids[0], ids[3]))
    assert (rule.seen, rule.hits) == (3, 2)
    assert wrote(emulator, "SandboxCreateV2") == 4


def test_a_rule_takes_the_requests_whose_fields_match(sandboxes: Sandboxes, emulator: EmulatorThread) -> None:
    where: dict[str, Expected] = {
        "definition.name": re.compile("^train-"),
        "tags.tag_value": "red",
        "definition.timeout_secs": 60,
    }
    rule = emulator.faults.add("SandboxCreate*", status=Status.NOT_FOUND, message="no", where=where, times=None)
    for name, tags, timeout in (
        ("train-1", {"a": "blue"}, 60),
        ("other", {"a": "red"}, 60),
        ("train-2", {"a": "red"}, 61),
    ):
        sandboxes.create("true", name=name, tags=tags, timeout=timeout)
    for _ in range(2):
        with pytest.raises(modal.exception.NotFoundError, match="no"):
            sandboxes.create("true", name="train-3", tags={"b": "green", "a": "red"})
    assert rule.hits == 2


def test_a_rule_may_ask_a_function_of_the_request(sandboxes: Sandboxes, emulator: EmulatorThread) -> None:
    def wants_much(request: Message) -> bool:
        assert isinstance(request, api_pb2.SandboxCreateV2Request)
        return request.definition.resources.memory_mb > 1024

    emulator.faults.add("SandboxCreateV2", status=Status.RESOURCE_EXHAUSTED, message="too much", where=wants_much)
    sandboxes.create("true", memory=1024)
    with pytest.raises(modal.exception.ResourceExhaustedError, match="too much"):
        sandboxes.create("true", memory=1025)


def test_a_rule_takes_one_workspace_only(start_emulator: StartEmulator) -> None:
    emulator = start_emulator(any_token=True)
    emulator.faults.add("AppGetOrCreate", status=Status.PERMISSION_DENIED, message="not you", workspace="ak-two", times=None)
    one, two = (connect(emulator, MODAL_TOKEN_ID=token, MODAL_TOKEN_SECRET="as-x") for token in ("ak-one", "ak-two"))
    modal.App.lookup("tests", create_if_missing=True, client=one)
    with pytest.raises(modal.exception.PermissionDeniedError, match="not you"):
        modal.App.lookup("tests", create_if_missing=True, client=two)
    one.close()
    two.close()


def test_chance_is_the_same_in_every_run_and_free_of_what_other_rules_do() -> None:
    def taken(seed: int, *, disturbed: bool = False) -> list[bool]:
        faults = Faults(seed=seed)
        rule = faults.add("SandboxWait", status=Status.UNAVAILABLE, probability=0.5, times=None)
        if disturbed:
            faults.add("AppList", delay=(0.0, 1.0), probability=0.5, times=None)
        outcome = []
        for _ in range(64):
            outcome.append(faults.take("SandboxWait", "", None) is rule)
            if disturbed:
                faults.take("AppList", "", None)
        return outcome

    assert taken(1) == taken(1) == taken(1, disturbed=True)
    assert taken(1) != taken(2)
    assert 16 < sum(taken(1)) < 48


def test_of_two_rules_the_first_that_takes_a_call_acts_alone() -> None:
    faults = Faults()
    first = faults.add("SandboxWait", status=Status.UNAVAILABLE, skip=1)
    second = faults.add("*", status=Status.INTERNAL, times=None)
    assert [faults.take("SandboxWait", "", None) for _ in range(3)] == [second, first, second]
    assert (first.hits, second.hits) == (1, 2)
    assert faults.take("GET /block", "", None) is None
    faults.remove(second.number)
    assert faults.take("SandboxWait", "", None) is None
    faults.clear()
    assert faults.idle


# -- what happens


@pytest.mark.parametrize("cut", ["stream", "connection"])
@pytest.mark.parametrize("after_handler", [False, True])
def test_a_create_that_is_cut_off_is_asked_again_and_makes_one_sandbox(
    sandboxes: Sandboxes, emulator: EmulatorThread, cut: str, after_handler: bool
) -> None:
    rule = emulator.faults.add("SandboxCreateV2", cut=cut, after_handler=after_handler)  # type: ignore[arg-type]
    sandbox = sandboxes.create("cat")
    assert rule.hits == 1
    assert wrote(emulator, "SandboxCreateV2") == 2
    assert sandboxes.running() == [sandbox.object_id]


def test_a_lost_answer_is_a_reset_stream_if_nothing_else_is_said(sandboxes: Sandboxes, emulator: EmulatorThread) -> None:
    rule = emulator.faults.add("SandboxTagsSetV2", after_handler=True)
    sandbox = sandboxes.create("cat")
    sandbox.set_tags({"a": "b"})
    assert (rule.cut, rule.hits, wrote(emulator, "SandboxTagsSetV2")) == ("stream", 1, 2)
    assert sandbox.get_tags() == {"a": "b"}


@pytest.mark.parametrize("cut", ["stream", "connection"])
def test_an_output_stream_that_is_cut_is_resumed_without_loss(sandboxes: Sandboxes, emulator: EmulatorThread, cut: str) -> None:
    rule = emulator.faults.add("SandboxStdioReadV2", cut=cut, after_messages=1, times=3)  # type: ignore[arg-type]
    sandbox = sandboxes.shell("for i in 1 2 3 4 5 6 7 8; do echo $i; read _; done")
    lines = []
    for line in sandbox.stdout:
        lines.append(line)
        sandbox.stdin.write("\n")
        sandbox.stdin.drain()
    assert lines == [f"{number}\n" for number in range(1, 9)]
    assert rule.hits == 3
    offsets = [request.offset for request in emulator.calls("SandboxStdioReadV2")]  # type: ignore[attr-defined]
    assert offsets == sorted(offsets)
    assert len(offsets) == 4


def test_an_output_stream_may_be_cut_after_a_while(sandboxes: Sandboxes, emulator: EmulatorThread) -> None:
    rule = emulator.faults.add(
        "TaskExecStdioRead", cut="stream", after_seconds=0.01, where={"file_descriptor": "TASK_EXEC_STDIO_FILE_DESCRIPTOR_STDOUT"}
    )
    sandbox = sandboxes.create("cat")
    process = sandbox.exec("sh", "-c", "echo one; read _; echo two")
    lines = iter(process.stdout)
    assert next(lines) == "one\n"
    process.stdin.write("\n")
    process.stdin.drain()
    assert next(lines) == "two\n"
    assert process.wait() == 0
    assert rule.hits == 1


def test_logs_that_end_early_with_an_error_are_asked_for_again(sandboxes: Sandboxes, emulator: EmulatorThread) -> None:
    rule = emulator.faults.add("SandboxGetLogs", status=Status.UNAVAILABLE, after_messages=1, times=1)
    sandbox = sandboxes.create("sh", "-c", "echo one; read _; echo two", gpu="A10G")
    lines = iter(sandbox.stdout)
    assert next(lines) == "one\n"
    sandbox.stdin.write("\n")
    sandbox.stdin.drain()
    assert next(lines) == "two\n"
    assert rule.hits == 1


def test_details_make_the_client_wait_and_ask_again(sandboxes: Sandboxes, emulator: EmulatorThread) -> None:
    policy = api_pb2.RPCRetryPolicy(retry_after_secs=0.001)
    emulator.faults.add("SandboxCreateV2", status=Status.RESOURCE_EXHAUSTED, details=[policy], times=3)
    sandboxes.create("true")
    assert wrote(emulator, "SandboxCreateV2") == 4


def test_an_exec_survives_a_router_that_fails(sandboxes: Sandboxes, emulator: EmulatorThread) -> None:
    sandbox = sandboxes.create("cat")
    rules = [
        emulator.faults.add("TaskExecStart", cut="connection", after_handler=True),
        emulator.faults.add("TaskExecWait", status=Status.UNAVAILABLE),
        emulator.faults.add("TaskExecStdioRead", status=Status.UNAVAILABLE, times=1),
    ]
    process = sandbox.exec("sh", "-c", "echo $$; exit 3")
    assert process.stdout.read().strip().isdigit()
    assert process.wait() == 3
    assert [rule.hits for rule in rules] == [1, 1, 1]


# -- the block store


def uploaded(client: modal.Client, content: bytes) -> modal.Volume:
    volume = modal.Volume.from_name("data", create_if_missing=True, version=2, client=client)
    with volume.batch_upload() as batch:
        batch.put_file(io.BytesIO(content), "/file")
    return volume


@pytest.mark.parametrize(
    "effect",
    [
        pytest.param({"status": 500}, id="refused"),
        pytest.param({"status": 503, "after_handler": True}, id="answer lost"),
        pytest.param({"cut": "connection"}, id="cut"),
        pytest.param({"delay": 0.001}, id="slow"),
    ],
)
@pytest.mark.parametrize("method", ["GET /block", "PUT /block"])
def test_blocks_are_asked_for_again(
    client: modal.Client, emulator: EmulatorThread, method: str, effect: dict[str, object]
) -> None:
    rule = emulator.faults.add(method, **effect)  # type: ignore[arg-type]
    content = b"content" * 1000
    volume = uploaded(client, content)
    assert b"".join(volume.read_file("file")) == content
    assert rule.hits == 1


def test_a_block_that_is_never_there_is_told(client: modal.Client, emulator: EmulatorThread) -> None:
    volume = uploaded(client, b"content")
    emulator.faults.add("GET /block", status=404, message="no such block", times=None)
    with pytest.raises(Exception, match="404"):
        b"".join(volume.read_file("file"))


# -- everything at once


def test_closed_connections_are_made_again(sandboxes: Sandboxes, emulator: EmulatorThread) -> None:
    sandbox = sandboxes.create("cat")
    for _ in range(3):
        emulator.disconnect()
        assert sandbox.poll() is None


def test_refused_connections_are_tried_again(sandboxes: Sandboxes, emulator: EmulatorThread) -> None:
    sandbox = sandboxes.create("cat")
    emulator.refuse_connections()
    emulator.refuse_connections()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", emulator.port), timeout=5)
    emulator.accept_connections()
    emulator.accept_connections()
    assert sandbox.poll() is None


def test_a_frozen_emulator_answers_when_it_thaws(sandboxes: Sandboxes, emulator: EmulatorThread, eventually: Eventually) -> None:
    sandbox = sandboxes.create("cat")
    emulator.faults.freeze()
    emulator.faults.freeze()
    with pytest.raises(TimeoutError):
        asyncio.run(_impatient(sandbox))
    assert emulator.faults.frozen
    emulator.faults.thaw()
    emulator.faults.thaw()
    assert sandbox.poll() is None


async def _impatient(sandbox: modal.Sandbox) -> None:
    async with asyncio.timeout(0.1):
        await sandbox.poll.aio()


# -- latency


def test_latency_by_method_the_last_pattern_counts() -> None:
    faults = Faults({"*": 0.5, "Sandbox*": (1.0, 2.0)}, seed=3)
    faults.set_latency("SandboxWait", 0.25)
    faults.set_latency("GET /*", 4.0)
    assert faults.latency("AppList") == 0.5
    assert faults.latency("SandboxWait") == 0.25
    assert faults.latency("PUT /block") == 0.0
    assert faults.latency("GET /block") == 4.0
    drawn = [faults.latency("SandboxList") for _ in range(20)]
    assert all(1.0 <= one <= 2.0 for one in drawn)
    assert len(set(drawn)) == 20
    again = Faults({"Sandbox*": (1.0, 2.0)}, seed=3)
    assert [again.latency("SandboxList") for _ in range(20)] == drawn
    faults.set_latency("SandboxWait", 0)
    assert 1.0 <= faults.latency("SandboxWait") <= 2.0
    assert list(faults.latencies()) == ["*", "Sandbox*", "GET /*"]


# -- what cannot be


@pytest.mark.parametrize(
    ("method", "keywords", "message"),
    [
        ("SandboxCreatV2", {}, "no RPC is called 'SandboxCreatV2'; did you mean 'SandboxCreateV2'?"),
        ("Nothing*", {}, "no RPC is called 'Nothing*'"),
        (
            "GET /file",
            {},
            "the block store serves nothing called 'GET /file'; expected one of GET /blob, GET /block, PUT /blob, PUT /block",
        ),
        ("AppList", {"where": {"app_nam": "x"}}, "where.app_nam: AppListRequest has no field 'app_nam'"),
        (
            "SandboxCreateV2",
            {"where": {"definition.nam": "x"}},
            "where.definition.nam: Sandbox has no field 'nam'; did you mean 'name'?",
        ),
        (
            "SandboxCreateV2",
            {"where": {"definition.name.x": "x"}},
            "where.definition.name.x: nothing is below a plain value, but 'x' is asked for",
        ),
        (
            "SandboxCreateV2",
            {"where": {"tags": "x"}},
            "where.tags: SandboxTag is a message; write one of its fields: tag_name, tag_value",
        ),
        (
            "SandboxCreateV2",
            {"where": {"secret_sources.env.contents": "x"}},
            "where.secret_sources.env.contents: 'contents' is a map; write secret_sources.env.contents.KEY",
        ),
        ("GET /block", {"where": {"x": 1}}, "where: requests to the block store have no fields; leave it out"),
        ("GET /block", {"workspace": "ak-1"}, "workspace: requests to the block store carry no token; leave it out"),
        ("GET /block", {"status": Status.NOT_FOUND}, "status: expected a number such as 503 for 'GET /block', got NOT_FOUND"),
        ("GET /block", {"status": 42}, "status: expected a number such as 503 for 'GET /block', got 42"),
        ("GET /block", {"cut": "stream"}, "cut: HTTP has connections only; write 'connection'"),
        ("AppList", {"status": 503}, "status: expected the name of a gRPC status for 'AppList', got 503"),
        ("AppList", {"status": Status.OK}, "status: OK is no fault; leave it out"),
        ("AppList", {"times": 0}, "times: expected a whole number of at least 1, or none for always; got 0"),
        ("AppList", {"skip": -1}, "skip: expected a whole number of at least 0, got -1"),
        ("AppList", {"probability": 0.0}, "probability: expected a number above 0 and up to 1, got 0.0"),
        ("AppList", {"delay": -1.0}, "delay: expected seconds of at least 0, or a lower and a higher bound; got -1.0"),
        (
            "AppList",
            {"delay": (2.0, 1.0)},
            "delay: expected seconds of at least 0, or a lower and a higher bound; got [2.0, 1.0]",
        ),
        ("AppList", {"after_messages": -1, "cut": "stream"}, "after_messages: expected a whole number of at least 0, got -1"),
        ("AppList", {"after_seconds": -1, "cut": "stream"}, "after_seconds: expected seconds of at least 0, got -1"),
        ("AppList", {"after_messages": 1}, "after_messages, after_seconds: what happens then? write cut or status too"),
        (
            "AppList",
            {"after_messages": 1, "cut": "stream", "after_handler": True},
            "after_messages, after_seconds: only for RPCs, and not with after_handler, which lets the call finish",
        ),
        ("AppList", {"status": Status.INTERNAL, "cut": "stream"}, "status and cut: give one; who is cut off gets no status"),
    ],
)
def test_a_rule_that_cannot_be_is_refused(method: str, keywords: dict[str, object], message: str) -> None:
    with pytest.raises(FaultError) as refused:
        Faults().add(method, **keywords)  # type: ignore[arg-type]
    assert str(refused.value) == message


def test_a_number_that_no_rule_has() -> None:
    with pytest.raises(FaultError, match="there is no fault number 7"):
        Faults().remove(7)


def test_a_file_of_faults_is_in_force_from_the_start(start_emulator: StartEmulator, tmp_path: Path) -> None:
    file = tmp_path / "faults.yaml"
    file.write_text("faults: [{method: AppGetOrCreate, status: UNAVAILABLE, times: 2}]")
    emulator = start_emulator(faults=file)
    client = connect(emulator)
    modal.App.lookup("tests", create_if_missing=True, client=client)
    assert wrote(emulator, "AppGetOrCreate") == 3
    client.close()
