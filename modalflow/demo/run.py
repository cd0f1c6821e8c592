"""The demo itself: start everything, run the example DAGs, show and judge what happened.

Flows in: a home folder and the Python that plays the sandboxes' image. Flows out: the table on the terminal and an exit code,
0 when every task ended as it should and the DAG with the typo has the import error it should.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live

from modalflow.demo.decisions import DecisionsError, read_decisions
from modalflow.demo.deployment import Deployment, DeploymentError, airflow_log, deploy, isolation_line
from modalflow.demo.expectations import DAG_IDS, EXPECTATIONS, IMPORT_ERROR_DAG, IMPORT_ERROR_TEXT, Expectation
from modalflow.demo.observe import Row, build_row
from modalflow.demo.table import draw
from modalflow.emulator import EmulatorConfigError
from modalflow.emulator.introspection import SandboxRecord, sandbox_records

PARSE_TIMEOUT = 90.0
RUN_TIMEOUT = 420.0
"""Seconds for all runs; about 60 on two cores."""

LOG_TIMEOUT = 15.0
"""Seconds after the last task within which every log is whole."""

POLL = 1.0


def _wait_for_dags(deployment: Deployment) -> None:
    deadline = time.monotonic() + PARSE_TIMEOUT
    while True:
        missing = set(DAG_IDS) - deployment.airflow.api.dag_ids()
        errors = deployment.airflow.api.import_errors()
        if not missing and IMPORT_ERROR_DAG in errors:
            return
        deployment.airflow.check_alive()
        if time.monotonic() > deadline:
            raise DeploymentError(f"DAGs not parsed after {PARSE_TIMEOUT:.0f} s: {sorted(missing)}; import errors: {errors}")
        time.sleep(POLL)


def _by_task(records: Sequence[SandboxRecord]) -> Mapping[tuple[str, str], list[SandboxRecord]]:
    """Group sandboxes by the ``dag_id`` and ``task_id`` tags, oldest first."""
    grouped: dict[tuple[str, str], list[SandboxRecord]] = defaultdict(list)
    for record in sorted(records, key=lambda r: r.created_at):
        grouped[record.tags.get("dag_id", ""), record.tags.get("task_id", "")].append(record)
    return grouped


def _instances(deployment: Deployment, runs: Mapping[str, str]) -> Mapping[tuple[str, str], list[dict[str, Any]]]:
    grouped: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for dag_id, run_id in runs.items():
        for instance in deployment.airflow.api.task_instances(dag_id, run_id):
            grouped[dag_id, instance["task_id"]].append(instance)
    return grouped


def _rows(deployment: Deployment, runs: Mapping[str, str], decisions: Mapping[tuple[str, str], str]) -> list[Row]:
    sandboxes = _by_task(sandbox_records(deployment.emulator))
    instances = _instances(deployment, runs)
    keyed = [((e.dag_id, e.task_id), e) for e in EXPECTATIONS]
    return [build_row(e, instances[key], sandboxes.get(key, []), decisions.get(key, "")) for key, e in keyed]


def _log_problems(deployment: Deployment, runs: Mapping[str, str]) -> list[str]:
    """Read every log as the UI would and say which lack the line they must have.

    A log is whole once its sandbox has ended and committed it, which is a moment after its task.
    """
    lacking = [expected for expected in EXPECTATIONS if expected.log_contains]
    deadline = time.monotonic() + LOG_TIMEOUT
    while lacking := [expected for expected in lacking if expected.log_contains not in _log(deployment, runs, expected)]:
        if time.monotonic() > deadline:
            break
        time.sleep(POLL)
    return [f"{expected.dag_id}.{expected.task_id}: the log lacks {expected.log_contains!r}" for expected in lacking]


def _log(deployment: Deployment, runs: Mapping[str, str], expected: Expectation) -> str:
    return deployment.airflow.api.log(expected.dag_id, runs[expected.dag_id], expected.task_id, 1)


def _drive(deployment: Deployment, console: Console) -> list[str]:
    """Run everything; return what went differently from what it should."""
    _wait_for_dags(deployment)
    import_error = deployment.airflow.api.import_errors()[IMPORT_ERROR_DAG]
    problems = [] if IMPORT_ERROR_TEXT in import_error else [f"{IMPORT_ERROR_DAG}: unexpected import error: {import_error}"]
    runs = {dag_id: deployment.airflow.api.trigger(dag_id) for dag_id in DAG_IDS}
    decisions = read_decisions(deployment.airflow.home, deployment.env)
    deadline = time.monotonic() + RUN_TIMEOUT
    rows: list[Row] = []
    with Live(console=console, refresh_per_second=2, transient=True) as live:
        while not rows or not all(row.finished for row in rows):
            deployment.airflow.check_alive()
            if time.monotonic() > deadline:
                problems.append(f"not finished after {RUN_TIMEOUT:.0f} s")
                break
            rows = _rows(deployment, runs, decisions)
            live.update(draw(rows))
            time.sleep(POLL)
    rows = _rows(deployment, runs, decisions)
    console.print(draw(rows))
    console.print(f"{IMPORT_ERROR_DAG} is an import error, as it should be: {IMPORT_ERROR_TEXT}", markup=False)
    return problems + [f"{row.task}: {row.problem}" for row in rows if row.problem] + _log_problems(deployment, runs)


def run_demo(home: Path, *, worker_python: Path, isolation: str) -> int:
    """Run the demo in ``home``; return the process's exit code. Prints where the logs are."""
    console = Console(width=None if Console().is_terminal else 180)
    console.print("starting the emulator and Airflow (about half a minute)…")
    try:
        with deploy(home, worker_python=worker_python, isolation=isolation) as deployment:
            in_force = isolation_line(deployment)
            console.print(in_force, markup=False)
            problems = _drive(deployment, console)
            console.print(in_force, markup=False)
    except (DeploymentError, DecisionsError, EmulatorConfigError) as error:
        console.print(str(error), style="red", markup=False)
        return 1
    console.print(f"logs: {airflow_log(home)} and {home / 'airflow' / 'logs'}", markup=False)
    for problem in problems:
        console.print(problem, style="red", markup=False)
    return 1 if problems else 0
