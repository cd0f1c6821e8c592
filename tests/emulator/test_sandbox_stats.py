"""What sandboxes used and would have cost, and ends of every kind, by the unmodified client."""

from __future__ import annotations

import datetime
from decimal import Decimal

import modal
import modal.exception
import pytest
from modal_proto import api_pb2

from modalflow.emulator import EmulatorThread
from tests.emulator.conftest import Sandboxes

CPU, MEMORY = Decimal("0.00003942"), Decimal("0.00000672")


def _end(emulator: EmulatorThread, sandbox: modal.Sandbox) -> api_pb2.GenericResult:
    result = emulator.workspace.sandboxes[sandbox.object_id].result
    assert result is not None
    return result


@pytest.mark.isolation("process")
def test_an_hour_of_what_was_asked_for_is_billed(sandboxes: Sandboxes, emulator: EmulatorThread) -> None:
    sandbox = sandboxes.create("cat", cpu=2.0, memory=4096, timeout=7200)
    assert sandbox.exec("true").wait() == 0
    emulator.clock.freeze()
    state = emulator.workspace.sandboxes[sandbox.object_id]
    emulator.clock.advance(state.started_at + 3600 - emulator.clock.time())
    stats = sandbox._experimental_stats()
    assert stats.duration == datetime.timedelta(hours=1)
    assert stats.billed_cpu_core_seconds == pytest.approx(7200)
    assert stats.billed_memory_gib_seconds == pytest.approx(4 * 3600)
    assert stats.cost_by_resource.keys() == {"CPU", "Memory"}
    assert stats.cost is not None
    assert float(stats.cost) == pytest.approx(float(CPU * 7200 + MEMORY * 4 * 3600))
    assert stats.percentile_stats == {}, "nothing is counted of a process group"


@pytest.mark.isolation("process")
def test_the_gpu_is_billed_and_a_range_counts_alone(sandboxes: Sandboxes, emulator: EmulatorThread) -> None:
    sandbox = sandboxes.create("cat", gpu="H100:2", timeout=7200)
    assert sandbox.exec("true").wait() == 0
    emulator.clock.freeze()
    state = emulator.workspace.sandboxes[sandbox.object_id]
    emulator.clock.advance(state.started_at + 3600 - emulator.clock.time())
    start = datetime.datetime.fromtimestamp(state.started_at, datetime.UTC)
    stats = sandbox._experimental_stats(since=start, until=start + datetime.timedelta(seconds=10))
    assert stats.duration.total_seconds() == pytest.approx(10)
    assert float(stats.cost_by_resource["H100"]) == pytest.approx(0.001097 * 2 * 10)


def test_a_container_tells_what_it_used(container_sandboxes: Sandboxes) -> None:
    sandbox = container_sandboxes.create(
        "python", "-c", "x = bytearray(50 << 20); sum(range(10**6)); print('up', flush=True); input()"
    )
    assert next(iter(sandbox.stdout)) == "up\n"
    running = sandbox._experimental_stats().percentile_stats
    assert running["Memory Usage (GiB)"].percentiles[-1].value > 0.04
    assert running["CPU Usage (cores)"].percentiles[0].value > 0
    sandbox.terminate(wait=True)
    assert sandbox._experimental_stats().percentile_stats["Memory Usage (GiB)"].percentiles[-1].value > 0.04


def test_out_of_memory_is_told(container_sandboxes: Sandboxes, container_emulator: EmulatorThread) -> None:
    sandbox = container_sandboxes.create("python", "-c", "x = bytearray(300 << 20)", memory=(32, 64))
    sandbox.wait()
    result = _end(container_emulator, sandbox)
    assert (result.status, result.exitcode) == (result.GENERIC_STATUS_KERNEL_OOM_KILL, 137)
    assert result.exception == "Sandbox was killed: it used more memory than its limit"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"cloud": "invalid-cloud"}, "Invalid cloud 'invalid-cloud'"),
        ({"region": ["invalid-region"]}, "Invalid region 'invalid-region'"),
        ({"experimental_options": {"enable_docker": "not-a-bool"}}, "enable_docker must be a bool"),
    ],
)
def test_what_modal_refuses(sandboxes: Sandboxes, options: dict[str, object], words: str) -> None:
    with pytest.raises(modal.exception.InvalidError, match=words):
        sandboxes.create("true", **options)


def test_what_modal_takes(sandboxes: Sandboxes) -> None:
    sandboxes.output("true", cloud="aws", region=["us-east-1", "us-west", "europe-west4", "eu"])
    docker = sandboxes.create("cat", experimental_options={"enable_docker": True})
    assert docker.filesystem.list_files("/var/lib/docker") == []
