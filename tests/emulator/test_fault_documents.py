"""Faults as plain data: the file of the docs does what it says, and what cannot be is told by its place in the file."""

from __future__ import annotations

import io
import re
from pathlib import Path

import modal
import pytest
import yaml
from grpclib import Status
from modal_proto import api_pb2

from modalflow.emulator import EmulatorConfig, EmulatorConfigError, EmulatorThread
from modalflow.emulator.faults import FaultError
from modalflow.emulator.faults.documents import described, parse_document, parse_fault, read_faults
from tests.emulator.conftest import Sandboxes, StartEmulator, connect

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "emulator-faults.yaml"


def test_the_example_of_the_docs(start_emulator: StartEmulator) -> None:
    emulator = start_emulator(faults=EXAMPLE)
    client = connect(emulator)
    sandboxes = Sandboxes(modal.App.lookup("tests", create_if_missing=True, client=client), client)
    made = [sandboxes.create("cat", name=f"train-{number}", memory=2048) for number in range(3)]
    assert len({one.object_id for one in made}) == 3
    # Twice for the lost answer, twice for the limit.
    assert len(emulator.calls("SandboxCreateV2")) == 5
    content = b"content" * 1000
    volume = modal.Volume.from_name("data", create_if_missing=True, version=2, client=client)
    with volume.batch_upload() as batch:
        batch.put_file(io.BytesIO(content), "/file")
    for _ in range(2):
        assert b"".join(volume.read_file("file")) == content
    chatty = sandboxes.shell("for i in 1 2 3 4 5 6 7 8 9; do echo $i; done")
    assert chatty.stdout.read() == "".join(f"{number}\n" for number in range(1, 10))
    chatty.wait()
    assert chatty.returncode == 0
    assert [rule.hits for rule in emulator.faults.rules() if rule.times] == [1, 1, 1, 1]
    client.close()


def test_every_key_is_read() -> None:
    document = parse_document(
        yaml.safe_load(
            """
            seed: 3
            latency: {"Sandbox*": 0.5}
            faults:
              - method: TaskExecStdioRead
                where: {task_id: {regex: ^ta-}, offset: 0, exec_id: e}
                workspace: ak-1
                skip: 1
                times: always
                probability: 0.25
                delay: [0.1, 0.2]
                status: UNAVAILABLE
                message: gone
                after_messages: 2
                after_seconds: 1.5
              - method: AppList
                retry_after: 2
              - {method: PUT /block, status: 507, after_handler: true}
              - {method: AppStop, cut: connection}
            """
        )
    )
    stream, limited, block, stop = document.faults
    assert (stream.status, stream.message, stream.delay, stream.times) == (Status.UNAVAILABLE, "gone", (0.1, 0.2), None)
    assert stream.where == {"task_id": re.compile("^ta-"), "offset": 0, "exec_id": "e"}
    assert (stream.workspace, stream.skip, stream.probability) == ("ak-1", 1, 0.25)
    assert (stream.after_messages, stream.after_seconds) == (2, 1.5)
    assert (limited.status, limited.details) == (Status.RESOURCE_EXHAUSTED, [api_pb2.RPCRetryPolicy(retry_after_secs=2)])
    assert (block.status, block.after_handler, stop.cut) == (507, True, "connection")
    faults = document.faults_in_force(0.125)
    assert faults.latencies() == {"*": 0.125, "Sandbox*": 0.5}
    assert [rule.number for rule in faults.rules()] == [1, 2, 3, 4]


