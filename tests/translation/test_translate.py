"""The entry of translation: light to import, and never a word about a secret's value."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest
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

        def config_map(self, path: str) -> str:
            raise OSError(path)

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


ENDLESS: list[object] = ["x"] * 10
for _ in range(30):
    ENDLESS = [ENDLESS] * 10  # 10 ** 31 values, for whoever walks them


def container(**fields: object) -> dict[str, object]:
    return {"pod_override": {"spec": {"containers": [{"name": "base", **fields}]}}}


@pytest.mark.parametrize(
    ("config", "told"),
    [
        pytest.param(
            {"modal": {"cpu": 16**500_000}},
            'executor_config["modal"]["cpu"]: expected physical cores such as 2 or 0.5, got a huge int',
            id="an int that takes minutes to spell",
        ),
        pytest.param(
            {"modal": {"gpu": 16**500_000}},
            'executor_config["modal"]["gpu"]: expected a GPU model, got the count a huge int; '
            'write e.g. "L4:8", or [] for no GPU',
            id="as many GPUs",
        ),
        pytest.param(
            {"modal": {"gpu": {"memory": " " * 500_000 + "x"}}},
            f'executor_config["modal"]["gpu"]["memory"]: expected a bound such as ">=40Gi", got "{" " * 78}…',
            id="blanks, for a pattern to go back over",
        ),
        pytest.param(
            {"modal": {"gpu": "x" * 2_000_000}},
            f'executor_config["modal"]["gpu"]: unknown GPU "{"x" * 78}…; Modal has T4, L4, A10, L40S, A100, A100-40GB, '
            "A100-80GB, RTX-PRO-6000, H100, H100!, H200, B200, B200+",
            id="a long name, for likeness to be measured",
        ),
        pytest.param(
            {"k" * 2_000_000: 1},
            f'executor_config["{"k" * 78}…]: unknown key; known: modal, pod_override, pod_template_file',
            id="a long key, in a path",
        ),
        pytest.param(
            {"modal": {"template": "t" * 300}},
            f'executor_config["modal"]["template"]: the template "{"t" * 78}… cannot be read: File name too long',
            id="a long template name",
        ),
        pytest.param(
            {"modal": {"template": "a\nb\0"}},
            'executor_config["modal"]["template"]: no template "a\\nb\\u0000"; known: cpu, default, gpu-inference, gpu-training',
            id="a template name of two lines",
        ),
        pytest.param(
            container(zz=ENDLESS),
            "executor_config: more than 5000 values, or it holds itself; move data into a file or a Volume",
            id="shared lists in a pod",
        ),
        pytest.param(
            {"modal": {str(number): 1 for number in range(200_000)}},
            "executor_config: more than 5000 values, or it holds itself; move data into a file or a Volume",
            id="very many keys",
        ),
        pytest.param(
            {"pod_override": k8s.V1Pod(spec=k8s.V1PodSpec(containers=ENDLESS))},
            "pod_override: more than 20000 parts, or more than 32 levels of them, or it holds itself",
            id="shared lists in a V1Pod",
        ),
    ],
)
def test_nothing_holds_the_scheduler_up(config: object, told: str) -> None:
    begin = time.process_time()
    assert [str(d) for d in run(config).errors] == [told]
    assert time.process_time() - begin < 1
