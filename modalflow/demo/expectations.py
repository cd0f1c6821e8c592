"""What each task of the example DAGs asks for, and how it must end. The demo's table and its exit code come from here."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Expectation:
    """One task (all map indexes together).

    ``gpu`` is what Modal must have been asked for at the end (``A10G:1``), ``None`` for a CPU task, ``""`` where no sandbox
    may exist. ``log_contains`` must stand in the task's log as Airflow's API serves it. ``sandboxes`` is how many sandboxes
    the task takes when all goes well.
    """

    dag_id: str
    task_id: str
    asked: str
    state: str
    gpu: str | None = None
    log_contains: str = ""
    sandboxes: int = 1


EXPECTATIONS: tuple[Expectation, ...] = (
    Expectation(dag_id="modal_gpus", task_id="one_gpu", asked='gpu="A10G"', state="success", gpu="A10G:1"),
    Expectation(
        dag_id="modal_gpus", task_id="two_gpus", asked='gpu="H100:2", cpu=2, memory="1Gi"', state="success", gpu="H100:2"
    ),
    Expectation(
        dag_id="modal_gpus",
        task_id="first_gpu_that_is_free",
        asked='gpu=["H200", "L4"]',
        state="success",
        gpu="L4:1",
        log_contains="L4",
        sandboxes=2,
    ),
    Expectation(
        dag_id="modal_gpus",
        task_id="gpu_out_of_stock",
        asked='gpu="B200", gpu_wait=6',
        state="failed",
        gpu="B200:1",
        log_contains="B200",
    ),
    Expectation(
        dag_id="modal_pod",
        task_id="pod_override",
        asked="pod_override: image, nvidia.com/gpu: 1, gke-accelerator: nvidia-l4",
        state="success",
        gpu="L4:1",
        log_contains="training resnet50 on L4",
    ),
    Expectation(
        dag_id="modal_templates", task_id="template_by_name", asked='template="gpu-inference"', state="success", gpu="L4:1"
    ),
    Expectation(dag_id="modal_templates", task_id="template_by_queue", asked='queue="training"', state="success", gpu="H100:1"),
    Expectation(
        dag_id="modal_templates",
        task_id="template_that_is_not_there",
        asked='queue="misspelt"',
        state="failed",
        gpu="",
        log_contains="[modal_executor] queue_templates",
        sandboxes=0,
    ),
    Expectation(dag_id="modal_flow", task_id="numbers", asked="nothing", state="success"),
    Expectation(dag_id="modal_flow", task_id="square", asked="cpu=0.25, mapped over 8", state="success", sandboxes=8),
    Expectation(
        dag_id="modal_flow", task_id="total", asked="nothing (XCom)", state="success", log_contains="sum of squares: 204"
    ),
    Expectation(
        dag_id="modal_flow",
        task_id="deferred",
        asked="nothing (deferrable)",
        state="success",
        log_contains="second sandbox: resumed",
        sandboxes=2,
    ),
    Expectation(
        dag_id="modal_failures",
        task_id="traceback",
        asked="nothing",
        state="failed",
        log_contains="the model did not converge",
    ),
    Expectation(dag_id="modal_failures", task_id="task_killed", asked="nothing", state="failed", log_contains="signal"),
    Expectation(
        dag_id="modal_failures",
        task_id="sandbox_killed",
        asked="nothing",
        state="failed",
        log_contains="its last output was: about to lose the sandbox",
    ),
)

INVENTORY = {"A10G": 2, "H100": 4, "L4": 2}
"""GPUs that the demo's Modal has. No H200 and no B200: two tasks ask for them."""

IMPORT_ERROR_DAG = "modal_typo.py"
IMPORT_ERROR_TEXT = 'executor_config["modal"]["gpu"]: unknown GPU "A10GG"; did you mean "A10G"?'

DAG_IDS: tuple[str, ...] = tuple(dict.fromkeys(e.dag_id for e in EXPECTATIONS))
