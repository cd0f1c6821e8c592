"""Two schedulers on one PostgreSQL, one killed, or both holding each other for dead: nothing is lost or started again."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.deployment import Deployment
from tests.chaos.plan import Plan, Script
from tests.chaos.postgres import postgres_running, programs
from tests.chaos.verdict import judge
from tests.crash.conftest import all_ended, let_end, lines, wait_until

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.emulated,
    pytest.mark.skipif(programs() is None, reason="PostgreSQL is not installed (apt-get install postgresql)"),
]

SCRIPTS = tuple(Script(task_id=f"t{number}", kind="success", seconds=200, gpu=number % 3 == 0) for number in range(6))


@pytest.mark.timeout(400)
def test_the_other_takes_over(tmp_path: Path) -> None:
    plan = Plan(seed=0, scripts=SCRIPTS, strikes=())
    names = {one.task_id for one in SCRIPTS}
    with postgres_running() as url:
        deployment = Deployment(tmp_path / "run", plan, full=False, database=url)
        with deployment.up():
            deployment.start_schedulers()
            wait_until(deployment, "the run begins", lambda: deployment.airflow.ask("run"))
            wait_until(deployment, "all run", lambda: lines(deployment, "enter") == names)
            [first] = deployment.schedulers
            deployment._count = 2
            deployment.start_schedulers()
            wait_until(deployment, "both schedule", lambda: owners(url, "job") == 2)
            [queued_by] = jobs_of_tasks(url)

            assert deployment.kill_scheduler()
            assert first not in deployment.schedulers
            deployment._count = 1
            wait_until(deployment, "the other has them", lambda: queued_by not in jobs_of_tasks(url))
            assert lines(deployment, "told") == set(), "all were taken over while they ran"
            let_end(deployment, *names)
            wait_until(deployment, "all tasks have ended", lambda: all_ended(deployment))
            tries = deployment.airflow.ask("tries")
            wait_until(deployment, "no sandbox is left", lambda: deployment.emulator.alive() == 0)

    ledger = deployment.ledger()
    verdict = judge(plan, ledger, tries, {}, (), deployment.deaths)
    assert (verdict.lost, verdict.twice, verdict.spent, verdict.deaths) == ((), (), (), ())
    assert len({line["sandbox"] for line in ledger}) == len(SCRIPTS), "none was started again"


ORDINARY = tuple(Script(task_id=f"t{number}", kind="success", seconds=200, gpu=number == 0) for number in range(3))
SLOW = (
    Script(task_id="slow", kind="success", seconds=200),
    Script(task_id="slow_gpu", kind="success", seconds=200, gpu=True),
)
"""Their creates take so long that they change hands meanwhile."""
DEFERS = Script(task_id="defers", kind="defer", seconds=0.1)
LATE = Script(task_id="late", kind="success", seconds=0.1, after="t0")
DISPUTED = (*ORDINARY, *SLOW, DEFERS, LATE)


@pytest.mark.timeout(400)
def test_two_that_live_and_hold_each_other_for_dead_run_every_task_once(tmp_path: Path) -> None:
    plan = Plan(seed=0, scripts=DISPUTED, strikes=())
    with postgres_running() as url:
        deployment = Deployment(tmp_path / "run", plan, full=False, database=url, schedulers=2)
        with deployment.up():
            for script in SLOW:
                rule = {"method": "SandboxCreate*", "where": {"tags.tag_value": script.task_id}, "times": 1, "delay": 15}
                deployment.emulator.ask("POST", "/faults", rule)
            deployment.start_schedulers()
            wait_until(deployment, "both schedule", lambda: owners(url, "job") == 2)
            wait_until(deployment, "the run begins", lambda: deployment.airflow.ask("run"))
            changes = Changes(url)
            wait_until(deployment, "the slow ones change hands while queued", lambda: changes.look("queued") >= set(names(SLOW)))
            wait_until(deployment, "all run", lambda: lines(deployment, "enter") >= set(names(DISPUTED)) - {"late"})
            wait_until(deployment, "they change hands while they run", lambda: changes.look("running") >= set(names(ORDINARY)))
            let_end(deployment, *names(ORDINARY), *names(SLOW))
            wait_until(deployment, "all tasks have ended", lambda: all_ended(deployment))
            tries = deployment.airflow.ask("tries")
            wait_until(deployment, "no sandbox is left", lambda: deployment.emulator.alive() == 0)
            assert len(deployment.schedulers) == 2

    ledger = deployment.ledger()
    verdict = judge(plan, ledger, tries, {}, (), deployment.deaths)
    assert (verdict.lost, verdict.twice, verdict.spent, verdict.deaths) == ((), (), (), ())
    entered = sorted(line["task"] for line in ledger if line["kind"] == "enter")
    assert entered == sorted([*names(DISPUTED), "defers"]), "every task once, the one that deferred in two parts"


class Changes:
    """Which tasks have been seen with two schedulers in one state.

    At each look both are declared dead, as a look at heartbeats that are late does: the next heartbeat of each says otherwise
    (3.3.2, ``Job.heartbeat``), and whoever looks for orphans before is offered the tasks of both.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._seen: dict[tuple[str, str], set[int]] = {}

    def look(self, state: str) -> set[str]:
        """Look once; return those of ``state``."""
        tell(self._url, "update job set state = 'failed' where job_type = 'SchedulerJob'")
        for task, now, job in rows(self._url, "select task_id, state, queued_by_job_id from task_instance"):
            self._seen.setdefault((task, now), set()).add(job)
        return {task for (task, one), jobs in self._seen.items() if one == state and len(jobs - {None}) > 1}


def names(scripts: tuple[Script, ...]) -> list[str]:
    """The task ids."""
    return [one.task_id for one in scripts]


def owners(url: str, table: str) -> int:
    """Schedulers that say they run."""
    return int(ask(url, f"select count(*) from {table} where job_type = 'SchedulerJob' and state = 'running'")[0])


def jobs_of_tasks(url: str) -> set[int]:
    """Whose the task instances are."""
    return set(ask(url, "select distinct queued_by_job_id from task_instance"))


def ask(url: str, query: str) -> list[int]:
    return [row[0] for row in rows(url, query)]


def rows(url: str, query: str) -> list[Any]:
    with connected(url) as cursor:
        cursor.execute(query)
        return list(cursor.fetchall())


def tell(url: str, command: str) -> None:
    with connected(url) as cursor:
        cursor.execute(command)


@contextlib.contextmanager
def connected(url: str) -> Iterator[Any]:
    """A cursor of a transaction that is committed."""
    import psycopg2  # type: ignore[import-untyped]

    connection = psycopg2.connect(url.replace("+psycopg2", ""))
    try:
        with connection, connection.cursor() as cursor:
            yield cursor
    finally:
        connection.close()
