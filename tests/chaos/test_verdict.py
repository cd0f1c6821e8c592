"""The verdict, on runs as short as can be: each thing that must not be is seen."""

from __future__ import annotations

from typing import Any

import pytest

from tests.chaos.plan import Kind, Plan, Script
from tests.chaos.verdict import Verdict, held_for_dead, judge


def judged(
    kind: Kind,
    *,
    ledger: list[dict[str, Any]],
    tries: list[dict[str, Any]],
    killed: dict[str, str] | None = None,
    left: list[str] | None = None,
    deaths: list[str] | None = None,
    silent: tuple[str, ...] = (),
) -> Verdict:
    plan = Plan(seed=1, scripts=(Script(task_id="t0", kind=kind, seconds=0.1),), strikes=())
    return judge(plan, ledger, tries, killed or {}, left or [], deaths or [], silent)


def line(
    kind: str, sandbox: str = "sb-1", *, ti: str = "a", number: int = 1, leg: int = 0, state: str = "success"
) -> dict[str, Any]:
    return {"kind": kind, "ti": ti, "task": "t0", "try": number, "leg": leg, "sandbox": sandbox, "launch": "L", "state": state}


def row(
    state: str | None, *, ti: str = "a", number: int = 1, past: bool = False, external: str | None = "L/sb-1"
) -> dict[str, Any]:
    return {"ti": ti, "task": "t0", "try": number, "state": state, "external": external, "past": past}


WELL = [line("born"), line("enter"), line("leave")]


def test_a_task_that_ended_as_its_script_says() -> None:
    verdict = judged("success", ledger=WELL, tries=[row("success")])
    assert verdict.good
    assert (verdict.lost, verdict.twice, verdict.left, verdict.spent) == ((), (), (), ())
    assert verdict.figures == {"tasks": 1, "tries": 1, "sandboxes": 1, "entries": 1, "killed sandboxes": 0}


@pytest.mark.parametrize(
    ("kind", "tries", "sentence"),
    [
        pytest.param("success", [row("running")], "t0 (success) try 1: running, expected success (L/sb-1)", id="no end"),
        pytest.param("fail", [row("success")], "t0 (fail) try 1: success, expected failed (L/sb-1)", id="another end"),
        pytest.param(
            "success", [row(None, external=None)], "t0 (success) try 1: None, expected success (None)", id="never began"
        ),
        pytest.param("success", [row("failed", past=True)], "t0 (success): Airflow has no such task instance", id="only history"),
    ],
)
def test_a_lost_task(kind: Kind, tries: list[dict[str, Any]], sentence: str) -> None:
    verdict = judged(kind, ledger=WELL, tries=tries)
    assert verdict.lost == (sentence,)
    assert not verdict.good


def test_user_code_entered_by_two_launches() -> None:
    verdict = judged("success", ledger=[*WELL, line("enter", "sb-2")], tries=[row("success")])
    assert verdict.twice == ("t0 a leg 0 was entered 2 times: L in sb-1 (try 1), L in sb-2 (try 1)",)
    assert not verdict.good


def test_the_legs_of_a_deferred_task_and_a_further_try_are_no_double() -> None:
    ledger = [line("enter"), line("enter", "sb-2", leg=1), line("enter", "sb-3", ti="b", number=2)]
    tries = [row("failed", past=True), row("success", ti="b", number=2)]
    assert judged("defer", ledger=ledger, tries=tries, killed={"sb-2": "preemption"}).good


def test_a_task_that_was_started_again_though_nothing_had_ended_it() -> None:
    # As when a scheduler hands a running task back instead of adopting it: the id stays, the try number does not.
    ledger = [*WELL[:2], line("enter", "sb-2", number=2), line("leave", "sb-2", number=2)]
    told = ("t0 a leg 0 was entered 2 times: L in sb-1 (try 1), L in sb-2 (try 2)",)
    verdict = judged("success", ledger=ledger, tries=[row("success", number=2)])
    assert verdict.again == told
    assert not verdict.good
    assert judged("success", ledger=ledger, tries=[row("success", number=2)], killed={"sb-1": "preemption"}).again == ()


def test_a_workload_that_two_sandboxes_took_though_one_alone_was_let_begin() -> None:
    ledger = [*WELL, line("born", "sb-2"), line("refused", "sb-2")]
    verdict = judged("success", ledger=ledger, tries=[row("success")])
    assert verdict.twins == ("t0 a launch L was taken by 2 sandboxes: sb-1, sb-2",)
    assert not verdict.good
    assert judged("success", ledger=ledger, tries=[row("success")], killed={"sb-2": "preemption"}).good


def test_schedulers_that_hold_each_other_for_dead_may_both_take_a_queued_task_over() -> None:
    log = "[info] Heartbeat recovered after 7.99 seconds\n[info] Heartbeat recovered after 8.67 seconds [airflow.jobs.job.Job]\n"
    silent = held_for_dead(log, 8)
    assert silent == ("a scheduler that lived gave no sign for 8.67 s",)
    verdict = judged(
        "success", ledger=[*WELL, line("born", "sb-2"), line("refused", "sb-2")], tries=[row("success")], silent=silent
    )
    assert verdict.good
    assert len(verdict.twins) == 1
    twice = [*WELL, line("born", "sb-2"), line("enter", "sb-2")]
    assert not judged("success", ledger=twice, tries=[row("success")], silent=silent).good


def test_a_sandbox_that_is_left() -> None:
    verdict = judged("success", ledger=WELL, tries=[row("success")], left=["1 sandboxes live 45 s after the last task: sb-1"])
    assert not verdict.good


SECOND = [*WELL[:2], line("enter", "sb-2", ti="b", number=2), line("leave", "sb-2", ti="b", number=2)]
TRIES = [row("failed", past=True), row("success", ti="b", number=2, external="L/sb-2")]


def test_a_try_that_nothing_explains_is_told_and_loses_nothing() -> None:
    verdict = judged("success", ledger=SECOND, tries=TRIES)
    assert verdict.spent == ("t0 (success) try 1 a: L/sb-1; sandboxes: sb-1",)
    assert verdict.good


def test_a_killed_sandbox_explains_its_try_by_ledger_or_by_id() -> None:
    assert judged("success", ledger=SECOND, tries=TRIES, killed={"sb-1": "want of memory"}).spent == ()
    assert judged("success", ledger=SECOND[2:], tries=TRIES, killed={"sb-1": "preemption"}).spent == ()


def test_the_script_explains_its_try() -> None:
    ledger = [*SECOND[:2], line("leave", state="up_for_retry"), *SECOND[2:]]
    assert judged("fail-once", ledger=ledger, tries=TRIES).spent == ()


def test_a_scheduler_that_died_of_us() -> None:
    own = "a scheduler ended by itself: sqlalchemy.orm.exc.StaleDataError: UPDATE statement on table 'task_instance' …"
    ours = "a scheduler ended by itself: KeyError: 'launch'"
    assert judged("success", ledger=WELL, tries=[row("success")], deaths=[own]).good
    assert not judged("success", ledger=WELL, tries=[row("success")], deaths=[own, ours]).good
