"""A cold, empty task: from handed over to its end known, sandbox start included, against Airflow's own bare worker command.

Ours: the unmodified modal client creates a sandbox on the emulator (a process of its own), the bootstrap runs the task in it,
and the client is told the end. Peer: ``python -m airflow.sdk.execution_time.execute_workload --json-path FILE`` of a like task
instance, as a plain subprocess. Same interpreter, same ``AIRFLOW__*`` environment, same execution API (the real one, on
SQLite), alternating; both have run before, so the disk is warm. Airflow's supervisor sometimes sleeps up to 5 s after a task:
rounds in which that struck the peer are reported apart and do not count.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

from benchmarks.report import report
from modalflow.launch.gateway import EndKind
from modalflow.modal_gateway.gateway import ModalGateway
from modalflow.settings import LaunchSettings
from modalflow.translation.plan import ImagePlan, SandboxPlan, VolumePlan
from modalflow.worker import bootstrap_source
from tests.worker.real_airflow import RealAirflow, real_airflow

ROUNDS = 10
MOST_ROUNDS = 30
"""The tail strikes about every second or third run of the peer; then another round is needed."""
TAIL = 4.0
"""Seconds above the quickest run of the peer from which on a run was struck by the tail (which takes up to 5 s)."""
GOAL = 1.0
ROOT = Path(__file__).parents[1]
IMAGE = ROOT / ".venv-worker" / "bin" / "python"
LOGS = "/mnt/modalflow/logs"


@dataclass(kw_only=True)
class Rounds:
    """Seconds of both sides, round by round."""

    ours: list[float] = field(default_factory=list)
    peer: list[float] = field(default_factory=list)

    def struck(self) -> list[int]:
        """The rounds in which the tail struck the peer."""
        return [i for i, seconds in enumerate(self.peer) if seconds >= min(self.peer) + TAIL]

    def fair(self) -> tuple[list[float], list[float]]:
        """The other rounds."""
        kept = [i for i in range(len(self.peer)) if i not in self.struck()]
        return [self.ours[i] for i in kept], [self.peer[i] for i in kept]


@contextmanager
def emulator(python: Path) -> Iterator[None]:
    """An emulator in a process of its own, as on Modal; its environment is set here."""
    code = (
        "import json, pathlib, sys\nfrom modalflow.emulator import EmulatorConfig, EmulatorThread\n"
        "with EmulatorThread(EmulatorConfig(python=pathlib.Path(sys.argv[1]), image_builds='record')) as emulator:\n"
        "    print(json.dumps(dict(emulator.environment())), flush=True)\n    sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(python)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        os.environ.update(json.loads(process.stdout.readline()))
        yield
        process.stdin.close()


async def run_ours(gateway: ModalGateway, env: Mapping[str, str], workload: dict[str, Any]) -> float:
    """Seconds from handing a workload to Modal to knowing how its sandbox ended."""
    launch_id = str(uuid4())
    log_path = Path(workload["log_path"])
    plan = SandboxPlan(
        image=ImagePlan(reference=None, python_version="3.11"),
        env={
            **{name: value for name, value in env.items() if name.startswith("AIRFLOW__")},
            "AIRFLOW__LOGGING__BASE_LOG_FOLDER": LOGS,
            "MODALFLOW_LAUNCH_ID": launch_id,
            "MODALFLOW_LOG_PATH": log_path.name,
        },
        volumes=(
            VolumePlan(mount_path=LOGS, name="modalflow-logs", sub_path=str(log_path.parent), version=2, create_if_missing=True),
        ),
    )
    started = time.perf_counter()
    secret = {"MODALFLOW_WORKLOAD": json.dumps(workload)}
    sandbox_id = await gateway.create(
        plan, name=launch_id, gpu=None, argv=["python", "-c", bootstrap_source()], secret_env=secret
    )
    end = await gateway.wait(sandbox_id)
    seconds = time.perf_counter() - started
    if end.kind is not EndKind.SUCCESS:
        raise RuntimeError(f"our task ended with {end}: {await gateway.output_tail(sandbox_id, max_bytes=4000)}")
    return seconds


def run_peer(python: Path, env: Mapping[str, str], home: Path, workload: dict[str, Any]) -> float:
    """Seconds of Airflow's own command, from start to exit."""
    file = home / "workload.json"
    file.write_text(json.dumps(workload))
    command = [str(python), "-m", "airflow.sdk.execution_time.execute_workload", "--json-path", str(file)]
    started = time.perf_counter()
    done = subprocess.run(command, env=dict(env), cwd=home, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - started
    if done.returncode != 0:
        raise RuntimeError(f"the peer failed: {done.stderr}")
    return seconds


async def measure(airflow: RealAirflow, python: Path, folder: Path) -> Rounds:
    """Run rounds until enough were fair."""
    rounds = Rounds()
    gateway = ModalGateway(LaunchSettings())
    for number in range(-1, MOST_ROUNDS):
        first, second = airflow.mint("empty", count=2)
        home = folder / f"round{number}"
        home.mkdir()
        env = airflow.worker_env(home)
        ours = await run_ours(gateway, env, first)
        peer = await asyncio.to_thread(run_peer, python, env, home, second)
        states = {airflow.state(first)["state"], airflow.state(second)["state"]}
        if states != {"success"}:
            raise RuntimeError(f"a task of round {number} ended as {states}")
        if number < 0:  # both sides once before, to have the disk and the API server warm
            continue
        rounds.ours.append(ours)
        rounds.peer.append(peer)
        if len(rounds.fair()[0]) >= ROUNDS:
            break
    await gateway.close()
    return rounds


def main() -> int:
    """Measure and report; 1 if the goal is missed."""
    python = IMAGE if IMAGE.exists() else Path(sys.executable)
    with tempfile.TemporaryDirectory(prefix="modalflow-bench-") as name:
        folder = Path(name)
        with real_airflow(folder / "airflow") as airflow, emulator(python):
            rounds = asyncio.run(measure(airflow, python, folder))
    ours, peer = rounds.fair()
    for i in rounds.struck():
        print(f"cold empty task | peer struck by its tail | ours {rounds.ours[i]:.3f} s | peer {rounds.peer[i]:.3f} s")
    return 0 if report("cold empty task", ours, peer, unit="s", goal_ratio=GOAL) else 1


if __name__ == "__main__":
    sys.exit(main())
