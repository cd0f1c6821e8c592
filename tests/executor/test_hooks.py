"""Hooks of a real ``airflow_local_settings``, found by a real Airflow process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from modalflow.executor import hooks
from modalflow.settings import SettingsError, read_settings

LOCAL_SETTINGS = """
import dataclasses

from modalflow.hooks import TaskFacts, TaskSpec


def modal_task_mutation_hook(spec: TaskSpec, task: TaskFacts) -> TaskSpec | None:
    if task.task_id == "fail":
        raise ValueError("no budget for " + task.dag_id)
    return dataclasses.replace(spec, region=("us-east",), env={**spec.env, "QUEUE": task.queue})


def pod_mutation_hook(pod):
    pod.spec.node_selector = {"cloud.google.com/gke-accelerator": "nvidia-l4"}
    pod.spec.host_network = None
    pod.spec.containers[0].env.append({"name": "DAG", "value": pod.metadata.labels["dag_id"]})
"""
DAG_FILE = """
from airflow.sdk import DAG, task

POD = {"spec": {
    "hostNetwork": True,
    "containers": [{"name": "base", "env": [{"name": "A", "value": "1"}], "resources": {"limits": {"nvidia.com/gpu": 1}}}],
}}

with DAG("hooked", schedule=None):
    @task(executor_config={"pod_override": POD}, queue="nightly")
    def train(): ...

    @task
    def fail(): ...

    train(), fail()
"""
SCHEDULER = """
import dataclasses, json, sys, threading

import airflow.settings  # loads airflow_local_settings
from modalflow.executor.configuration import without_functions
from modalflow.executor.hooks import with_hooks
from modalflow.executor.launching import build_translate
from modalflow.settings import read_settings
from modalflow.translation.inputs import TaskContext, TaskFacts

translate = build_translate(with_hooks(without_functions(read_settings({}))))
at_the_start = "kubernetes" in sys.modules
short = translate({"modal": {}}, TaskContext(task=TaskFacts(dag_id="etl", task_id="short")))
with_short = "kubernetes" in sys.modules
found = []
pod = {"pod_override": {"spec": {"containers": [{"name": "base", "image": "me/train:1"}]}}}
thread = threading.Thread(target=lambda: found.append(translate(pod, TaskContext(task=TaskFacts(dag_id="etl", task_id="pod")))))
thread.start()
thread.join()
print(json.dumps({
    "imported": [at_the_start, with_short, "kubernetes" in sys.modules],
    "short": [short.plan.region, dict(short.plan.env)],
    "pod": [found[0].plan.region, dict(found[0].plan.env)],
}))
"""


@pytest.fixture
def home(tmp_path: Path) -> dict[str, str]:
    """The environment of an Airflow whose ``airflow_local_settings`` has both hooks."""
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "airflow_local_settings.py").write_text(LOCAL_SETTINGS)
    (tmp_path / "dags").mkdir()
    (tmp_path / "dags" / "hooked.py").write_text(DAG_FILE)
    kept = {name: value for name, value in os.environ.items() if name != "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST"}
    return {**kept, "AIRFLOW_HOME": str(tmp_path), "AIRFLOW__CORE__DAGS_FOLDER": str(tmp_path / "dags"), "COLUMNS": "140"}


def run(home: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, env=home, check=False)


def explain(home: dict[str, str], task_id: str) -> tuple[int, Any]:
    done = run(home, "-m", "airflow", "modal", "explain", "hooked", task_id, "--json")
    assert done.stdout.startswith(("{", "[")), done.stderr
    [task] = json.loads(done.stdout)["tasks"]
    return done.returncode, task


def test_explain_shows_what_the_hooks_changed(home: dict[str, str]) -> None:
    """The pod's hostNetwork is no import error: a pod_mutation_hook may take it away, as this one does."""
    code, shown = explain(home, "train")
    fields = {field["field"]: (field["value"], field["decided_by"]) for field in shown["fields"]}
    assert code == 0
    assert fields["region"] == ("us-east", "airflow_local_settings.modal_task_mutation_hook region")
    assert fields["env.QUEUE"] == ("nightly", 'airflow_local_settings.modal_task_mutation_hook env["QUEUE"]')
    assert fields["env.A"] == ("1", "pod_override.spec.containers[0].env[0]")
    assert fields["env.DAG"] == ("hooked", "pod_mutation_hook.spec.containers[0].env[2]")
    assert fields["gpu"][0] == "L4"
    assert fields["gpu"][1].startswith(
        'pod_mutation_hook.spec.nodeSelector["cloud.google.com/gke-accelerator"], count: pod_override.'
    )
    code, shown = explain(home, "fail")
    assert code == 1
    [found] = shown["diagnostics"]
    raised = "raised ValueError: no budget for hooked; the scheduler's log has the traceback"
    assert found["text"] == f"airflow_local_settings.modal_task_mutation_hook: {raised}"


def test_the_scheduler_calls_them_and_imports_kubernetes_only_for_a_pod(home: dict[str, str]) -> None:
    done = run(home, "-c", SCHEDULER)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["imported"] == [False, False, True]
    assert found["short"] == [["us-east"], {"QUEUE": "default"}]
    assert found["pod"] == [["us-east"], {"DAG": "etl", "QUEUE": "default"}]


def test_without_hooks_the_settings_stay_as_they_are() -> None:
    settings = read_settings({})
    assert hooks.with_hooks(settings) is settings
    assert not hooks.has_pod_hook()


def test_a_hook_that_is_no_function_ends_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    import airflow.settings

    monkeypatch.setattr(airflow.settings, hooks.TASK_HOOK, {"gpu": "L4"}, raising=False)
    with pytest.raises(SettingsError) as raised:
        hooks.with_hooks(read_settings({}))
    assert str(raised.value) == (
        "airflow_local_settings.modal_task_mutation_hook: expected a function of a TaskSpec and a TaskFacts, got {'gpu': 'L4'}"
    )
