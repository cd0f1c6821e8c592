"""DAGs of the end-to-end tests. They run in an environment that has Airflow and nothing of modalflow."""

from __future__ import annotations

import os
import time
from pathlib import Path

from airflow.sdk import dag, task


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


e2e_gpu()
e2e_imports()
e2e_waits()
