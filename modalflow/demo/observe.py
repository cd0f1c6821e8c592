"""What happened to each task, put together from Airflow's API and the emulator's record of what the client asked for.

Flows out: one ``Row`` per expectation, live while the runs go on; ``table`` shows them, ``run`` judges them.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from modalflow.demo.expectations import Expectation
from modalflow.emulator.introspection import SandboxRecord

FINISHED = frozenset({"success", "failed", "upstream_failed", "skipped", "removed"})


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One line of the demo's table. ``problem`` says how it differs from what was expected, empty while it does not."""

    task: str
    asked: str
    decided_by: str
    got: str
    sandbox: str
    state: str
    seconds: float | None
    finished: bool
    problem: str = ""


def _seconds(instances: Sequence[Mapping[str, Any]]) -> float | None:
    """From the first start to the last end of the instances that ran."""
    ran = [one for one in instances if one.get("start_date") and one.get("end_date")]
    if not ran:
        return None
    first, last = (
        pick(datetime.datetime.fromisoformat(one[key]) for one in ran) for pick, key in ((min, "start_date"), (max, "end_date"))
    )
    return (last - first).total_seconds()


def _state(instances: Sequence[Mapping[str, Any]]) -> str:
    """The state that all share, else the one furthest from the end."""
    states = [str(instance["state"] or "scheduled") for instance in instances]
    unfinished = [state for state in states if state not in FINISHED]
    if unfinished:
        return unfinished[0]
    return states[0] if len(set(states)) == 1 else "/".join(sorted(set(states)))


def describe(sandbox: SandboxRecord) -> str:
    """Say what Modal was asked for, in Modal's units."""
    cores = f"{sandbox.milli_cpu / 1000:g} cores" if sandbox.milli_cpu else "default cores"
    if sandbox.milli_cpu_max:
        cores = f"{sandbox.milli_cpu / 1000:g}-{sandbox.milli_cpu_max / 1000:g} cores"
    memory = f"{sandbox.memory_mb} MiB" if not sandbox.memory_mb_max else f"{sandbox.memory_mb}-{sandbox.memory_mb_max} MiB"
    image = "image auto" if sandbox.image.startswith("python:") else sandbox.image
    return f"{sandbox.backend} {sandbox.gpu or 'CPU'}, {cores}, {memory}, {image}, {sandbox.timeout / 3600:g} h"


def build_row(
    expected: Expectation,
    instances: Sequence[Mapping[str, Any]],
    sandboxes: Sequence[SandboxRecord],
    decided_by: str,
) -> Row:
    """Put one row together from a task's instances and sandboxes (oldest first)."""
    state = _state(instances) if instances else "scheduled"
    finished = bool(instances) and all(str(instance["state"]) in FINISHED for instance in instances)
    last = sandboxes[-1] if sandboxes else None
    ids = last.sandbox_id if last else "-"
    return Row(
        task=f"{expected.dag_id}.{expected.task_id}",
        asked=expected.asked,
        decided_by=decided_by,
        got=describe(last) if last else "-",
        sandbox=f"{ids} (+{len(sandboxes) - 1})" if len(sandboxes) > 1 else ids,
        state=state,
        seconds=_seconds(instances),
        finished=finished,
        problem=judge(expected, state, sandboxes) if finished else "",
    )


def judge(expected: Expectation, state: str, sandboxes: Sequence[SandboxRecord]) -> str:
    """Say how a finished task differs from its expectation; empty if it does not."""
    if state != expected.state:
        return f"expected {expected.state}, got {state}"
    gpus = {sandbox.gpu for sandbox in sandboxes[-1:]}
    wanted: set[str | None] = set() if expected.gpu == "" else {expected.gpu}
    if gpus != wanted:
        return f"expected Modal to be asked for {expected.gpu or 'no GPU'}, got {gpus or 'no sandbox'}"
    if len(sandboxes) != expected.sandboxes:
        return f"expected {expected.sandboxes} sandboxes, got {len(sandboxes)}"
    return ""
