"""The cluster policy: what a DAG author is told while the DAG is parsed, and what the scheduler is spared."""

from __future__ import annotations

import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.dag_processing.dagbag import DagBag
from airflow.exceptions import AirflowClusterPolicyViolation
from airflow.sdk import DAG, BaseOperator

from modalflow.provider import policy
from modalflow.provider.task_lines import line_of_task


class Work(BaseOperator):
    """An operator with nothing of its own."""

    def __init__(self, x: int = 0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.x = x


def work(**kwargs: Any) -> Work:
    with DAG("models", schedule=None):
        return Work(task_id="train", **kwargs)


def told(task: Any) -> str:
    with pytest.raises(AirflowClusterPolicyViolation) as raised:
        policy.task_policy(task)
    return str(raised.value)


@pytest.mark.parametrize(
    ("core_executor", "task_executor", "ours"),
    [
        ("modalflow.executor.ModalExecutor", None, True),
        ("modalflow.executor.modal_executor.ModalExecutor", None, True),
        ("LocalExecutor", None, False),
        ("LocalExecutor,modalflow.executor.ModalExecutor", None, False),
        ("LocalExecutor,modalflow.executor.ModalExecutor", "ModalExecutor", True),
        ("LocalExecutor, gpu:modalflow.executor.ModalExecutor", "gpu", True),
        ("LocalExecutor,gpu:modalflow.executor.ModalExecutor", "modalflow.executor.ModalExecutor", True),
        ("LocalExecutor,gpu:modalflow.executor.ModalExecutor", "LocalExecutor", False),
        ("modalflow.executor.ModalExecutor,LocalExecutor", "LocalExecutor", False),
        ("modalflow.executor.ModalExecutor;team1=LocalExecutor", None, False),
        ("LocalExecutor;team1=modalflow.executor.ModalExecutor", "ModalExecutor", True),
        ("other.executor.ModalExecutor", "ModalExecutor", False),
        ("", None, False),
    ],
)
def test_whose_task_it_is(monkeypatch: pytest.MonkeyPatch, core_executor: str, task_executor: str | None, ours: bool) -> None:
    monkeypatch.setenv("AIRFLOW__CORE__EXECUTOR", core_executor)
    assert policy.runs_on_modal(SimpleNamespace(executor=task_executor)) is ours


def test_a_typo_is_told_with_dag_and_task() -> None:
    assert told(work(executor_config={"modal": {"gpuu": "A10G"}})) == (
        "Task 'train' of DAG 'models' (test_policy.py) cannot run on Modal:\n"
        'executor_config["modal"]["gpuu"]: unknown key; did you mean "gpu"? [unknown-key]'
    )


def test_all_mistakes_are_told_at_once() -> None:
    text = told(work(executor_config={"modal": {"gpu": "A10GG", "memory": "lots"}}))
    assert text.splitlines()[1:] == [
        'executor_config["modal"]["gpu"]: unknown GPU "A10GG"; did you mean "A10G"? [unknown-gpu]',
        (
            'executor_config["modal"]["memory"]: expected MiB such as 2048, or text such as "2Gi", got "lots": at character 1, '
            "a number is expected [bad-memory]"
        ),
        '    "lots"',
        "     ^~~~",
    ]


DAG_FILE = """
from airflow.sdk import DAG, BaseOperator, TaskGroup, task

with DAG("models", schedule=None):
    prepare = BaseOperator(task_id="prepare")
    with TaskGroup("night"):
        train = BaseOperator(
            task_id="train",
            executor_config={"modal": {"gpuu": "A10G"}},
        )
    mapped = [BaseOperator.partial(task_id="many").expand(pool=["a"])]

    @task(executor_config={"modal": {}})
    def score(): ...

    if True:
        BaseOperator(task_id="twice")
    else:
        BaseOperator(task_id="twice")
"""


@pytest.mark.parametrize(
    ("task_id", "line"), [("prepare", 5), ("night.train", 7), ("many", 11), ("score", 14), ("twice", None), ("made", None)]
)
def test_the_line_of_a_task(tmp_path: Path, task_id: str, line: int | None) -> None:
    (tmp_path / "models.py").write_text(DAG_FILE, encoding="utf-8")
    assert line_of_task(tmp_path / "models.py", task_id) == line


@pytest.mark.parametrize("content", [b"def (", b"\xff\xfe", b"\0", b"x = " + b"(" * 5000])
def test_a_file_that_is_no_python_has_no_lines(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "models.py").write_bytes(content)
    assert line_of_task(tmp_path / "models.py", "train") is None
    assert line_of_task(tmp_path / "none.py", "train") is None


def test_a_parsed_dag_names_file_and_line(tmp_path: Path) -> None:
    (tmp_path / "models.py").write_text(DAG_FILE, encoding="utf-8")
    bag = DagBag(str(tmp_path), bundle_path=tmp_path)
    (text,) = bag.import_errors.values()
    assert "Task 'night.train' of DAG 'models' (models.py:7) cannot run on Modal:" in text


def test_something_else_than_a_dict() -> None:
    assert told(work(executor_config="gpu=A10G")) == (
        "Task 'train' of DAG 'models' (test_policy.py) cannot run on Modal:\n"
        'executor_config: expected a dict, got str; write e.g. {"modal": {"gpu": "A10G"}} [bad-config]'
    )


@pytest.mark.parametrize("config", [[], "", 0, False])
def test_a_mapped_task_can_hold_something_empty_that_is_no_dict(config: Any) -> None:
    with DAG("models", schedule=None):
        mapped = Work.partial(task_id="train", executor_config=config).expand(x=[1])
    assert told(mapped) == (
        "Task 'train' of DAG 'models' (test_policy.py) cannot run on Modal:\n"
        f'executor_config: expected a dict, got {type(config).__name__}; write e.g. {{"modal": {{"gpu": "A10G"}}}} [bad-config]'
    )


def test_a_value_that_storing_the_dag_would_change() -> None:
    text = told(work(executor_config={"modal": {"workdir": Path("/models")}}))
    assert "does not survive storing the DAG; write str(path)" in text


def test_a_good_config_passes_unchanged() -> None:
    config = {"modal": {"gpu": "A10G"}}
    task = work(executor_config=config)
    policy.task_policy(task)
    assert task.executor_config == {"modal": {"gpu": "A10G"}}


def test_other_executors_are_none_of_our_business(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__CORE__EXECUTOR", "LocalExecutor")
    task = work(executor_config={"modal": {"gpuu": 1}}, execution_timeout=timedelta(hours=1))
    policy.task_policy(task)
    assert task.executor_config == {"modal": {"gpuu": 1}}


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (None, {"modal": {"execution_timeout": 3600}}),
        ({"modal": {"gpu": "T4"}}, {"modal": {"gpu": "T4", "execution_timeout": 3600}}),
        ({"modal": {"timeout": "6h"}}, {"modal": {"timeout": "6h"}}),
    ],
)
def test_the_time_limit_of_the_task_is_written_down(config: dict[str, Any] | None, expected: dict[str, Any]) -> None:
    before = repr(config)
    task = work(executor_config=config, execution_timeout=timedelta(hours=1))
    policy.task_policy(task)
    assert task.executor_config == expected
    assert repr(config) == before


