"""The door on a sandbox's localhost, as the sandbox's program opens it: in a process of its own, behind real relays or none."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from modalflow.emulator import EmulatorThread
from modalflow.worker import relay as worker_relay
from modalflow.worker import telling_source
from modalflow.worker.relay import Way
from tests.relay.conftest import LAUNCH, api_running, service

SOURCE = Path(worker_relay.__file__).read_text()
ASKS = """
import json, sys, urllib.request
workload = json.load(sys.stdin)
go_by_relay(workload, lambda *said: print(*said))
assert "modalflow_relay" not in workload
with urllib.request.urlopen(os.environ[API_URL] + "x") as answer:
    print(answer.read().decode())
"""
OPENS = """
import json, sys
go_by_relay(json.load(sys.stdin), lambda *said: None)
print(os.environ[API_URL], flush=True)
import time
time.sleep(600)
"""


def started(program: str, ticket: object, **env: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", SOURCE + program],
        env={**os.environ, **env},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    process.stdin.write(json.dumps({"type": "x", "modalflow_relay": ticket}))
    process.stdin.close()
    process.stdin = None
    return process


NOWHERE = {"id": f"{LAUNCH}.1900000000", "key": "00" * 32, "addresses": ["127.0.0.1:1"]}


@pytest.mark.emulated
def test_airflow_is_given_an_address_of_the_sandbox_and_gets_through(emulator: EmulatorThread) -> None:
    async def main() -> None:
        async with api_running() as api:
            one = service(api.url)
            one.start()
            try:
                await one.ready()
                ticket = one.ticket(LAUNCH, 60.0)
                with started(ASKS, {**ticket, "addresses": ["127.0.0.1:1", *ticket["addresses"]]}) as process:  # type: ignore[misc]
                    said, wrong = await asyncio.to_thread(process.communicate, None, 60)
                assert (process.returncode, wrong) == (0, "")
                assert said.splitlines() == [
                    "info the execution API is reached by the relay",
                    '{"path": "/execution/x", "size": 0}',
                ]
            finally:
                await asyncio.to_thread(one.stop, 10.0)

    asyncio.run(main())


def test_without_a_relay_a_request_ends_unanswered_before_it_is_given_up() -> None:
    with started(ASKS, NOWHERE, AIRFLOW__WORKERS__EXECUTION_API_TIMEOUT="2") as process:
        _, wrong = process.communicate(timeout=60)
    assert wrong.strip().splitlines()[-1] == "http.client.RemoteDisconnected: Remote end closed connection without response"


@pytest.mark.skipif(sys.platform != "linux", reason="needs prctl")
def test_the_door_goes_with_the_program_even_if_that_is_killed() -> None:
    with started(OPENS, NOWHERE) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("http://127.0.0.1:")
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        assert len(children) == 1
        process.kill()
        process.wait(30)
        for pid in children:
            fd = None
            try:
                fd = os.pidfd_open(int(pid))
                import select

                assert select.select([fd], [], [], 30)[0], "the door outlived its sandbox's program"
            except ProcessLookupError:
                pass
            finally:
                if fd is not None:
                    os.close(fd)


def test_a_workload_without_a_ticket_opens_no_door(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AIRFLOW__CORE__EXECUTION_API_SERVER_URL", raising=False)
    worker_relay.go_by_relay({"type": "x"}, lambda *_: pytest.fail("said something"))
    assert "AIRFLOW__CORE__EXECUTION_API_SERVER_URL" not in os.environ


def test_what_is_told_from_outside_comes_first_and_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODAL_EMULATOR_ROOT", str(tmp_path))
    way = Way({**NOWHERE, "addresses": ["a:1", "b:1"]})
    assert way.addresses() == ["a:1", "b:1"]
    subprocess.run([sys.executable, "-c", telling_source(), "c:1", "b:1"], check=True)
    assert way.addresses() == ["c:1", "b:1", "a:1"]
    way.learn(["a:1"])
    assert way.addresses() == ["a:1", "c:1", "b:1"], "what was reached last is tried first"
    assert sorted(path.name for path in (tmp_path / "tmp").iterdir()) == ["modalflow-relays"]
