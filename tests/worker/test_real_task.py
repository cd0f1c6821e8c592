"""Real tasks, supervised in the sandbox's program, against a real execution API."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from modalflow.modal_gateway.logs import SUPERVISOR_LOGGERS
from modalflow.worker import bootstrap_source, stop_source
from tests.worker.conftest import RunSandbox
from tests.worker.real_airflow import RealAirflow

LAUNCH_ID = f"3f0a6c1e-launch-of-this-test-{os.getpid()}"
SANDBOX_ID = "sb-of-this-test"
BOUND = 60.0


@pytest.fixture
def env(airflow: RealAirflow, sandbox_home: Path) -> dict[str, str]:
    return airflow.worker_env(sandbox_home) | {"MODALFLOW_LAUNCH_ID": LAUNCH_ID, "MODAL_SANDBOX_ID": SANDBOX_ID}


def until(happened: Callable[[], bool]) -> None:
    end = time.monotonic() + BOUND
    while not happened():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)


def test_a_task_runs_to_success_by_environment(airflow: RealAirflow, run_sandbox: RunSandbox, env: dict[str, str]) -> None:
    (workload,) = airflow.mint("prints")
    ended = run_sandbox({**env, "MODALFLOW_WORKLOAD": json.dumps(workload)})
    assert (ended.code, ended.stderr) == (0, "")
    assert airflow.state(workload)["state"] == "success"
    assert airflow.state(workload)["hostname"] == f"{LAUNCH_ID}/{SANDBOX_ID}"
    lines = ended.log_file().read_text().splitlines()
    assert "hello from the task" in [record["event"] for record in ended.log()]
    # stdout has the very same lines, beside those of the supervisor itself.
    assert set(lines) < set(ended.stdout.splitlines())
    assert [line for line in ended.stdout.splitlines() if line in lines] == lines
    assert {json.loads(line)["logger"] for line in ended.stdout.splitlines() if line not in lines} == set(SUPERVISOR_LOGGERS)


def test_a_task_runs_to_success_by_stdin(airflow: RealAirflow, run_sandbox: RunSandbox, env: dict[str, str]) -> None:
    (workload,) = airflow.mint("prints")
    ended = run_sandbox({**env, "MODALFLOW_LOG_PATH": "attempt=7.log"}, stdin=json.dumps(workload).encode())
    assert (ended.code, ended.stderr) == (0, "")
    assert airflow.state(workload)["state"] == "success"
    assert "hello from the task" in [record["event"] for record in ended.log("attempt=7.log")]
    (name,) = [path.name for path in (ended.home / "logs").rglob("*.log")]
    assert re.fullmatch(rf"attempt=7\.log\.\d{{8}}T\d{{6}}Z\.{SANDBOX_ID}\.log", name)


def test_the_log_opens_with_what_modal_was_asked_for(airflow: RealAirflow, run_sandbox: RunSandbox, env: dict[str, str]) -> None:
    (workload,) = airflow.mint("prints")
    told = {"MODALFLOW_SUMMARY": "Modal was asked for: no GPU", "MODAL_SANDBOX_ID": "sb-1"}
    ended = run_sandbox({**env, **told, "MODALFLOW_WORKLOAD": json.dumps(workload)})
    assert ended.log()[0]["event"] == "Modal was asked for: no GPU; this is sandbox sb-1"


def test_a_task_that_fails_is_reported_and_the_exit_code_is_0(
    airflow: RealAirflow, run_sandbox: RunSandbox, env: dict[str, str]
) -> None:
    (workload,) = airflow.mint("fails")
    ended = run_sandbox({**env, "MODALFLOW_WORKLOAD": json.dumps(workload)})
    assert (ended.code, ended.stderr) == (0, "")
    assert airflow.state(workload)["state"] == "failed"
    assert "this task fails" in json.dumps(ended.log())


def test_a_second_sandbox_for_the_same_task_is_refused(
    airflow: RealAirflow, run_sandbox: RunSandbox, env: dict[str, str]
) -> None:
    (workload,) = airflow.mint("empty")
    first = run_sandbox({**env, "MODALFLOW_WORKLOAD": json.dumps(workload)})
    assert first.code == 0
    second = run_sandbox({**env, "MODALFLOW_WORKLOAD": json.dumps(workload), "MODALFLOW_LOG_PATH": "second.log"})
    assert second.code == 67
    assert second.stderr.startswith("modalflow: Airflow did not let the task start: it runs or ended elsewhere (409: ")
    assert "invalid_state" in second.stderr
    assert [record["event"] for record in second.log("second.log") if record["logger"] == "modalflow"] == [
        second.stderr.removeprefix("modalflow: ").rstrip("\n")
    ]


def test_a_token_that_is_not_accepted(airflow: RealAirflow, run_sandbox: RunSandbox, env: dict[str, str]) -> None:
    (workload,) = airflow.mint("empty")
    workload["token"] = workload["token"][:-20] + "A" * 20
    ended = run_sandbox({**env, "MODALFLOW_WORKLOAD": json.dumps(workload)})
    assert ended.code == 67
    assert ended.stderr.startswith(
        "modalflow: Airflow did not let the task start: the token was not accepted, as when scheduler and API server differ in "
        "[api_auth] jwt_secret (each makes up its own where none is set), or when it is older than [scheduler] "
        "task_queued_timeout (403: "
    )
    assert workload["token"] not in ended.stdout + ended.stderr + json.dumps(ended.log())


def test_an_execution_api_that_cannot_be_reached(airflow: RealAirflow, run_sandbox: RunSandbox, env: dict[str, str]) -> None:
    (workload,) = airflow.mint("empty")
    nobody = {"AIRFLOW__CORE__EXECUTION_API_SERVER_URL": "http://127.0.0.1:1/a-secret-path/execution/"}
    ended = run_sandbox(
        {**env, **nobody, "AIRFLOW__WORKERS__EXECUTION_API_RETRIES": "1", "MODALFLOW_WORKLOAD": json.dumps(workload)}
    )
    text = "the execution API at http://127.0.0.1:1 could not be reached (ConnectError: [Errno 111] Connection refused)"
    assert (ended.code, ended.stderr) == (68, f"modalflow: {text}\n")
    assert text in [record["event"] for record in ended.log()]


def callback(path: str) -> str:
    """A deadline's callback, as the scheduler hands it over; it needs no task instance."""
    return json.dumps(
        {
            "type": "ExecuteCallback",
            "token": "a-token-that-nobody-asks-for",
            "dag_rel_path": "plain.py",
            "bundle_info": {"name": "dags-folder", "version": None},
            "log_path": "executor_callbacks/plain/run/one",
            "callback": {
                "id": "0192f0c2-0000-7000-8000-000000000001",
                "fetch_method": "import_path",
                "data": {"path": path, "kwargs": {}},
            },
        }
    )


