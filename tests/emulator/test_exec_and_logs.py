"""exec through the command router, and output through the control plane's log pages."""

from __future__ import annotations

import asyncio
import datetime
from pathlib import Path

import modal
import modal.exception
import pytest
from grpclib.client import Channel
from modal_proto import api_pb2
from modal_proto.api_grpc import ModalClientStub

from modalflow.emulator import EmulatorThread
from tests.emulator.conftest import Eventually, Sandboxes


def test_exec_has_its_own_stdio_environment_and_exit_code(sandboxes: Sandboxes) -> None:
    sandbox = sandboxes.create("cat", env={"A": "sandbox", "B": "sandbox"})
    process = sandbox.exec("sh", "-c", "echo $A $B; echo err >&2; cat; exit 4", env={"B": "exec"})
    process.stdin.write("in")
    process.stdin.write_eof()
    process.stdin.drain()
    assert (process.wait(), process.stdout.read(), process.stderr.read()) == (4, "sandbox exec\nin", "err\n")
    assert sandbox.poll() is None


def test_exec_in_bytes_and_poll(sandboxes: Sandboxes) -> None:
    sandbox = sandboxes.create("cat")
    process = sandbox.exec("sh", "-c", "cat; printf '\\377'", text=False)
    assert process.poll() is None
    process.stdin.write(b"\xfe")
    process.stdin.write_eof()
    process.stdin.drain()
    assert process.stdout.read() == b"\xfe\xff"
    assert process.wait() == 0
    assert process.poll() == 0


def test_an_output_that_is_not_wanted_is_not_kept(sandboxes: Sandboxes, emulator: EmulatorThread) -> None:
    sandbox = sandboxes.create("cat")
    process = sandbox.exec("sh", "-c", "echo out; echo err >&2", stdout=modal.stream_type.StreamType.DEVNULL)
    assert (process.wait(), process.stderr.read()) == (0, "err\n")
    with pytest.raises(ValueError, match="DEVNULL"):
        process.stdout.read()
    request = emulator.calls("TaskExecStart")[-1]
    assert request.stdout_config == 0  # type: ignore[attr-defined]


def test_exec_that_is_killed_tells_the_signal(sandboxes: Sandboxes) -> None:
    sandbox = sandboxes.create("cat")
    assert sandbox.exec("sh", "-c", "kill -TERM $$").wait() == 128 + 15


@pytest.mark.isolation("process")
def test_exec_does_not_wait_for_a_daemon_that_holds_its_output(sandboxes: Sandboxes, eventually: Eventually) -> None:
    sandbox = sandboxes.create("cat")
    process = sandbox.exec("sh", "-c", "sleep 300 & echo $!")
    assert process.wait() == 0
    pid = int(next(iter(process.stdout)))
    assert Path(f"/proc/{pid}").exists(), "what an exec starts lives as long as the sandbox"
    sandbox.terminate(wait=True)
    eventually(lambda: not Path(f"/proc/{pid}").exists())


def test_exec_in_an_ended_sandbox_is_an_error(sandboxes: Sandboxes) -> None:
    sandbox = sandboxes.create("true")
    sandbox.wait()
    with pytest.raises(modal.exception.NotFoundError, match="Sandbox has already terminated"):
        sandbox.exec("true")


def test_exec_in_a_gpu_sandbox(sandboxes: Sandboxes) -> None:
    sandbox = sandboxes.create("cat", gpu="A10G")
    assert sandbox.exec("sh", "-c", "echo $MODAL_EMULATOR_GPU").stdout.read() == "A10G:1\n"


@pytest.mark.parametrize("gpu", [None, "A10G"], ids=["v2", "v1"])
def test_logs_can_be_fetched_while_it_runs_and_after(sandboxes: Sandboxes, gpu: str | None) -> None:
    sandbox = sandboxes.shell("echo one; echo two >&2; printf three; cat > /dev/null; echo; echo four", gpu=gpu)
    output = iter(sandbox.stdout)
    assert next(output) == "one\n"

    def tail(count: int) -> set[tuple[str, str]]:
        return {(entry.source, entry.message) for entry in sandbox.logs.tail(count)}

    assert ("stdout", "one\n") in tail(10)
    sandbox.stdin.write_eof()
    sandbox.stdin.drain()
    sandbox.wait()
    assert tail(10) == {("stdout", "one\n"), ("stderr", "two\n"), ("stdout", "three\n"), ("stdout", "four\n")}
    assert tail(1) == {("stdout", "four\n")}


def test_logs_of_a_time_range_and_a_source(sandboxes: Sandboxes) -> None:
    begun = datetime.datetime.now(datetime.UTC)
    sandbox = sandboxes.shell("for i in $(seq 500); do echo line $i; done; echo err >&2")
    sandbox.wait()
    found = [entry.message for entry in sandbox.logs.fetch(since=begun, source="stdout")]
    assert found == [f"line {number}\n" for number in range(1, 501)]
    assert [entry.message for entry in sandbox.logs.fetch(since=begun, source="stderr")] == ["err\n"]
    assert list(sandbox.logs.fetch(since=begun - datetime.timedelta(hours=2), until=begun)) == []


