"""One real Airflow for all tests of the worker, and a way to run the sandbox's program as Modal would."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from modalflow.worker import bootstrap_source
from tests.worker.real_airflow import RealAirflow, real_airflow


@pytest.fixture(scope="session")
def airflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealAirflow]:
    """A database and the real execution API."""
    with real_airflow(tmp_path_factory.mktemp("real") / "airflow") as running:
        yield running


@dataclass(frozen=True, kw_only=True)
class Ended:
    """What is left of a sandbox."""

    code: int
    stdout: str
    stderr: str
    home: Path

    @property
    def events(self) -> list[str]:
        """The messages on stdout."""
        return [json.loads(line)["event"] for line in self.stdout.splitlines() if line.startswith("{")]

    def log(self, name: str = "attempt=1.log") -> list[dict[str, Any]]:
        """The records of the task's log file."""
        return [json.loads(line) for line in self.log_file(name).read_text().splitlines()]

    def log_file(self, name: str = "attempt=1.log") -> Path:
        """The one file of this sandbox for the try's log ``name``."""
        (path,) = (self.home / "logs").rglob(f"{name}*")
        return path


RunSandbox = Callable[..., Ended]


@pytest.fixture
def sandbox_home(tmp_path: Path) -> Path:
    """The sandbox's own folder."""
    home = tmp_path / "sandbox"
    home.mkdir()
    return home


@pytest.fixture
def run_sandbox(sandbox_home: Path) -> RunSandbox:
    """Run the program to its end: ``run(env, stdin=b"…", python=[…])``."""

    def run(env: Mapping[str, str], *, stdin: bytes = b"", python: tuple[str, ...] = (sys.executable,)) -> Ended:
        done = subprocess.run(
            [*python, "-c", bootstrap_source()], env=dict(env), input=stdin, capture_output=True, timeout=120, check=False
        )
        return Ended(code=done.returncode, stdout=done.stdout.decode(), stderr=done.stderr.decode(), home=sandbox_home)

    return run
