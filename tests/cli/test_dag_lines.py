"""Lines of tasks and of values in DAG files."""

from __future__ import annotations

import pytest

from modalflow.cli.dag_lines import DagSource

SOURCE = DagSource("""\
from airflow.sdk import DAG, task
from kubernetes.client import models as k8s

BASE: dict = {
    "memory": "1Gi",
    "gpu": "L4",
}
SHARED = {"modal": {**BASE, "gpu": "H100"}}
POD = k8s.V1Pod(
    spec=k8s.V1PodSpec(
        node_selector={"pool": "gpu"},
        containers=[
            k8s.V1Container(name="base", image="x"),
            k8s.V1Container(
                name="side",
                image=3,
            ),
        ],
    )
)
LOOP = OTHER
OTHER = LOOP

with DAG("d"):
    @task(executor_config=SHARED)
    def shared(): ...

    @task.virtualenv(
        task_id="named",
        executor_config={"modal": BASE | {
            "gpu": "B200"}},
    )
    def function(): ...

    @task
    def bare(): ...

    BashOperator(
        task_id="pod", bash_command="true",
        executor_config={
            "pod_override": POD},
    )
    BashOperator(task_id="loop", executor_config=LOOP)
    for number in range(3):
        BashOperator(task_id=f"made_{number}", executor_config=SHARED)
""")


@pytest.mark.parametrize(
    ("task_id", "path", "line"),
    [
        ("shared", 'executor_config["modal"]["gpu"]', 8),
        ("shared", 'executor_config["modal"]["memory"]', 5),
        ("shared", "", 8),
        ("group.shared", 'executor_config["modal"]["gpu"]', 8),
        ("named", 'executor_config["modal"]["gpu"][0]', 31),
        ("named", 'executor_config["modal"]["memory"]', 5),
        ("bare", 'executor_config["modal"]["gpu"]', 36),
        ("pod", "pod_override.spec.containers[1].image", 16),
        ("pod", 'pod_override.spec.nodeSelector["pool"]', 11),
        ("pod", "pod_override.spec.containers[7].image", 12),
        ("loop", 'executor_config["modal"]', 22),
        ("made_1", "", None),
    ],
)
def test_the_line_of_a_value_else_of_what_is_around_it(task_id: str, path: str, line: int | None) -> None:
    assert SOURCE.line_of(task_id, path) == line


@pytest.mark.parametrize("text", ["def (", "\0", "", "(" * 500 + ")" * 500])
def test_what_is_no_dag_file_has_no_lines(text: str) -> None:
    assert DagSource(text).line_of("a") is None


WITH_DEFAULTS = DagSource("""\
DEFAULTS = {
    "retries": 1,
    "executor_config": {
        "modal": {"gpu": "X100"},
    },
}
with DAG("d", default_args=DEFAULTS):
    @task
    def a(): ...

    @task(executor_config={"modal": {}})
    def b(): ...
""")


def test_what_default_args_give_is_there() -> None:
    assert WITH_DEFAULTS.line_of("a", 'executor_config["modal"]["gpu"]') == 4
    assert WITH_DEFAULTS.line_of("a", "") == 3
    assert WITH_DEFAULTS.line_of("b", 'executor_config["modal"]["gpu"]') == 11
