"""Three ways to fail: a traceback, a task process that is killed, and a sandbox that is killed from under its task."""

from __future__ import annotations

import os
import signal
import time

from airflow.sdk import dag, task


@dag(schedule=None, catchup=False, tags=["modalflow"])
def modal_failures():
    @task
    def traceback():
        raise RuntimeError("the model did not converge")

    @task
    def task_killed():
        print("about to be killed, as the kernel does when memory runs out")
        os.kill(os.getpid(), signal.SIGKILL)

    @task
    def sandbox_killed():
        print("about to lose the sandbox")
        time.sleep(3)  # Airflow's supervisor still has to read the line, also on a busy machine
        os.kill(os.getppid(), signal.SIGKILL)  # Airflow's supervisor: the sandbox's first process
        signal.pause()

    traceback()
    task_killed()
    sandbox_killed()


modal_failures()
