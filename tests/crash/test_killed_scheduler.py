"""kill -9 of a real scheduler while each of its tasks is at another instant of being launched; the next one goes on."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.deployment import Deployment
from tests.chaos.plan import Plan, Script
from tests.chaos.verdict import judge
from tests.crash.conftest import all_ended, finished, let_end, lines, wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.emulated]

HELD = 600
"""Seconds for which a call is held: longer than the test."""

SCRIPTS = (
    Script(task_id="unsent", kind="success", seconds=0.1),
    Script(task_id="unsent_resumed", kind="defer", seconds=0.1),
    Script(task_id="unheard", kind="success", seconds=0.1),
    Script(task_id="unheard_resumed", kind="defer", seconds=0.1),
    Script(task_id="first", kind="success", seconds=3),
    Script(task_id="empty_resumed", kind="defer", seconds=0.1, gpu=True),
    Script(task_id="empty", kind="success", seconds=0.1, gpu=True, after="first"),
    Script(task_id="running", kind="success", seconds=200),
    Script(task_id="running_gpu", kind="success", seconds=200, gpu=True),
    Script(task_id="ends_meanwhile", kind="success", seconds=200),
)
"""``unsent``: its create has not reached Modal; ``unheard``: its sandbox exists, whose id no scheduler heard; ``empty``: created,
not given its workload. Each of them also as the second part of a task that deferred."""


def held(task: str, *, skip: int = 0) -> dict[str, object]:
    return {"method": "SandboxCreateV2", "where": {"tags.tag_value": task}, "skip": skip, "times": "always", "delay": HELD}


def unheard(task: str, *, skip: int = 0) -> dict[str, object]:
    return {
        "method": "SandboxCreateV2",
        "where": {"tags.tag_value": task},
        "skip": skip,
        "times": "always",
        "after_handler": True,
        "status": "UNAVAILABLE",
    }


@pytest.mark.timeout(400)
def test_every_task_runs_once_whatever_it_was_at(tmp_path: Path) -> None:
    plan = Plan(seed=0, scripts=SCRIPTS, strikes=())
    deployment = Deployment(tmp_path / "run", plan, full=False)
    with deployment.up():
        emulator = deployment.emulator
        for rule in (
            held("unsent"),
            held("unsent_resumed", skip=1),
            unheard("unheard"),
            unheard("unheard_resumed", skip=1),
            {"method": "SandboxGetFromName*", "times": "always", "delay": HELD},
            # The first writes are those of the GPU tasks that are to go on.
            {"method": "SandboxStdinWrite*", "skip": 2, "times": "always", "delay": HELD},
        ):
            emulator.ask("POST", "/faults", rule)
        deployment.start_schedulers()
        wait_until(deployment, "the run begins", lambda: deployment.airflow.ask("run"))
        wait_until(
            deployment, "user code runs", lambda: lines(deployment, "enter") >= {"running", "running_gpu", "ends_meanwhile"}
        )
        # All six rules have held or lost a call: the two GPU tasks wait for their workload, four CPU tasks for their create.
        wait_until(deployment, "every rule has struck", lambda: all(rule["hits"] for rule in emulator.ask("GET", "/faults")))
        wait_until(
            deployment,
            "both GPU tasks wait for their workload",
            lambda: emulator.ask("GET", "/faults")[-1]["hits"] >= 2,
        )
        before = {line["sandbox"] for line in deployment.ledger()}
        assert lines(deployment, "enter", leg=1) <= {"unheard_resumed"}, "no other resumed task has begun"
        assert deployment.kill_scheduler()

        emulator.ask("DELETE", "/faults")
        let_end(deployment, "ends_meanwhile")
        wait_until(deployment, "a task ends while nobody looks", lambda: "ends_meanwhile" in lines(deployment, "told"))
        assert not {"running", "running_gpu"} & lines(deployment, "told")
        deployment.start_schedulers()
        settled = {one.task_id for one in SCRIPTS} - {"running", "running_gpu"}
        wait_until(deployment, "all others have ended", lambda: finished(deployment) >= settled)
        let_end(deployment, "running", "running_gpu")
        wait_until(deployment, "all tasks have ended", lambda: all_ended(deployment))
        tries = deployment.airflow.ask("tries")
        wait_until(deployment, "no sandbox is left", lambda: emulator.alive() == 0)

    ledger = deployment.ledger()
    verdict = judge(plan, ledger, tries, {}, (), deployment.deaths)
    assert (verdict.lost, verdict.twice, verdict.spent) == ((), (), ())
    legs = [(line["task"], line["leg"]) for line in ledger if line["kind"] == "enter"]
    assert sorted(legs) == sorted((one.task_id, leg) for one in SCRIPTS for leg in ((0, 1) if one.kind == "defer" else (0,))), (
        "a resumed task goes on where it was"
    )
    for task in ("running", "running_gpu", "ends_meanwhile", "unheard", "unheard_resumed"):
        assert {line["sandbox"] for line in ledger if line["task"] == task} <= before, f"{task} was not started again"
