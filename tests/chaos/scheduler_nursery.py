"""Starts schedulers quickly: a process that has imported Airflow once and forks for each.

Run as ``python -m tests.chaos.scheduler_nursery`` with ``AIRFLOW__*`` set. Each line on stdin starts one; its process id is the
answer. A child does what ``airflow scheduler`` does (``scheduler_command._run_scheduler_job``, Airflow 3.3.2), whose imports
take seconds otherwise: longer than a chaos run lets a scheduler live. It is killed by its process id.
"""

from __future__ import annotations

import os
import signal
import sys

from tests.chaos.planted import PLANTS, VARIABLE


def main() -> None:
    """Import, then fork for each line."""
    answers = os.fdopen(os.dup(1), "w")  # Airflow writes to stdout too
    os.dup2(2, 1)
    import airflow.executors.workloads
    import airflow.jobs.scheduler_job_runner
    import airflow.models.serialized_dag  # noqa: F401
    from airflow.executors.executor_loader import ExecutorLoader

    import modalflow.executor.launching
    import modalflow.executor.modal_executor  # noqa: F401

    if plant := os.environ.get(VARIABLE):
        PLANTS[plant]()
    ExecutorLoader  # noqa: B018 - loaded, not initialised: an executor is the child's
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the children's ends are nobody's business here
    print("true", file=answers, flush=True)
    for _ in sys.stdin:
        pid = os.fork()
        if pid == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            os.setsid()
            answers.close()
            null = os.open(os.devnull, os.O_RDONLY)
            os.dup2(null, 0)
            _schedule()
        print(pid, file=answers, flush=True)


def _schedule() -> None:
    """Be a scheduler to the end."""
    from airflow import settings
    from airflow.jobs.job import Job, run_job
    from airflow.jobs.scheduler_job_runner import SchedulerJobRunner

    code = 1
    try:
        settings.reconfigure_orm()  # type: ignore[no-untyped-call]
        runner = SchedulerJobRunner(job=Job())  # type: ignore[no-untyped-call]
        run_job(job=runner.job, execute_callable=runner._execute)
        code = 0
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    main()
