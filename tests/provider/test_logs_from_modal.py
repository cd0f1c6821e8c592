"""Reading logs from Modal: the Volume's files and a running sandbox's output, on the emulator with the unmodified client."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from modalflow.emulator import EmulatorThread
from modalflow.executor.modal_connections import log_access
from modalflow.launch.gateway import NotFound, Unavailable
from modalflow.modal_gateway import logs
from modalflow.modal_gateway.gateway import ModalGateway
from modalflow.modal_gateway.logs import LogAccess, available, log_lines
from modalflow.provider.remote_task_log import ModalTaskLog
from modalflow.provider.task_logs import running_task_log
from modalflow.settings import LaunchSettings
from modalflow.translation.plan import ImagePlan, SandboxPlan

pytestmark = pytest.mark.emulated

LOG_PATH = "dag_id=d/run_id=r/task_id=t/attempt=1.log"
PRINTS_AND_STAYS = """
import json, sys, time
for logger, event in [("supervisor", "not the task's"), ("task", "one"), ("task.stdout", "zw\\u00f6lf")]:
    print(json.dumps({"logger": logger, "event": event}), flush=True)
print("no record", flush=True)
sys.stdout.write('{"logger": "task", "event": "half a li')
sys.stdout.flush()
time.sleep(600)
"""


@pytest.fixture
def access(modal_emulator: EmulatorThread, airflow_database: None) -> Iterator[LogAccess]:
    """Access of this process; the same that the modules under test find."""
    log_access.cache_clear()
    opened = log_access(LaunchSettings())
    assert isinstance(opened, LogAccess)
    yield opened
    opened.close()
    log_access.cache_clear()


def contents(access: LogAccess, path: str) -> dict[str, list[str]]:
    return {file.path: list(file.lines()) for file in access.files(path)}


def test_the_files_of_a_try_and_of_no_other(access: LogAccess) -> None:
    access.write(f"{LOG_PATH}.modalflow.log", b'{"event": "waiting"}\n')
    access.write(LOG_PATH, "one\nzwölf\n".encode())
    access.write(f"{LOG_PATH}.trigger.3.log", b"")
    access.write(LOG_PATH.replace("=1", "=11"), b"another try\n")
    assert contents(access, LOG_PATH) == {
        LOG_PATH: ["one", "zwölf"],
        f"{LOG_PATH}.modalflow.log": ['{"event": "waiting"}'],
        f"{LOG_PATH}.trigger.3.log": [],
    }


def test_a_file_of_several_blocks_is_whole(access: LogAccess) -> None:
    lines = [f"line {i} " + "x" * 1000 for i in range(10_000)]
    access.write(LOG_PATH, ("\n".join(lines) + "\n").encode())
    assert contents(access, LOG_PATH) == {LOG_PATH: lines}


def test_without_a_volume_there_is_nothing(access: LogAccess) -> None:
    assert access.files(LOG_PATH) == []


def test_without_the_folder_there_is_nothing(access: LogAccess) -> None:
    access.write("elsewhere/attempt=1.log", b"x\n")
    assert access.files(LOG_PATH) == []


@pytest.fixture(params=["cpu", "gpu"])
def running_sandbox(request: pytest.FixtureRequest, modal_emulator: EmulatorThread) -> Iterator[str]:
    """A sandbox (V2 and V1) that has printed and goes on running."""
    gpu = "A10G" if request.param == "gpu" else None
    plan = SandboxPlan(image=ImagePlan(reference=None, python_version="3.11"), gpu_candidates=(gpu,) if gpu else ())
    gateway = ModalGateway(LaunchSettings())

    async def create() -> str:
        return await gateway.create(plan, name="n", gpu=gpu, argv=["python", "-c", PRINTS_AND_STAYS], secret_env={})

    async def end(sandbox_id: str) -> None:
        await gateway.terminate(sandbox_id)
        await gateway.close()

    sandbox_id = asyncio.run(create())
    yield sandbox_id
    asyncio.run(end(sandbox_id))


EXPECTED = ['{"logger": "task", "event": "one"}', '{"logger": "task.stdout", "event": "zw\\u00f6lf"}']


def test_the_output_of_a_running_sandbox_from_its_start_each_time(access: LogAccess, running_sandbox: str) -> None:
    assert access.output(running_sandbox) == EXPECTED
    assert access.output(running_sandbox) == EXPECTED


def test_an_executor_is_told_lines_and_a_message(access: LogAccess, running_sandbox: str) -> None:
    ti = SimpleNamespace(try_number=2, external_executor_id=f"launch/{running_sandbox}")
    assert running_task_log(ti, 2) == ([f"Modal sandbox {running_sandbox}: output so far"], ["\n".join(EXPECTED)])


def test_a_sandbox_that_modal_does_not_know(access: LogAccess) -> None:
    with pytest.raises(NotFound):
        access.output("sb-unknown")
    ti = SimpleNamespace(try_number=1, external_executor_id="launch/sb-unknown")
    messages, texts = running_task_log(ti, 1)
    assert messages[0].startswith("modalflow: could not read the output of sb-unknown: Modal does not know it")
    assert texts == []


def test_airflow_reads_the_volume_through_the_remote_log(access: LogAccess) -> None:
    access.write(LOG_PATH, b"one\ntwo\n")
    access.write(f"{LOG_PATH}.modalflow.log", b"why\n")
    messages, streams = ModalTaskLog().stream(LOG_PATH, None)
    assert messages == [f"Modal Volume modalflow-logs: {LOG_PATH}", f"Modal Volume modalflow-logs: {LOG_PATH}.modalflow.log"]
    assert [list(stream) for stream in streams] == [["one", "two"], ["why"]]
    assert ModalTaskLog().read(LOG_PATH, None) == (messages, ["one\ntwo", "why"])


def test_the_sandboxes_of_a_try_are_read_one_after_another(access: LogAccess) -> None:
    access.write(f"{LOG_PATH}.20261124T183305Z.sb-a.log", b"second\n")
    access.write(f"{LOG_PATH}.20261124T183300Z.sb-b.log", b"first\n")
    access.write(f"{LOG_PATH}.modalflow.log", b"why\n")
    assert [list(stream) for stream in ModalTaskLog().stream(LOG_PATH, None)[1]] == [["first", "second"], ["why"]]


def test_a_triggers_log_alone_is_not_a_task_on_modal(access: LogAccess) -> None:
    access.write(f"{LOG_PATH}.trigger.3.log", b"a local executor's task waits\n")
    assert ModalTaskLog().stream(LOG_PATH, None) == ([], [])


def test_a_triggerer_keeps_its_log_on_the_volume(access: LogAccess) -> None:
    from pathlib import Path

    from airflow.configuration import conf

    path = f"{LOG_PATH}.trigger.3.log"
    file = Path(conf.get_mandatory_value("logging", "base_log_folder")) / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("triggered\n")
    ModalTaskLog().upload(path, None)
    ModalTaskLog().upload(LOG_PATH, None)  # a local executor's task: not ours to keep
    assert contents(access, LOG_PATH) == {path: ["triggered"]}


def test_after_modal_did_not_answer_it_is_left_alone_for_a_moment(
    access: LogAccess, modal_emulator: EmulatorThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODAL_SERVER_URL", "http://127.0.0.1:1")
    impatient = LogAccess(LaunchSettings(rpc_timeout=0.2))
    with pytest.raises(Unavailable) as first:
        impatient.files(LOG_PATH)
    started = time.monotonic()
    with pytest.raises(Unavailable) as second:
        impatient.files(LOG_PATH)
    assert str(second.value) == f"Modal is left alone for a moment: {first.value}"
    assert time.monotonic() - started < 0.2


async def _stream(*parts: str, then: float = 0.0, fails: Exception | None = None) -> AsyncIterator[str]:
    for part in parts:
        yield part
    if fails is not None:
        raise fails
    await asyncio.sleep(then)


def collected(stream: AsyncIterator[str]) -> list[str]:
    async def collect() -> list[str]:
        return [part async for part in available(stream)]

    return asyncio.run(collect())


def test_a_stream_that_goes_on_is_left_at_its_first_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "NEXT_OUTPUT", 0.01)
    assert collected(_stream("a", "b", then=60)) == ["a", "b"]


def test_a_stream_that_never_pauses_is_left_too(monkeypatch: pytest.MonkeyPatch) -> None:
    async def forever() -> AsyncIterator[str]:
        while True:
            await asyncio.sleep(0.001)
            yield "a"

    monkeypatch.setattr(logs, "ALL_OUTPUT", 0.05)
    assert set(collected(forever())) == {"a"}


def test_a_stream_is_left_though_a_part_comes_in_the_moment_when_the_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    async def busy() -> AsyncIterator[str]:
        for _ in range(3):
            held_up_until = time.monotonic() + 0.02
            while time.monotonic() < held_up_until:  # the loop gets no turn before both the part and the end are there
                pass
            yield "a"
        raise AssertionError("was read on")

    monkeypatch.setattr(logs, "ALL_OUTPUT", 0.01)
    assert collected(busy()) == ["a"]


def test_a_stream_that_breaks_says_so() -> None:
    with pytest.raises(UnicodeDecodeError):
        collected(_stream("a", fails=UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte")))


@pytest.mark.parametrize("record", [["not", "an", "object"], 3, None])
def test_json_that_is_no_record_is_no_line(record: Any) -> None:
    assert log_lines(json.dumps(record) + "\n") == []