def test_a_callback_runs_too(run_sandbox: RunSandbox, env: dict[str, str]) -> None:
    ended = run_sandbox({**env, "MODALFLOW_WORKLOAD": callback("callbacks.greets")})
    assert (ended.code, ended.stderr) == (0, "")
    assert "hello from the callback" in json.dumps(ended.log("one"))
    assert ended.stdout.count("hello from the callback") == 1


def test_a_callback_that_fails_fails_the_sandbox(run_sandbox: RunSandbox, env: dict[str, str]) -> None:
    # Unlike a task's, its end is reported to nobody but the executor, which has the exit code.
    ended = run_sandbox({**env, "MODALFLOW_WORKLOAD": callback("callbacks.fails")})
    text = "the callback fails failed (Callback subprocess exited with code 1)"
    assert (ended.code, ended.stderr) == (73, f"modalflow: {text}\n")
    assert "this callback fails" in json.dumps(ended.log("one"))


@contextmanager
def waiting_task(
    airflow: RealAirflow, env: dict[str, str], gate: Path, task_id: str = "waits"
) -> Iterator[tuple[dict[str, Any], subprocess.Popen[str]]]:
    """A sandbox whose task runs until ``gate`` exists."""
    (workload,) = airflow.mint(task_id)
    environment = {**env, "MODALFLOW_WORKLOAD": json.dumps(workload), "TEST_GATE": str(gate)}
    with subprocess.Popen(
        [sys.executable, "-c", bootstrap_source()],
        env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        try:
            until(lambda: gate.with_suffix(".started").exists() or process.poll() is not None)
            assert process.poll() is None, process.communicate()
            yield workload, process
        finally:
            gate.touch()


def processes_that_show(text: str) -> set[int]:
    """Process ids with ``text`` in their environment or command line, as anybody of this user can read them."""
    found = set()
    for entry in Path("/proc").iterdir():
        for name in ("environ", "cmdline") if entry.name.isdigit() else ():
            try:
                shown = entry.joinpath(name).read_bytes()
            except OSError:  # gone, or not for us
                continue
            if text.encode() in shown:
                found.add(int(entry.name))
    return found


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs /proc")
def test_no_process_shows_the_token_while_the_task_runs(airflow: RealAirflow, env: dict[str, str], tmp_path: Path) -> None:
    with waiting_task(airflow, env, tmp_path / "gate") as (workload, process):
        assert processes_that_show(workload["token"]) == set()
        # The same search finds what is in the environment of the program and of the task it forked.
        assert len(processes_that_show(LAUNCH_ID)) == 2
        assert process.pid in processes_that_show(LAUNCH_ID)
        open_files = [str(link.readlink()) for link in Path(f"/proc/{process.pid}/fd").iterdir()]
        assert not [target for target in open_files if "memfd" in target]
        (tmp_path / "gate").touch()
        stdout, stderr = process.communicate(timeout=BOUND)
    assert (process.returncode, stderr) == (0, "")
    assert workload["token"] not in stdout


def test_sigterm_is_forwarded_to_the_task(airflow: RealAirflow, env: dict[str, str], tmp_path: Path) -> None:
    with waiting_task(airflow, env, tmp_path / "gate") as (workload, process):
        process.send_signal(signal.SIGTERM)
        assert process.stdout is not None
        until(lambda: "forwarding to task subprocess" in (process.stdout.readline() if process.stdout else ""))
        (tmp_path / "gate").touch()
        _, stderr = process.communicate(timeout=BOUND)
    # Airflow's handler runs on_kill and returns: a Python task goes on (3.3.2).
    assert (process.returncode, stderr) == (0, "")
    assert airflow.state(workload)["state"] == "success"


def test_a_task_that_is_taken_back_runs_its_on_kill(airflow: RealAirflow, env: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "root" / "tmp").mkdir(parents=True)
    place = {"MODAL_EMULATOR_ROOT": str(tmp_path / "root")}
    grace = {"MODALFLOW_SETUP": json.dumps({"grace": {"seconds": 60, "signal": "SIGTERM"}})}
    with waiting_task(airflow, {**env, **place, **grace}, tmp_path / "gate", "watched") as (workload, process):
        subprocess.run([sys.executable, "-c", stop_source()], env={**env, **place}, timeout=BOUND, check=True)
        stdout, stderr = process.communicate(timeout=BOUND)
    assert (process.returncode, stderr) == (0, "")
    assert "on_kill" in [json.loads(line)["event"] for line in stdout.splitlines() if line.startswith("{")]
    assert airflow.state(workload)["state"] == "success"


@pytest.mark.parametrize("state", ["failed", "success", "skipped", None], ids=["failed", "success", "skipped", "removed"])
def test_a_task_that_airflow_does_not_want_any_more_ends_itself(
    airflow: RealAirflow, env: dict[str, str], tmp_path: Path, state: str | None
) -> None:
    hook = {"argv": ["sh", "-c", f"touch {tmp_path}/drained"]}
    grace = {"MODALFLOW_SETUP": json.dumps({"grace": {"seconds": 60, "signal": "SIGTERM", "hook": hook}})}
    place = {"MODAL_EMULATOR_ROOT": str(tmp_path), "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "1"}
    with waiting_task(airflow, {**env, **place, **grace}, tmp_path / "gate", "watched") as (workload, process):
        airflow.change(workload, state)
        stdout, stderr = process.communicate(timeout=BOUND)
    assert (process.returncode, stderr) == (0, "")
    assert (tmp_path / "drained").exists()
    events = [json.loads(line)["event"] for line in stdout.splitlines() if line.startswith("{")]
    assert "on_kill" in events
    assert airflow.state(workload)["state"] == (state or None)


def test_a_task_that_does_not_stop_when_airflow_wants_it_no_more_is_killed_when_its_time_is_over(
    airflow: RealAirflow, env: dict[str, str], tmp_path: Path
) -> None:
    grace = {"MODALFLOW_STOP_GRACE": "1", "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "1"}
    place = {"MODAL_EMULATOR_ROOT": str(tmp_path)}
    # A Python task hears nothing of SIGTERM: its gate stays shut.
    with waiting_task(airflow, {**env, **place, **grace}, tmp_path / "gate") as (workload, process):
        airflow.change(workload, "failed")
        stdout, stderr = process.communicate(timeout=BOUND)
        assert not (tmp_path / "gate").exists()
    assert (process.returncode, stderr) == (0, "")
    assert "Task killed!" in stdout
    assert json.loads((tmp_path / "tmp" / "modalflow-stop.json").read_text()) == {
        "pid": process.pid, "seconds": 1, "signal": "SIGTERM"
    }  # fmt: skip


def test_the_supervisor_of_this_airflow_is_one_whose_tail_can_be_skipped() -> None:
    code = f"""
source = {bootstrap_source()!r}
names = {{"__name__": "bootstrap"}}
exec(source, names)
from airflow.sdk.execution_time import supervisor
assert names["skip_tail"](supervisor, print) is True
assert names["let_stop"](supervisor, {{"seconds": 30}}, print) is True
assert supervisor.ActivitySubprocess.kill.__qualname__ == "let_stop.<locals>.kill"
assert supervisor.ActivitySubprocess._service_subprocess.__qualname__ == "skip_tail.<locals>._service_subprocess"
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def kept_for(seconds: int) -> dict[str, str]:
    return {"MODALFLOW_KEEP": json.dumps({"seconds": seconds, "usd_hour": 0.12})}


def start_sandbox(env: dict[str, str], workload: dict[str, Any]) -> subprocess.Popen[str]:
    environment = {**env, "MODALFLOW_WORKLOAD": json.dumps(workload)}
    argv = [sys.executable, "-c", bootstrap_source()]
    return subprocess.Popen(
        argv, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


KEPT = re.compile(
    r"modalflow: the task failed; its sandbox is kept for 1800 s, until \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC \(keep_on_failure\), "
    r"which costs up to 0\.0600 USD by list price \(0\.1200 an hour\); look into it: airflow modal shell plain fails "
    r"--run-id (\S+) --try-number 1; end it sooner: modal sandbox terminate sb-of-this-test\n"
)


def test_the_sandbox_of_a_failed_task_is_kept_until_it_is_told_to_stop(airflow: RealAirflow, env: dict[str, str]) -> None:
    (workload,) = airflow.mint("fails")
    with start_sandbox({**env, **kept_for(1800)}, workload) as process:
        assert process.stderr is not None
        try:
            told = KEPT.fullmatch(process.stderr.readline())
            assert told is not None
            assert told[1] == workload["ti"]["run_id"]
            assert airflow.state(workload)["state"] == "failed", "Airflow knows before anybody waits"
            assert process.poll() is None
        finally:
            process.send_signal(signal.SIGTERM)
        stdout, stderr = process.communicate(timeout=BOUND)
    assert (process.returncode, stderr) == (0, "")
    events = [json.loads(line)["event"] for line in stdout.splitlines() if line.startswith("{")]
    assert f"modalflow: {events[-2]}\n" == told[0]
    assert events[-1] == "the sandbox is kept no longer: it is told to stop"


def test_a_kept_sandbox_ends_by_itself(airflow: RealAirflow, run_sandbox: RunSandbox, env: dict[str, str]) -> None:
    (workload,) = airflow.mint("fails")
    ended = run_sandbox({**env, **kept_for(0), "MODALFLOW_WORKLOAD": json.dumps(workload)})
    assert ended.code == 0
    assert ended.log()[-1]["event"] == "the sandbox is kept no longer: its time is over"


def test_a_success_is_not_kept_nor_sees_the_task_of_it(
    airflow: RealAirflow, run_sandbox: RunSandbox, env: dict[str, str]
) -> None:
    (workload,) = airflow.mint("prints")
    ended = run_sandbox({**env, **kept_for(86_400), "MODALFLOW_WORKLOAD": json.dumps(workload)})
    assert (ended.code, ended.stderr) == (0, "")
    assert "kept" not in json.dumps(ended.log())


@pytest.mark.parametrize("by", ["signal", "airflow"])
def test_a_task_that_is_told_to_stop_is_not_kept_though_it_fails(
    airflow: RealAirflow, env: dict[str, str], tmp_path: Path, by: str
) -> None:
    place = {"MODAL_EMULATOR_ROOT": str(tmp_path), "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "1"}
    with waiting_task(airflow, {**env, **place, **kept_for(86_400)}, tmp_path / "gate", "breaks_off") as (workload, process):
        if by == "signal":
            process.send_signal(signal.SIGTERM)
        else:
            airflow.change(workload, "failed")
        _, stderr = process.communicate(timeout=BOUND)
    assert (process.returncode, stderr) == (0, "")
    assert airflow.state(workload)["state"] == "failed"
