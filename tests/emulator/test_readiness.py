"""Readiness probes and idle timeouts of the unmodified client."""

from __future__ import annotations

import socket
from pathlib import Path

import modal
import modal.exception
import pytest
from modal_proto import api_pb2

from modalflow.emulator import EmulatorThread
from tests.emulator.conftest import Eventually, Sandboxes

GPU = pytest.mark.parametrize("gpu", [None, "A10G"], ids=["v2", "v1"])


def _info(sandbox: modal.Sandbox, emulator: EmulatorThread) -> api_pb2.GenericResult | None:
    return emulator.workspace.sandboxes[sandbox.object_id].result


@GPU
def test_an_exec_probe_is_tried_until_it_succeeds(sandboxes: Sandboxes, emulator: EmulatorThread, gpu: str | None) -> None:
    sandbox = sandboxes.create("cat", readiness_probe=modal.Probe.with_exec("test", "-f", "ready", interval_ms=10), gpu=gpu)
    with pytest.raises(modal.exception.TimeoutError):
        sandbox.wait_until_ready(timeout=1)
    assert emulator.workspace.sandboxes[sandbox.object_id].ready_at == 0
    assert sandbox.exec("touch", "ready").wait() == 0
    sandbox.wait_until_ready(timeout=20)
    assert sandbox.exec("rm", "ready").wait() == 0
    sandbox.wait_until_ready(timeout=1)
    assert emulator.workspace.sandboxes[sandbox.object_id].ready_at > 0


def test_a_tcp_probe_waits_for_a_listener(sandboxes: Sandboxes) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    serve = (
        f"import socket, time; input(); s = socket.create_server(('127.0.0.1', {port})); print('up', flush=True); time.sleep(60)"
    )
    sandbox = sandboxes.create("python", "-c", serve, readiness_probe=modal.Probe.with_tcp(port, interval_ms=10))
    with pytest.raises(modal.exception.TimeoutError):
        sandbox.wait_until_ready(timeout=1)
    sandbox.stdin.write(b"\n")
    sandbox.stdin.drain()
    sandbox.wait_until_ready(timeout=20)


def test_without_a_probe_there_is_nothing_to_wait_for(sandboxes: Sandboxes) -> None:
    with pytest.raises(modal.exception.InvalidError, match="Sandbox has no readiness probe"):
        sandboxes.create("cat").wait_until_ready(timeout=1)


@GPU
def test_a_sandbox_that_ends_before_it_is_ready(sandboxes: Sandboxes, gpu: str | None) -> None:
    sandbox = sandboxes.create("cat", readiness_probe=modal.Probe.with_exec("false"), gpu=gpu)
    sandbox.stdin.write_eof()
    sandbox.stdin.drain()
    with pytest.raises(modal.exception.ConflictError, match="terminated before it was ready"):
        sandbox.wait_until_ready(timeout=20)


def test_a_probe_that_cannot_be_run_never_succeeds(sandboxes: Sandboxes) -> None:
    sandbox = sandboxes.create("cat", readiness_probe=modal.Probe.with_exec("/no/such/program"))
    with pytest.raises(modal.exception.TimeoutError):
        sandbox.wait_until_ready(timeout=1)
    assert sandbox.poll() is None


@GPU
def test_an_idle_sandbox_ends(sandboxes: Sandboxes, emulator: EmulatorThread, gpu: str | None) -> None:
    sandbox = sandboxes.shell("while true; do echo output; sleep 1; done", idle_timeout=100, timeout=1000, gpu=gpu)
    next(iter(sandbox.stdout))
    emulator.clock.advance(99)
    assert sandbox.poll() is None
    emulator.clock.advance(2)
    sandbox.wait()
    result = _info(sandbox, emulator)
    assert result is not None
    assert (result.status, sandbox.returncode) == (result.GENERIC_STATUS_IDLE_TIMEOUT, 137)


def test_execs_and_stdin_keep_a_sandbox_from_being_idle(
    sandboxes: Sandboxes, emulator: EmulatorThread, eventually: Eventually
) -> None:
    sandbox = sandboxes.create("cat", idle_timeout=100, timeout=10_000)
    process = sandbox.exec("sh", "-c", "echo up; cat")
    next(iter(process.stdout))
    emulator.clock.advance(1000)
    assert sandbox.poll() is None
    process.stdin.write_eof()
    process.stdin.drain()
    process.wait()
    emulator.clock.advance(90)
    sandbox.stdin.write(b"used\n")
    sandbox.stdin.drain()
    assert next(iter(sandbox.stdout)) == "used\n"
    emulator.clock.advance(90)
    assert sandbox.poll() is None
    emulator.clock.advance(20)
    eventually(lambda: sandbox.poll() == 137)


@pytest.mark.isolation("process")
def test_the_list_tells_of_readiness(sandboxes: Sandboxes, emulator: EmulatorThread, tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    probe = modal.Probe.with_exec("test", "-f", str(ready), interval_ms=10)
    sandbox = sandboxes.create("cat", readiness_probe=probe, idle_timeout=77, cpu=0.5)
    ready.touch()
    sandbox.wait_until_ready(timeout=20)
    state = emulator.workspace.sandboxes[sandbox.object_id]
    assert state.definition.idle_timeout_secs == 77
    assert [one.object_id for one in modal.Sandbox.list(app_id=sandboxes.app.app_id, client=sandboxes.client)] == [
        sandbox.object_id
    ]
