"""GPUs, asked for in the short form: one, two, a list of fallbacks, and one that is not to be had."""

from __future__ import annotations

import os

from airflow.sdk import dag, task


def report() -> str:
    """Say what the sandbox has; on Modal, ``nvidia-smi`` would say it."""
    gpu = os.environ.get("MODAL_EMULATOR_GPU", "see nvidia-smi")
    print(f"running in sandbox {os.environ.get('MODAL_SANDBOX_ID')} with GPU {gpu}")
    return gpu


@dag(schedule=None, catchup=False, tags=["modalflow"])
def modal_gpus():
    @task(executor_config={"modal": {"gpu": "A10G"}})
    def one_gpu():
        return report()

    @task(executor_config={"modal": {"gpu": "H100:2", "cpu": 2, "memory": "1Gi"}})
    def two_gpus():
        return report()

    @task(executor_config={"modal": {"gpu": ["H200", "L4"], "gpu_wait": 12}})
    def first_gpu_that_is_free():
        return report()

    @task(executor_config={"modal": {"gpu": "B200", "gpu_wait": 6}})
    def gpu_out_of_stock():
        return report()

    one_gpu()
    two_gpus()
    first_gpu_that_is_free()
    gpu_out_of_stock()


modal_gpus()
