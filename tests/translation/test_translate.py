"""The entry of translation: light to import, and never a word about a secret's value."""

from __future__ import annotations

import subprocess
import sys

from kubernetes.client import models as k8s

from modalflow.settings import read_settings
from modalflow.templates import TemplateFolders
from modalflow.translation.diagnostics import Diagnostic
from modalflow.translation.inputs import TaskContext
from modalflow.translation.origins import Origin
from modalflow.translation.result import Translation
from modalflow.translation.translate import translate

OPTIONS = read_settings({}).translation
TEMPLATES = TemplateFolders()


def run(config: object) -> Translation:
    return translate(config, context=TaskContext(), options=OPTIONS, templates=TEMPLATES)


def test_importing_it_loads_nothing_heavy() -> None:
    program = (
        "import sys, modalflow.translation.translate, modalflow.templates\n"
        "print(sorted({'airflow', 'modal', 'kubernetes', 'grpclib', 'asyncio'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"


def test_a_source_of_templates_that_raises_does_not_stop_the_scheduler() -> None:
    class Broken:
        def load(self, name: str, *, asked_by: Origin) -> Diagnostic:
            raise OSError(name)

    result = translate({"modal": {"template": "x"}}, context=TaskContext(), options=OPTIONS, templates=Broken())
    assert [str(d) for d in result.errors] == ["executor_config: reading it raised OSError; write plain data"]


def test_values_of_variables_are_never_shown() -> None:
    secret = "hunter2hunter2"
    pod = {
        "spec": {
            "containers": [
                {"name": "base", "env": [{"name": "A", "value": [secret]}, {"name": f"{secret[:0]}-", "value": secret}]}
            ]
        }
    }
    for config in ({"modal": {"env": {"A": [secret], "B": secret + "\0", "-": secret}}}, {"pod_override": pod}):
        result = run(config)
        assert len(result.errors) >= 2
        assert secret not in " ".join(str(d) for d in result.diagnostics)


def test_other_kubernetes_objects_than_a_pod() -> None:
    result = run({"pod_override": k8s.V1PodSpec(containers=[k8s.V1Container(name="base")])})
    text = "pod_override: expected a V1Pod, got a V1PodSpec; write V1Pod(spec=V1PodSpec(containers=[...]))"
    assert [str(d) for d in result.errors] == [text]


def test_origins_are_a_mapping_of_what_was_set() -> None:
    origins = run({"modal": {"gpu": "A10G", "env": {"A": "1"}}}).origins
    assert set(origins) == {"gpu_candidates", "gpu_wait", "env.A", "image", "memory", "timeout"}
    assert origins["env.A"].layer == 'executor_config["modal"]'
    assert "cpu" not in origins
    assert "gpu_candidates" in repr(origins)


def test_two_tasks_share_nothing() -> None:
    config = {"modal": {"env": {"A": "1"}, "tags": {"team": "ml"}}}
    first = translate(config, context=TaskContext(env={"X": "1"}, tags={"dag_id": "a"}), options=OPTIONS, templates=TEMPLATES)
    second = translate(config, context=TaskContext(env={"Y": "1"}), options=OPTIONS, templates=TEMPLATES)
    assert first.plan is not None
    assert second.plan is not None
    assert second.plan.env == {"A": "1", "Y": "1"}
    assert second.plan.tags == {"team": "ml"}
    assert config == {"modal": {"env": {"A": "1"}, "tags": {"team": "ml"}}}