def test_mapped_tasks_are_checked_and_limited_too() -> None:
    with DAG("models", schedule=None):
        mapped = Work.partial(
            task_id="train", executor_config={"modal": {"gpu": "T4"}}, execution_timeout=timedelta(seconds=90)
        ).expand(x=[1, 2])
        wrong = Work.partial(task_id="wrong", executor_config={"modal": {"gpuu": "T4"}}).expand(x=[1, 2])
    task: Any = mapped
    policy.task_policy(task)
    assert task.executor_config == {"modal": {"gpu": "T4", "execution_timeout": 90}}
    assert "unknown key" in told(wrong)


def test_a_wrong_option_does_not_take_every_dag_away(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setenv("AIRFLOW__MODAL_EXECUTOR__GPU_WAIT", "soon")
    policy.task_policy(work(executor_config={"modal": {"gpuu": "T4"}}))
    assert "[modal_executor] gpu_wait: expected seconds; got 'soon'" in caplog.text


def test_a_stored_config_that_is_not_a_dict_is_replaced() -> None:
    task = work()
    task.executor_config = "gpu=A10G"  # type: ignore[assignment] # as stored before modalflow was there
    ti = SimpleNamespace(executor=None, executor_config="gpu=A10G", task=task)
    policy.task_instance_mutation_hook(ti)
    assert ti.executor_config == {"modal": {"invalid_executor_config": "'gpu=A10G'"}}
    assert task.executor_config == ti.executor_config


def test_an_object_that_cannot_be_shown_is_replaced_too() -> None:
    class Hostile:
        def __repr__(self) -> str:
            raise RuntimeError

    ti = SimpleNamespace(executor=None, executor_config=Hostile())
    policy.task_instance_mutation_hook(ti)
    assert ti.executor_config == {"modal": {"invalid_executor_config": "a Hostile"}}


@pytest.mark.parametrize("config", [None, {}, {"modal": {"gpu": "T4"}}])
def test_the_mutation_hook_leaves_dicts_alone(config: dict[str, Any] | None) -> None:
    ti = SimpleNamespace(executor=None, executor_config=config)
    policy.task_instance_mutation_hook(ti)
    assert ti.executor_config is config


def test_airflow_s_own_path_of_new_rows_uses_the_mended_config() -> None:
    from airflow.models.taskinstance import TaskInstance
    from airflow.serialization.definitions.dag import SerializedDAG
    from airflow.serialization.serialized_objects import DagSerialization

    stored = DagSerialization.to_dict(work().dag)
    stored["dag"]["tasks"][0]["__var"]["executor_config"] = "gpu=A10G"
    dag: SerializedDAG = DagSerialization.from_dict(stored)
    row = TaskInstance.insert_mapping(
        "manual",
        dag.get_task("train"),
        -1,
        dag_version_id=None,
        dag_run=SimpleNamespace(context_carrier={}),  # type: ignore[arg-type]
    )
    assert row["executor_config"] == {"modal": {"invalid_executor_config": "'gpu=A10G'"}}


def test_the_policy_costs_airflow_no_heavy_import() -> None:
    code = (
        "import sys, airflow.policies; before = set(sys.modules); import modalflow.provider.policy\n"
        "new = sorted(m for m in set(sys.modules) - before if m.startswith(('modalflow', 'modal', 'kubernetes', 'grpclib')))\n"
        "print(new)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "modalflow.translation" not in done.stdout
    assert "'modal'" not in done.stdout
