"""DAGs of the end-to-end tests. They run in an environment that has Airflow and nothing of modalflow."""

from __future__ import annotations

import os
import time
from datetime import timedelta
from pathlib import Path

from airflow.sdk import BaseOperator, dag, task


@dag(schedule=None, catchup=False)
def e2e_gpu():
    @task(executor_config={"modal": {"gpu": "A10G"}})
    def on_a10g():
        print(f"sandbox {os.environ['MODAL_SANDBOX_ID']} has {os.environ['MODAL_EMULATOR_GPU']}")

    on_a10g()


@dag(schedule=None, catchup=False)
def e2e_imports():
    @task
    def look_for_packages():
        for name in ("modalflow", "modal"):
            try:
                __import__(name)
            except ModuleNotFoundError as error:
                print(f"as it should be: {error}")
            else:
                raise AssertionError(f"{name} can be imported in the sandbox")

    look_for_packages()


@dag(schedule=None, catchup=False, params={"stop_file": "", "gpu": False})
def e2e_waits():
    """Runs until a file appears, so that a test can look at a running task for as long as it needs."""

    def wait(stop_file: str):
        print("a line while running", flush=True)
        while not Path(stop_file).exists():
            time.sleep(0.1)
        print("seen the stop file")

    @task
    def on_cpu(params: dict):
        wait(params["stop_file"])

    @task(executor_config={"modal": {"gpu": "A10G"}})
    def on_gpu(params: dict):
        wait(params["stop_file"])

    on_cpu()
    on_gpu()


class Waits(BaseOperator):
    """Runs until its file appears, and writes what happens to it beside that file: the sandbox's own word."""

    template_fields = ("folder",)

    def __init__(self, **kwargs):
        super().__init__(retries=0, retry_delay=timedelta(0), **kwargs)
        self.folder = "{{ params.folder }}"
        self.asked_to_stop = False

    def execute(self, context):
        attempt = context["ti"].try_number
        self.note(f"begun {attempt}")
        while not self.asked_to_stop:
            if (Path(self.folder) / f"go-{self.task_id}").exists():
                self.note(f"came to its end {attempt}")
                return
            time.sleep(0.1)

    def on_kill(self):
        self.note("on_kill")
        self.asked_to_stop = True

    def note(self, word):
        with (Path(self.folder) / f"{self.task_id}.txt").open("a") as file:
            file.write(word + "\n")


@dag(schedule=None, catchup=False, params={"folder": ""})
def e2e_stops():
    """Tasks that are stopped from outside, each in another way."""
    for task_id in ("cleared", "marked_failed", "marked_success"):
        Waits(task_id=task_id)
    Waits(task_id="timed_out", execution_timeout=timedelta(seconds=3))


@dag(schedule=None, catchup=False, params={"folder": ""})
def e2e_pauses():
    """A task that runs on while its DAG is paused."""
    Waits(task_id="goes_on")


@dag(schedule=None, catchup=False, params={"folder": ""})
def e2e_keeps():
    """A task that fails in its first try, whose sandbox is kept."""

    @task(retries=1, retry_delay=timedelta(seconds=1), executor_config={"modal": {"keep_on_failure": "1h"}})
    def breaks_once(ti=None):
        if ti.try_number == 1:
            raise RuntimeError("a reason to look into it")

    breaks_once()


e2e_gpu()
e2e_imports()
e2e_keeps()
e2e_pauses()
e2e_stops()
e2e_waits()
