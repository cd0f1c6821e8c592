"""What storing a DAG would turn into text, and the parse-time subset of the errors."""

from __future__ import annotations

import dataclasses
import enum
import pathlib
from typing import Any

import modal
import pytest
from airflow.serialization.serialized_objects import BaseSerialization
from kubernetes.client import models as k8s

from modalflow.settings import read_settings
from modalflow.templates import TemplateFolders
from modalflow.translation.serialisable import check_serialisable
from modalflow.translation.translate import check_executor_config

OPTIONS = read_settings({}).translation


@dataclasses.dataclass
class Needs:
    gpu: str


class Model(enum.Enum):
    H100 = "H100"


class TextModel(enum.StrEnum):
    H100 = "H100"


WRONG = [
    pytest.param(
        {"modal": {"image": modal.Image.debian_slim()}},
        'executor_config["modal"]["image"]: a modal.image.Image does not survive storing the DAG; '
        "write the name of the Image as text",
        id="an Image",
    ),
    pytest.param(
        {"modal": {"secrets": [modal.Secret.from_name("hf")]}},
        'executor_config["modal"]["secrets"][0]: a modal.secret.Secret does not survive storing the DAG; '
        "write the name of the Secret as text",
        id="a Secret",
    ),
    pytest.param(
        {"modal": Needs(gpu="A10G")},
        f'executor_config["modal"]: a {__name__}.Needs does not survive storing the DAG; '
        "write a dict, e.g. by dataclasses.asdict",
        id="a dataclass",
    ),
    pytest.param(
        {"modal": {"gpu": Model.H100}},
        'executor_config["modal"]["gpu"]: the enum member Model.H100 does not survive storing the DAG; write its value',
        id="an enum",
    ),
    pytest.param(
        {"pod_template_file": pathlib.Path("/x.yaml")},
        'executor_config["pod_template_file"]: a pathlib.PosixPath does not survive storing the DAG; write str(path)',
        id="a Path",
    ),
    pytest.param(
        {"modal": {"env": {"A": b"1"}}},
        'executor_config["modal"]["env"]["A"]: a bytes does not survive storing the DAG; write text',
        id="bytes",
    ),
    pytest.param(
        {"modal": {"gpu": lambda: "A10G"}},
        'executor_config["modal"]["gpu"]: a function does not survive storing the DAG; write what it returns',
        id="a lambda",
    ),
    pytest.param(
        {"modal": {"volumes": {1: "models"}}},
        'executor_config["modal"]["volumes"]: the key 1 is no text and does not survive storing the DAG; write "1"',
        id="an int as key",
    ),
    pytest.param(
        {"pod_override": {"spec": {"containers": [k8s.V1Container(name="base")]}}},
        "pod_override.spec.containers[0]: a kubernetes.client.models.v1_container.V1Container does not survive storing the DAG; "
        "write a dict in its place, or the whole pod as V1Pod in pod_override",
        id="a V1Container in a dict",
    ),
    pytest.param(
        {"modal": {"cpu": float("nan")}},
        'executor_config["modal"]["cpu"]: nan does not survive storing the DAG; write a finite number',
        id="not a number",
    ),
]


@pytest.mark.parametrize(("config", "text"), WRONG)
def test_values_that_do_not_survive(config: dict[str, Any], text: str) -> None:
    assert [str(d) for d in check_serialisable(config)] == [text]


@pytest.mark.parametrize(
    "value",
    ["x", 1, 1.5, True, None, ["x"], ("x",), {"a": {"b": []}}, TextModel.H100, k8s.V1Pod(spec=k8s.V1PodSpec(containers=[]))],
)
def test_values_that_survive(value: object) -> None:
    """Airflow's own serialiser agrees: what comes back is what went in."""
    assert check_serialisable({"modal": {"env": value} if not isinstance(value, k8s.V1Pod) else {}, "pod_override": value}) == []
    back: Any = BaseSerialization.deserialize(BaseSerialization.serialize(value))
    assert back == value


def test_a_config_that_holds_itself() -> None:
    ring: dict[str, object] = {}
    ring["env"] = ring
    found = check_serialisable({"modal": ring})
    assert [str(d) for d in found] == [
        "executor_config: more than 5000 values, or it holds itself; move data into a file or a Volume"
    ]


def test_a_config_that_is_too_deep() -> None:
    deep: dict[str, object] = {}
    for _ in range(32):
        deep = {"a": deep}
    [finding] = check_serialisable({"modal": deep})
    assert str(finding) == 'executor_config["modal"]' + '["a"]' * 32 + ": nested more than 32 levels deep, or holding itself"


def check(config: object, **options: str) -> list[str]:
    found = check_executor_config(
        config, queue="default", options=read_settings(options).translation, templates=TemplateFolders()
    )
    return [str(d) for d in found]


def test_a_typo_is_an_error_while_the_dag_is_parsed() -> None:
    assert check({"modal": {"gpu": "A10GG"}}) == ['executor_config["modal"]["gpu"]: unknown GPU "A10GG"; did you mean "A10G"?']
    values: list[object] = [{}, k8s.V1Pod()]
    for value in values:
        assert check({"pod_overide": value}) == ['executor_config["pod_overide"]: unknown key; did you mean "pod_override"?']


def test_what_only_the_scheduler_knows_is_no_error_while_the_dag_is_parsed() -> None:
    pod = {"spec": {"containers": [{"name": "base", "resources": {"limits": {"nvidia.com/gpu": "1"}}}]}}
    assert check({"pod_override": pod}) == []
    assert check({"pod_override": pod}, default_gpu="A10GG") == []
    assert check({"modal": {"template": "only-on-the-scheduler"}}) == []
    assert check({}, default_template="only-on-the-scheduler", cpu="many") == []


def test_a_value_that_does_not_survive_is_told_once() -> None:
    assert len(check({"modal": {"secrets": [modal.Secret.from_name("hf")]}})) == 1
    assert len(check({"modal": Needs(gpu="A10G")})) == 1
