"""Taking the workload, before there is any Airflow: real processes, an interpreter without site-packages."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from modalflow.worker import bootstrap, bootstrap_source
from modalflow.worker.errors import Failure
from tests.worker.conftest import RunSandbox

BARE = (sys.executable, "-S")
"""A Python that sees no installed package, hence no Airflow."""
TOKEN = "eyJhbGciOiJIUzUxMiJ9.the-token-of-this-test.c2lnbmF0dXJl"
WORKLOAD = json.dumps({"type": "ExecuteTask", "token": TOKEN, "log_path": "dag_id=d/attempt=1.log"})


@pytest.fixture
def env(sandbox_home: Path) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(sandbox_home),
        "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(sandbox_home / "logs"),
    }


def test_a_python_without_airflow_says_so_on_stderr_and_in_the_log(run_sandbox: RunSandbox, env: dict[str, str]) -> None:
    ended = run_sandbox({**env, "MODALFLOW_WORKLOAD": WORKLOAD, "MODALFLOW_AIRFLOW_VERSION": "3.3.2"}, python=BARE)
    text = (
        "Airflow cannot be imported in this image (ModuleNotFoundError: No module named 'airflow'); it needs "
        f"apache-airflow==3.3.2; this is Python {sys.version.split()[0]} at {sys.executable}"
    )
    assert (ended.code, ended.stderr) == (66, f"modalflow: {text}\n")
    (record,) = ended.log()
    assert record.pop("timestamp").endswith("Z")
    assert record == {"level": "error", "event": text, "logger": "modalflow"}


def test_the_log_path_of_the_environment_wins(run_sandbox: RunSandbox, env: dict[str, str]) -> None:
    ended = run_sandbox({**env, "MODALFLOW_WORKLOAD": WORKLOAD, "MODALFLOW_LOG_PATH": "mine.log"}, python=BARE)
    assert [path.name for path in (ended.home / "logs").rglob("*.log")] == ["mine.log"]


@pytest.mark.parametrize("path", ["../outside.log", "/outside.log", "a/../../outside.log"])
def test_a_log_path_cannot_leave_its_folder(run_sandbox: RunSandbox, env: dict[str, str], path: str) -> None:
    ended = run_sandbox({**env, "MODALFLOW_WORKLOAD": WORKLOAD, "MODALFLOW_LOG_PATH": path}, python=BARE)
    assert (ended.code, ended.stderr) == (64, f"modalflow: log path: expected a path inside the log folder, got '{path}'\n")


@pytest.mark.parametrize(
    ("payload", "text"),
    [
        pytest.param(f'{{"token": "{TOKEN}"', "the workload is not JSON (at character 68 of 68 bytes)", id="cut"),
        pytest.param(f'["{TOKEN}"]', "the workload is not a JSON object with a type", id="list"),
        pytest.param(f'{{"token": "{TOKEN}"}}', "the workload is not a JSON object with a type", id="no type"),
    ],
)
def test_an_unreadable_workload_is_said_without_quoting_it(
    run_sandbox: RunSandbox, env: dict[str, str], payload: str, text: str
) -> None:
    ended = run_sandbox({**env, "MODALFLOW_WORKLOAD": payload}, python=BARE)
    assert (ended.code, ended.stderr) == (64, f"modalflow: {text}\n")


def test_stdin_that_brings_nothing_ends_after_the_timeout(env: dict[str, str]) -> None:
    read, write = os.pipe()
    try:
        done = subprocess.run(
            [sys.executable, "-c", bootstrap_source()],
            env={**env, "MODALFLOW_HANDOVER_TIMEOUT": "0.1", "MODALFLOW_LOG_PATH": "attempt=1.log"},
            stdin=read, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
    finally:
        os.close(read)
        os.close(write)
    assert (done.returncode, done.stderr) == (65, "modalflow: no workload on stdin within 0.1 s (nothing came)\n")


def test_stdin_that_never_ends_says_how_much_came(env: dict[str, str]) -> None:
    read, write = os.pipe()
    os.write(write, b'{"type"')
    try:
        done = subprocess.run(
            [sys.executable, "-c", bootstrap_source()], env={**env, "MODALFLOW_HANDOVER_TIMEOUT": "0.1"},
            stdin=read, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
    finally:
        os.close(read)
        os.close(write)
    assert (done.returncode, done.stderr) == (65, "modalflow: no workload on stdin within 0.1 s (7 bytes came, and no end)\n")


def test_stdin_closed_without_a_workload(run_sandbox: RunSandbox, env: dict[str, str]) -> None:
    ended = run_sandbox(env)
    assert (ended.code, ended.stderr) == (65, "modalflow: stdin was closed without a workload\n")


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")
def test_sigterm_before_the_task_runs_ends_it(env: dict[str, str]) -> None:
    with subprocess.Popen([sys.executable, "-c", bootstrap_source()], env=env, stdin=subprocess.PIPE) as process:
        status = Path(f"/proc/{process.pid}/status")
        end = time.monotonic() + 30
        while not int(status.read_text().split("SigCgt:")[1].split()[0], 16) >> (signal.SIGTERM - 1) & 1:
            assert time.monotonic() < end, "it never listened for SIGTERM"
        process.terminate()
        assert process.wait(30) == 143


def test_a_python_that_is_too_old_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(sys, "orig_argv")  # new in 3.10
    with pytest.raises(Failure) as failure:
        bootstrap.work()
    assert (failure.value.code, str(failure.value)) == (
        66,
        f"this image has Python {sys.version.split()[0]} at {sys.executable}; Airflow 3.3 needs 3.10 or later",
    )


def test_another_minor_version_of_airflow_is_refused(run_sandbox: RunSandbox, env: dict[str, str]) -> None:
    import importlib.metadata

    found = importlib.metadata.version("apache-airflow-core")
    ended = run_sandbox({**env, "MODALFLOW_WORKLOAD": WORKLOAD, "MODALFLOW_AIRFLOW_VERSION": "2.11.0"})
    text = f"this image has Airflow {found}, the scheduler has 2.11.0; they must be of the same minor version"
    assert (ended.code, ended.stderr) == (66, f"modalflow: {text}\n")


def test_a_workload_of_unknown_shape_is_said_without_its_values(run_sandbox: RunSandbox, env: dict[str, str]) -> None:
    ended = run_sandbox({**env, "MODALFLOW_WORKLOAD": WORKLOAD})
    assert ended.code == 64
    assert ended.stderr == (
        "modalflow: the workload is not one that this Airflow knows (ExecuteTask.dag_rel_path: Field required; "
        "ExecuteTask.bundle_info: Field required; ExecuteTask.ti: Field required)\n"
    )
    assert TOKEN not in ended.stdout


def test_a_log_folder_that_cannot_be_written_is_replaced_and_said(run_sandbox: RunSandbox, env: dict[str, str]) -> None:
    # A file where the folder should be refuses root too, as a read-only Volume does.
    blocked = Path(env["HOME"]) / "blocked"
    blocked.touch()
    ended = run_sandbox(
        {**env, "MODALFLOW_WORKLOAD": WORKLOAD, "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(blocked), "TMPDIR": env["HOME"]},
        python=BARE,
    )
    (private,) = ended.home.glob("airflow-logs-*")
    warning = f"cannot write the log folder {blocked}; this log is on stdout, and in {private}, which goes with the sandbox"
    assert ended.stderr.splitlines()[0] == f"modalflow: {warning}"
    records = [json.loads(line) for line in (private / "dag_id=d" / "attempt=1.log").read_text().splitlines()]
    assert [(record["level"], record["event"][:20]) for record in records] == [
        ("warning", warning[:20]),
        ("error", "Airflow cannot be im"),
    ]