def test_logs_can_be_followed(sandboxes: Sandboxes, emulator: EmulatorThread) -> None:
    sandbox = sandboxes.shell("echo one; cat; echo two; printf three")

    async def follow() -> list[str]:
        """What ``modal app logs`` calls; the client's own objects have no follower for sandboxes in 1.6.4."""
        environment = emulator.environment()
        metadata = {
            "x-modal-client-version": "1.6.4",
            "x-modal-token-id": environment["MODAL_TOKEN_ID"],
            "x-modal-token-secret": environment["MODAL_TOKEN_SECRET"],
        }
        found: list[str] = []
        async with Channel("127.0.0.1", emulator.port) as channel:
            request = api_pb2.AppGetLogsRequest(app_id=sandboxes.app.app_id or "", sandbox_id=sandbox.object_id, timeout=20)
            async with ModalClientStub(channel).AppGetLogs.open(metadata=metadata) as stream:
                await stream.send_message(request, end=True)
                async for batch in stream:
                    found += [item.data for item in batch.items]
                    if len(found) == 1:
                        sandbox.stdin.write_eof()
                        await sandbox.stdin.drain.aio()
                    if batch.app_done:
                        return found
        raise AssertionError("the stream ended before the sandbox did")

    assert asyncio.run(follow()) == ["one\n", "two\n", "three"]


def test_output_of_the_first_version_is_read_from_the_entry_that_other_clients_begin_with(
    sandboxes: Sandboxes, emulator: EmulatorThread
) -> None:
    sandbox = sandboxes.create("echo", "out", gpu="A10G")
    environment = emulator.environment()
    metadata = {
        "x-modal-client-type": str(api_pb2.CLIENT_TYPE_LIBMODAL_JS),
        "x-modal-client-version": "1.0.0",
        "x-modal-token-id": environment["MODAL_TOKEN_ID"],
        "x-modal-token-secret": environment["MODAL_TOKEN_SECRET"],
    }

    async def read() -> str:
        request = api_pb2.SandboxGetLogsRequest(
            sandbox_id=sandbox.object_id, file_descriptor=api_pb2.FILE_DESCRIPTOR_STDOUT, timeout=20, last_entry_id="0-0"
        )
        async with Channel("127.0.0.1", emulator.port) as channel:
            batches = await ModalClientStub(channel).SandboxGetLogs(request, metadata=metadata)
        items = [item for batch in batches for item in batch.items]
        assert not any(item.timestamp_ns for item in items), "JavaScript to 0.7.6 fails on numbers that large"
        assert all(item.timestamp for item in items)
        return "".join(item.data for item in items)

    assert asyncio.run(read()) == "out\n"


def test_of_ended_sandboxes_the_oldest_output_goes_first(sandboxes: Sandboxes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("modalflow.emulator.machines.output.ENDED_BYTES", 10)
    made = []
    for number in range(3):
        sandbox = sandboxes.shell(f"echo {number}{number}{number}", gpu="A10G")
        sandbox.wait()
        made.append(sandbox)
    assert [sandbox.stdout.read() for sandbox in made] == ["", "111\n", "222\n"]


def test_output_is_there_for_a_reader_that_comes_later(sandboxes: Sandboxes) -> None:
    sandbox = sandboxes.shell("echo out; echo err >&2", gpu="A10G")
    sandbox.wait()
    found = modal.Sandbox.from_id(sandbox.object_id, client=sandboxes.client)
    assert (found.stdout.read(), found.stderr.read()) == ("out\n", "err\n")


@pytest.mark.isolation("process")
def test_a_command_that_cannot_be_started_harms_no_other(sandboxes: Sandboxes, client: modal.Client) -> None:
    sandbox = sandboxes.create("cat")
    with pytest.raises(modal.exception.InvalidError, match="needs a command"):
        sandbox.exec()
    assert sandbox.exec("x" * 60_000).wait() == 126
    assert sandbox.exec("echo", env={"A=B": "1"}).wait() == 126
    assert sandbox.exec("echo", "alive").stdout.read() == "alive\n"


def test_an_exec_whose_time_is_over_ends_with_minus_one(sandboxes: Sandboxes) -> None:
    sandbox = sandboxes.create("cat")
    process = sandbox.exec("sh", "-c", "echo up; exec sleep 600", timeout=1)
    assert process.stdout.read() == "up\n"
    assert (process.wait(), process.poll()) == (-1, -1)
    assert sandbox.poll() is None


@pytest.mark.isolation("process")
def test_an_exec_works_in_a_folder_of_this_machine_unless_the_sandbox_has_it(sandboxes: Sandboxes) -> None:
    sandbox = sandboxes.create("cat", workdir="/own")
    assert sandbox.exec("pwd", workdir="/usr").stdout.read() == "/usr\n"
    assert sandbox.exec("sh", "-c", "pwd -P | grep -o '/own$'", workdir="/own").stdout.read() == "/own\n"
