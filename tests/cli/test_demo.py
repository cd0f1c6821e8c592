"""``modalflow demo``: what it refuses, what ``up`` leaves for a shell, and whom ``down`` stops."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from modalflow.cli.main import main
from modalflow.demo import command
from modalflow.demo.deployment import client_environment, environment


@pytest.fixture(autouse=True)
def _folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def bystander() -> Iterator[subprocess.Popen[bytes]]:
    """A process that ends when its stdin does."""
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as process:
        yield process
        process.kill()


def write_state(pid: int, **more: object) -> None:
    command.STATE.parent.mkdir()
    command.STATE.write_text(json.dumps({"pid": pid, "url": "http://127.0.0.1:1", "home": "/home/of/it", **more}))
    command.STATE.with_suffix(".env").write_text("")


@pytest.mark.parametrize("which", ["run", "up"])
def test_a_home_that_is_not_empty_is_refused(which: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home = tmp_path / "home"
    (home / "dags").mkdir(parents=True)
    assert main(["demo", which, "--home", str(home)]) == 2
    assert capsys.readouterr().err == f"modalflow demo: --home: {home} is not an empty folder; name a new one\n"


@pytest.mark.parametrize("which", ["run", "up"])
def test_a_worker_python_that_cannot_run_is_refused(which: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    python = tmp_path / "no-python"
    assert main(["demo", which, "--worker-python", str(python)]) == 2
    assert capsys.readouterr().err == (
        f"modalflow demo: --worker-python: {python} is not an executable file; name the python of an environment with Airflow\n"
    )


def test_up_says_why_it_did_not_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "_new_home", lambda: tmp_path / "home")
    script = tmp_path / "python"
    script.write_text("#!/bin/sh\necho starting; echo 'Airflow was not ready' >&2; exit 1\n")
    script.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(script))
    assert main(["demo", "up", "--worker-python", str(script)]) == 1
    captured = capsys.readouterr()
    assert captured.err == f"did not start: Airflow was not ready\nmore in {tmp_path / 'home'}\n"
    assert not command.STATE.exists()


def test_ctrl_c_while_starting_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    script = tmp_path / "python"
    script.write_text("#!/bin/sh\nexec tail -f /dev/null\n")
    script.chmod(0o700)
    started: list[subprocess.Popen[bytes]] = []

    def interrupted(process: subprocess.Popen[bytes]) -> bool:
        started.append(process)
        raise KeyboardInterrupt

    monkeypatch.setattr(sys, "executable", str(script))
    monkeypatch.setattr(command, "_wait_until_up", interrupted)
    assert main(["demo", "up", "--home", str(tmp_path / "home"), "--worker-python", str(script)]) == 130
    assert capsys.readouterr().err == "interrupted\n"
    assert [process.returncode for process in started] == [-15]


def test_down_without_up(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "down"]) == 0
    assert capsys.readouterr().out == "nothing is up in this folder\n"


def test_down_stops_what_up_started(bystander: subprocess.Popen[bytes], capsys: pytest.CaptureFixture[str]) -> None:
    write_state(bystander.pid, started_at=command._started_at(bystander.pid))
    assert main(["demo", "down"]) == 0
    assert capsys.readouterr().out == "stopped; its DAGs, database and logs are still in /home/of/it\n"
    assert bystander.wait(5) == -15
    assert list(command.STATE.parent.iterdir()) == []


def test_down_leaves_a_later_process_of_the_same_number_alone(
    bystander: subprocess.Popen[bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    write_state(bystander.pid, started_at=1)
    assert main(["demo", "down"]) == 0
    assert capsys.readouterr().out == "nothing is up in this folder\n"
    assert bystander.poll() is None
    assert list(command.STATE.parent.iterdir()) == []


def test_the_environment_for_a_shell_is_complete_private_and_free_of_the_users_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__CORE__PARALLELISM", "1")
    home = tmp_path / "a home"
    given = {
        "MODAL_SERVER_URL": "http://127.0.0.1:2",
        "MODAL_TOKEN_SECRET": "as-" + "it's",
        "NO_PROXY": "localhost",
        "no_proxy": "localhost",
    }
    env = environment(home, given)
    command._write_state(tmp_path / "up.json", home, "http://127.0.0.1:1", env, isolation="isolation: process")
    for name in ("up.json", "up.env"):
        assert oct((tmp_path / name).stat().st_mode & 0o777) == "0o600"

    own = {"PATH": os.environ["PATH"], "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": "postgresql://own", "MODAL_ENVIRONMENT": "own"}
    read = ["sh", "-c", '. "$0" && env -0', str(tmp_path / "up.env")]
    printed = subprocess.run(read, env=own, capture_output=True, text=True, check=True).stdout
    seen = dict(line.split("=", 1) for line in printed.split("\0") if line)
    assert {k: v for k, v in seen.items() if k not in {"PATH", "PWD", "SHLVL", "_", "OLDPWD"}} == client_environment(env)
    assert seen["AIRFLOW_HOME"] == str(home / "airflow")
    assert seen["MODAL_TOKEN_SECRET"] == given["MODAL_TOKEN_SECRET"]
    assert seen["PATH"] == f"{Path(sys.executable).parent}:{own['PATH']}"
    assert "HOME" not in client_environment(env)
