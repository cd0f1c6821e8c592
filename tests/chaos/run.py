"""One seed from start to verdict.

Flows in: a plan and a new folder. Flows out: a ``Verdict``, and in the folder the story, the ledger and all logs.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

from tests.chaos.deployment import Deployment
from tests.chaos.faults import Faults
from tests.chaos.plan import Plan, Strike
from tests.chaos.postgres import postgres_running
from tests.chaos.verdict import FINAL, Verdict, judge

START = 180.0
STALL = {"light": 20.0, "full": 75.0}
"""Seconds without any change after which the next fault strikes all the same. Full runs begin tasks with seconds of imports."""
LAST_STALL = 150.0
"""Seconds without any change, all faults over, after which the rest is lost: longer than any bound of modalflow's here."""
SWEEP = 45.0
"""Seconds for the last sandboxes to end after the last task has."""
LOOK_EVERY = 0.25


def run_plan(
    plan: Plan, folder: Path, *, full: bool, say: Callable[[str], None], postgres: bool = False, plant: str = ""
) -> Verdict:
    """Carry the plan out in ``folder`` (made) and judge it. What ``say`` is told is kept in ``story.txt`` too.

    ``postgres``: two schedulers on a PostgreSQL of this run's own, else one on SQLite. ``plant``: a defect of ``planted`` that
    light runs are to have.
    """
    if not postgres:
        return _run(Deployment(folder, plan, full=full, plant=plant), say)
    with postgres_running() as url:
        return _run(Deployment(folder, plan, full=full, database=url, schedulers=2, plant=plant), say)


def _run(deployment: Deployment, say: Callable[[str], None]) -> Verdict:
    plan, folder = deployment.plan, deployment.folder
    began = time.monotonic()

    def tell(text: str) -> None:
        line = f"{time.monotonic() - began:7.2f} s  {text}"
        with (folder / "story.txt").open("a") as story:
            story.write(line + "\n")
        say(line)

    with deployment.up():
        faults = Faults(deployment, tell)
        tell("up")
        deployment.start_schedulers()
        _begin(deployment)
        _strike_and_wait(deployment, faults, deque(plan.strikes), tell)
        left = _left(deployment)
        tries, log = deployment.airflow.ask("tries"), deployment.airflow.ask("log")
    ledger = deployment.ledger()
    for name, found in (("tries", tries), ("log", log), ("killed", faults.killed)):
        (folder / f"{name}.json").write_text(json.dumps(found, indent=1))
    return judge(plan, ledger, tries, faults.killed, left, deployment.deaths, deployment.silent())


def _begin(deployment: Deployment) -> None:
    """Start the run as soon as its DAG is stored."""
    deadline = time.monotonic() + START
    while deployment.airflow.ask("run") is None:
        if time.monotonic() > deadline:
            raise RuntimeError(f"the DAG was not stored within {START:g} s; see {deployment.folder / 'airflow.log'}")
        time.sleep(LOOK_EVERY)


def _strike_and_wait(deployment: Deployment, faults: Faults, strikes: deque[Strike], tell: Callable[[str], None]) -> None:
    seen: tuple[object, ...] = ()
    changed = time.monotonic()
    calm = False
    stall = STALL["full" if deployment.full else "light"]
    while True:
        faults.work()
        deployment.look_after_schedulers()
        entries = sum(line["kind"] == "enter" for line in deployment.ledger())
        states = deployment.airflow.ask("states")
        if sum(count for state, count in states.items() if state not in FINAL) == 0:
            tell(f"all tasks have ended: {states}; {len(strikes)} faults unused")
            break
        now = time.monotonic()
        if (entries, states) != seen:
            seen, changed = (entries, states), now
        while strikes and (strikes[0].at <= entries or (now - changed > stall and faults.quiet)):
            faults.strike(strikes.popleft())
            changed = now
        if not strikes and faults.quiet and not calm:
            calm = True
            deployment.emulator.ask("DELETE", "/faults")
            deployment.start_schedulers()
            tell(f"the last fault is over: {states}")
        if now - changed > LAST_STALL:
            tell(f"nothing has changed for {LAST_STALL:g} s: {states}")
            break
        time.sleep(LOOK_EVERY)
    faults.calm()
    deployment.start_schedulers()


def _left(deployment: Deployment) -> list[str]:
    """Sandboxes that live on after the last task."""
    deadline = time.monotonic() + SWEEP
    while deployment.emulator.alive() and time.monotonic() < deadline:
        deployment.look_after_schedulers()
        time.sleep(LOOK_EVERY)
    with contextlib.suppress(LookupError):
        running = deployment.emulator.running()
        alive = deployment.emulator.alive()
        if alive:
            return [f"{alive} sandboxes live {SWEEP:g} s after the last task: {', '.join(running) or 'none of them runs'}"]
    return []
