"""Side by side with the published modalflow 0.3.1: heartbeats at 20, 200 and 2,000 running tasks, and 100 launches.

Each executor runs in an environment of its own (0.3.1 is installed from the package index into ``.venv-published``), with the
same Airflow and the same modal client, against the same control plane without processes, which answers after 20 ms. Ours and
theirs take turns. Run as ``python -m benchmarks.published``.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.control_plane import ControlPlaneProcess, Settings
from benchmarks.report import report

ROOT = Path(__file__).parents[1]
ENVIRONMENT = ROOT / ".venv-published"
VERSION = "0.3.1"
LATENCY = 0.02
"""Seconds that each RPC takes."""
LAUNCHES = 100
RUNNING = [20, 200, 2_000]
LIFETIME = 0.5
"""Seconds that a sandbox runs where launches are measured."""


def published_python() -> Path:
    """Return the interpreter of an environment with the published package, made at the first need."""
    python = ENVIRONMENT / "bin" / "python"
    if not (ENVIRONMENT / ".ready").exists():
        uv = [str(Path(sys.executable).with_name("uv"))]
        subprocess.run([*uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(ENVIRONMENT)], check=True)
        wanted = ["--constraint", str(ROOT / "constraints.txt"), f"modalflow=={VERSION}"]
        subprocess.run([*uv, "pip", "install", "--quiet", "--python", str(python), "--compile-bytecode", *wanted], check=True)
        (ENVIRONMENT / ".ready").touch()
    return python


def environment(plane: Mapping[str, str], home: str, module: str) -> dict[str, str]:
    """Return what both get: an empty Airflow, the control plane, and our options, which 0.3.1 does not read."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "MODAL", "PYTHONPATH"))}
    return kept | {
        **plane,
        "AIRFLOW_HOME": home,
        "AIRFLOW__CORE__EXECUTOR": module,
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": "https://airflow.example.com/execution/",
        "AIRFLOW__API_AUTH__JWT_SECRET": "a secret of the benchmarks that is long enough for HS512, which wants 64 bytes",
        "AIRFLOW__LOGGING__LOGGING_LEVEL": "ERROR",
        "AIRFLOW__MODAL_EXECUTOR__LOGS_VOLUME": "",
        "AIRFLOW__MODAL_EXECUTOR__CPU_CREATE_RATE": "0",  # Modal's limit is not what is measured
    }


def probe(python: str | Path, task: Mapping[str, Any], *, lifetime: float | None) -> Any:
    """Run the probe once, against a fresh control plane; returns its figures."""
    settings = Settings(latency=LATENCY) if lifetime is None else Settings(latency=LATENCY, lifetime=lifetime)
    script = str(ROOT / "benchmarks" / "published_probe.py")
    with ControlPlaneProcess(settings, module="benchmarks.published_plane") as plane, tempfile.TemporaryDirectory() as home:
        env = environment(plane.environment, home, "modalflow.executor.ModalExecutor")
        done = subprocess.run(
            [str(python), script, json.dumps(task)], env=env, cwd=home, stdout=subprocess.PIPE, text=True, check=True
        )
    return json.loads(done.stdout.splitlines()[-1])


def both(task: Mapping[str, Any], *, lifetime: float | None) -> tuple[Any, Any]:
    """Measure ours, then theirs."""
    return probe(sys.executable, task, lifetime=lifetime), probe(published_python(), task, lifetime=lifetime)


def in_ms(seconds: list[float]) -> list[float]:
    """Return milliseconds."""
    return [value * 1000 for value in seconds]


def main() -> int:
    """Return 0 if each goal was met, else 1."""
    published_python()
    ours, theirs = both({"launches": LAUNCHES, "rounds": 3, "running": [], "beats": 0}, lifetime=LIFETIME)
    held = f"heartbeat held by {LAUNCHES} launches (peer: modalflow {VERSION})"
    good = [
        report(held, in_ms(ours["held"]), in_ms(theirs["held"]), unit="ms", goal_ratio=0.01),
        report(f"{LAUNCHES} launches", in_ms(ours["launched"]), in_ms(theirs["launched"]), unit="ms", goal_ratio=0.5),
    ]
    for name, figures in (("ours", ours), (f"modalflow {VERSION}", theirs)):
        print(f"launches a second, {name}: {LAUNCHES / median(figures['launched']):.0f}")
    ours, theirs = both({"launches": 1, "rounds": 0, "running": RUNNING, "beats": 2}, lifetime=None)
    for count in RUNNING:
        name = f"heartbeat, {count} running (peer: modalflow {VERSION})"
        good.append(report(name, in_ms(ours[str(count)]), in_ms(theirs[str(count)]), unit="ms", goal_ratio=0.01))
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())
