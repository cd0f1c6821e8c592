"""``modalflow demo up``, the shell that the tutorial continues in, and ``modalflow demo down``."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.emulated]

COMMAND = [sys.executable, "-m", "modalflow.cli.main", "demo"]

TUTORIAL = """
set -e
. .modalflow/up.env
cat > "$AIRFLOW__CORE__DAGS_FOLDER/hello_gpu.py" <<'END'
from airflow.sdk import dag, task


@dag(schedule=None)
def hello_gpu():
    @task(executor_config={"modal": {"gpu": "A10G", "memory": "1Gi"}})
    def hello():
        print("hello from a sandbox with a GPU")

    hello()


hello_gpu()
END
airflow modal explain hello_gpu hello
airflow modal ps
"""


def demo(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *arguments], cwd=folder, capture_output=True, text=True, timeout=280, check=False)


@pytest.mark.timeout(600)
def test_the_tutorial_from_up_to_down(tmp_path: Path, worker_python: Path) -> None:
    home = tmp_path / "home"
    try:
        up = demo(tmp_path, "up", "--home", str(home), "--worker-python", str(worker_python))
        assert up.returncode == 0, up.stdout + up.stderr
        assert "shell:    . .modalflow/up.env" in up.stdout
        again = demo(tmp_path, "up")
        assert again.stdout == "already up\n" + up.stdout.partition("…\n")[2]
        own = {**os.environ, "AIRFLOW__CORE__EXECUTOR": "LocalExecutor", "MODAL_TOKEN_ID": "ak-own"}
        told = subprocess.run(
            ["sh", "-c", TUTORIAL], cwd=tmp_path, env=own, capture_output=True, text=True, timeout=120, check=False
        )
        assert told.returncode == 0, told.stdout + told.stderr
        assert "A10G" in told.stdout
        assert "No sandbox of deployment 'airflow' runs in App 'modalflow', and no task waits for one." in told.stdout
    finally:
        down = demo(tmp_path, "down")
    assert down.stdout == f"stopped; its DAGs, database and logs are still in {home}\n"
    assert list((tmp_path / ".modalflow").iterdir()) == []
