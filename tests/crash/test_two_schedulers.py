"""Two schedulers on one PostgreSQL, one killed: the other takes over what it ran, and starts none of it again."""

from __future__ import annotations

from pathlib import Path

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


def owners(url: str, table: str) -> int:
    """Schedulers that say they run."""
    return int(ask(url, f"select count(*) from {table} where job_type = 'SchedulerJob' and state = 'running'")[0])


def jobs_of_tasks(url: str) -> set[int]:
    """Whose the task instances are."""
    return set(ask(url, "select distinct queued_by_job_id from task_instance"))


def ask(url: str, query: str) -> list[int]:
    import psycopg2  # type: ignore[import-untyped]

    connection = psycopg2.connect(url.replace("+psycopg2", ""))
    try:
        with connection.cursor() as cursor:
            cursor.execute(query)
            return [row[0] for row in cursor.fetchall()]
    finally:
        connection.close()
