"""GPU options that are read when the scheduler starts, and the wait that Airflow would cut short."""

from __future__ import annotations

from dataclasses import replace

import pytest

from modalflow.executor.summary import summary
from modalflow.settings import SettingsError, read_settings
from modalflow.templates import TemplateFolders
from modalflow.translation.gpus.catalogue import GpuChoice
from modalflow.translation.inputs import TaskContext
from modalflow.translation.result import Translation
from modalflow.translation.translate import translate


def translated(config: object, longest: float | None = None) -> Translation:
    options = replace(read_settings({}).translation, longest_gpu_wait=longest)
    return translate(config, context=TaskContext(), options=options, templates=TemplateFolders([]))


def test_the_options_are_typed() -> None:
    options = read_settings(
        {
            "gpu_substitution": "nearest",
            "labels": '{"pool=big": {"gpu": ["H100", "a100-80gb"]}, "pool=cpu": {}}',
            "resource_claims": '{"two": {"gpu": "H100:2"}}',
        }
    ).translation
    assert options.gpu_substitution == "nearest"
    assert options.labels == {"pool=big": ("H100", "A100-80GB"), "pool=cpu": ()}
    assert options.resource_claims == {"two": (GpuChoice(name="H100", count=2),)}


@pytest.mark.parametrize(
    ("option", "text", "error"),
    [
        (
            "labels",
            '{"pool": {"gpu": "L4"}}',
            '[modal_executor] labels["pool"]: expected a label as KEY=VALUE, such as "pool=training"',
        ),
        ("labels", '{"a=b": "L4"}', '[modal_executor] labels["a=b"]: expected an object such as {"gpu": "L4"}'),
        (
            "labels",
            '{"a=b": {"gpu": "L4:2"}}',
            '[modal_executor] labels["a=b"]: a label names a model without a count; the pod\'s limit gives the number',
        ),
        (
            "labels",
            '{"a=b": {"gpu": "A10GG"}}',
            '[modal_executor] labels["a=b"]["gpu"]: unknown GPU "A10GG"; did you mean "A10G"?',
        ),
        ("labels", '{"a=b": {"gpu": "V100"}}', '[modal_executor] labels["a=b"]: Modal has no "V100"; the nearest is "A10"'),
        (
            "resource_claims",
            '{"a": {"gpu": ["L4", "H100:2"]}}',
            '[modal_executor] resource_claims["a"]: expected one number of GPUs for all models',
        ),
        ("gpu_substitution", "always", "[modal_executor] gpu_substitution: expected never or nearest; got 'always'"),
    ],
)
def test_what_is_wrong_with_an_option(option: str, text: str, error: str) -> None:
    with pytest.raises(SettingsError) as raised:
        read_settings({option: text})
    assert str(raised.value) == error


def test_a_wait_that_airflow_cuts_short_is_told() -> None:
    config = {"modal": {"gpu": "H100", "gpu_wait": "20m"}}
    told = (
        'executor_config["modal"]["gpu_wait"]: 1200 s is more than [scheduler] task_queued_timeout (600): Airflow takes the task '
        "back while it waits; write 600 or less, or raise task_queued_timeout"
    )
    assert [str(d) for d in translated(config, 600).diagnostics] == [told]
    assert translated(config, 1200).diagnostics == ()
    assert translated(config).diagnostics == ()


def test_the_summary_credits_the_label_and_the_limit() -> None:
    spec = {
        "nodeSelector": {"skypilot.co/accelerator": "l4"},
        "containers": [{"name": "base", "resources": {"limits": {"nvidia.com/gpu": 2}}}],
    }
    text = summary(translated({"pod_override": {"spec": spec}}))
    assert (
        'GPU L4:2 (pod_override.spec.nodeSelector["skypilot.co/accelerator"], count: '
        'pod_override.spec.containers[0].resources.limits["nvidia.com/gpu"])'
    ) in text