def test_a_described_rule_can_be_read_again() -> None:
    asked = {
        "method": "SandboxCreate*",
        "where": {"definition.name": {"regex": "x"}, "definition.timeout_secs": 5},
        "times": "always",
        "delay": [0.5, 1.0],
        "status": "RESOURCE_EXHAUSTED",
        "message": "no",
        "retry_after": 2.0,
        "probability": 0.5,
        "skip": 4,
    }
    told = described(parse_fault(asked))
    assert told == {"number": 0, **asked, "seen": 0, "hits": 0}
    assert described(parse_fault({"method": "AppList", "delay": 0.5}, "x")) == {
        "number": 0,
        "method": "AppList",
        "delay": 0.5,
        "times": 1,
        "seen": 0,
        "hits": 0,
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- x", "the file: expected a mapping, got ['x']"),
        ("fault: []", "fault: unknown key; did you mean 'faults'?"),
        ("xyz: 1", "xyz: unknown key; known: seed, latency, faults, capacity"),
        ("seed: x", "seed: expected a whole number, got 'x'"),
        ("seed: true", "seed: expected a whole number, got True"),
        ("latency: 5", "latency: expected a mapping, got 5"),
        ("latency: {Sandbx: 1}", "latency: no RPC is called 'Sandbx'; did you mean 'SandboxWait'?"),
        (
            "latency: {AppList: fast}",
            "latency.AppList: expected seconds such as 0.5, or two bounds such as [0.1, 0.5]; got 'fast'",
        ),
        ("latency: {AppList: [0.1, x]}", "latency.AppList: expected a number, got 'x'"),
        (
            "latency: {AppList: [2, 1]}",
            "latency: latency: expected seconds of at least 0, or a lower and a higher bound; got [2.0, 1.0]",
        ),
        ("faults: {}", "faults: expected a list of mappings, got {}"),
        ("faults: [AppList]", "faults[0]: expected a mapping, got 'AppList'"),
        ("faults: [{}]", "faults[0].method: missing; write the name of an RPC, such as SandboxCreateV2"),
        ("seed: 2024-13-45", "not YAML: month must be in 1..12"),
        ("faults: [{method: AppList}]", "faults[0]: what happens to these calls? write status, cut, delay or after_handler"),
        ("faults: [{method: AppList, retry_after: -1}]", "faults[0].retry_after: expected seconds of at least 0, got -1"),
        (
            "faults: [{method: GET /block, status: 503, retry_after: 1}]",
            "faults[0].retry_after: only RPCs carry it; leave it out for 'GET /block', and write a status such as 503",
        ),
        (
            "faults: [{method: AppList, delay: .inf}]",
            "faults[0]: delay: expected seconds of at least 0, or a lower and a higher bound; got inf",
        ),
        ("faults: [{method: 5}]", "faults[0].method: expected text, got 5"),
        ("faults: [{method: AppLst}]", "faults[0]: no RPC is called 'AppLst'; did you mean 'AppList'?"),
        (
            "faults: [{method: AppList, delay: 1}, {method: AppList, stauts: X}]",
            "faults[1].stauts: unknown key; did you mean 'status'?",
        ),
        (
            "faults: [{method: AppList, status: UNAVALABLE}]",
            "faults[0].status: no gRPC status is called 'UNAVALABLE'; did you mean 'UNAVAILABLE'?",
        ),
        (
            "faults: [{method: AppList, status: unavailable}]",
            "faults[0].status: no gRPC status is called 'unavailable'; did you mean 'UNAVAILABLE'?",
        ),
        (
            "faults: [{method: AppList, times: never}]",
            "faults[0].times: expected a whole number of at least 1, or always; got 'never'",
        ),
        ("faults: [{method: AppList, times: 0}]", "faults[0].times: expected a whole number of at least 1, or always; got 0"),
        ("faults: [{method: AppList, after_handler: 1}]", "faults[0].after_handler: expected true or false, got 1"),
        ("faults: [{method: AppList, probability: half}]", "faults[0].probability: expected a number, got 'half'"),
        ("faults: [{method: AppList, probability: 2}]", "faults[0]: probability: expected a number above 0 and up to 1, got 2.0"),
        ("faults: [{method: AppList, cut: cable}]", "faults[0].cut: expected 'stream' or 'connection', got 'cable'"),
        ("faults: [{method: AppList, retry_after: soon}]", "faults[0].retry_after: expected a number, got 'soon'"),
        ("faults: [{method: AppList, where: x}]", "faults[0].where: expected a mapping, got 'x'"),
        (
            "faults: [{method: AppStop, where: {app_id: [1]}}]",
            "faults[0].where.app_id: expected a value, or a mapping with 'regex'; got [1]",
        ),
        (
            "faults: [{method: AppStop, where: {app_id: {regex: '('}}}]",
            "faults[0].where.app_id.regex: '(' is no regular expression: missing ), unterminated subpattern at position 0",
        ),
        (
            "faults: [{method: AppStop, where: {ap_id: x}}]",
            "faults[0]: where.ap_id: AppStopRequest has no field 'ap_id'; did you mean 'app_id'?",
        ),
    ],
)
def test_what_cannot_be_is_told_by_its_place(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "faults.yaml"
    file.write_text(text)
    with pytest.raises(FaultError) as refused:
        read_faults(file)
    assert str(refused.value) == f"{file}: {message}"


def test_a_file_that_is_no_yaml_or_empty_or_not_there(tmp_path: Path) -> None:
    file = tmp_path / "faults.yaml"
    file.write_text("faults: [")
    with pytest.raises(EmulatorConfigError, match=rf"{re.escape(str(file))}: not YAML: while parsing a flow node"):
        EmulatorThread(EmulatorConfig(faults=file))
    file.write_text("")
    assert read_faults(file).faults == ()
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(FaultError, match=r"faults.yaml: not YAML: 'utf-8' codec can't decode byte 0xff"):
        read_faults(file)
    with pytest.raises(FaultError, match=r"faults: '.*none.yaml' cannot be read: No such file or directory"):
        read_faults(tmp_path / "none.yaml")
