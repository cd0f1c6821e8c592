"""The ``gpu`` key in the words of SkyPilot, Ray, dstack, Flyte and Metaflow: what each form comes to, or why it is refused."""

from __future__ import annotations

import pytest

from modalflow.settings import read_settings
from modalflow.templates import TemplateFolders
from modalflow.translation.inputs import TaskContext
from modalflow.translation.result import Translation
from modalflow.translation.translate import translate

FROM_80 = ["A100-80GB", "RTX-PRO-6000", "H100", "H200", "B200"]


def translated(gpu: object) -> Translation:
    options = read_settings({}).translation
    return translate({"modal": {"gpu": gpu}}, context=TaskContext(), options=options, templates=TemplateFolders([]))


@pytest.mark.parametrize(
    ("gpu", "candidates"),
    [
        # SkyPilot
        ("A100:2", ["A100:2"]),
        ("A100-80GB-SXM:8", ["A100-80GB:8"]),
        ("H100-MEGA:8", ["H100:8"]),
        ("80GB+", FROM_80),
        ({"H100": 1, "A100": 8}, ["H100", "A100:8"]),
        ({"H100": 1, "A100-80GB": None}, ["A100-80GB", "H100"]),
        ({"H100:1", "A100-80GB:1"}, ["A100-80GB", "H100"]),
        (["H100:8", "A100-80GB:8"], ["H100:8", "A100-80GB:8"]),
        ({"accelerators": ["H100:1", "A100:1"]}, ["H100", "A100"]),
        ({"accelerators": {"H100": 1, "A100-80GB": 1}}, ["A100-80GB", "H100"]),
        ({"any_of": [{"accelerators": "H100"}, {"accelerators": "L4:2"}]}, ["L4:2", "H100"]),
        ({"ordered": [{"accelerators": "H100"}, {"accelerators": "T4"}]}, ["H100", "T4"]),
        # Ray
        ("A100-40G", ["A100-40GB"]),
        ("accelerator_type:A100", ["A100"]),
        ({"num_gpus": 2, "accelerator_type": "A100-80G"}, ["A100-80GB:2"]),
        # dstack
        ("24GB", ["L4", "A10"]),
        ("24GB..48GB", ["L4", "A10", "L40S", "A100-40GB"]),
        ("40GB..80GB", ["L40S", "A100-40GB", "A100-80GB", "H100!"]),
        ("A100:80GB:2", ["A100-80GB:2"]),
        ("H100:80GB:4", ["H100:4"]),
        ("A100,H100:80GB:2", ["A100-80GB:2", "H100:2"]),
        ("H100:2..8", ["H100:2"]),
        ({"name": ["A100", "H100"], "memory": "40GB..", "count": "2..4"}, ["A100-40GB:2", "A100-80GB:2", "H100:2"]),
        ({"name": ["A100", "H100"], "memory": "80GB"}, ["A100-80GB", "H100"]),
        ({"name": "A100", "memory": "<=40Gi"}, ["A100-40GB"]),
        ({"name": "H100", "memory": "<=80Gi"}, ["H100!"]),
        ({"memory": {"min": 24, "max": "48GB"}, "vendor": "nvidia"}, ["L4", "A10", "L40S", "A100-40GB"]),
        ({"name": "A100", "count": {"min": 2}}, ["A100:2"]),
        ({"name": "A100", "count": "2"}, ["A100:2"]),
        ({"total_memory": "300GB..", "count": 2}, ["B200:2"]),
        ({"any_of": ["L4", "L40S"], "total_memory": "90GB..", "count": 2}, ["L40S:2"]),
        # Flyte and Google
        ("nvidia-tesla-a100", ["A100-40GB"]),
        ("NVIDIA_TESLA_A100", ["A100-40GB"]),
        ("T4.unpartitioned", ["T4"]),
        ("A100.partition_7g_40gb", ["A100-40GB"]),
        ("nvidia-l4-vws", ["L4"]),
        # Metaflow, and names with spaces
        ({"gpu_vendor": "nvidia", "name": "L4"}, ["L4"]),
        ("NVIDIA A100-SXM4-80GB", ["A100-80GB"]),
        ("NVIDIA H100 80GB HBM3:2", ["H100:2"]),
        ("Tesla T4", ["T4"]),
        ("RTXPRO6000", ["RTX-PRO-6000"]),
    ],
)
def test_forms_that_are_read(gpu: object, candidates: list[str]) -> None:
    result = translated(gpu)
    assert result.plan is not None, result.diagnostics
    assert list(result.plan.gpu_candidates) == candidates


GPU = 'executor_config["modal"]["gpu"]'


@pytest.mark.parametrize(
    ("gpu", "told"),
    [
        (
            "H100:2,A100:2",
            f'{GPU}: expected one GPU, or models with one size and count, got "H100:2,A100:2"; write ["H100:2", "A100:2"]',
        ),
        (
            "AMD-Instinct-MI300X-OAM",
            f'{GPU}: "AMD-Instinct-MI300X-OAM" is an AMD GPU: Modal has NVIDIA GPUs on amd64 only; write one of them',
        ),
        ("Intel-GAUDI", f'{GPU}: "Intel-GAUDI" is a Gaudi accelerator: Modal has NVIDIA GPUs on amd64 only; write one of them'),
        ("Gaudi HL-205", f'{GPU}: "Gaudi HL-205" is a Gaudi accelerator: Modal has NVIDIA GPUs on amd64 only; write one of them'),
        (
            "Ascend910B",
            f'{GPU}: "Ascend910B" is a Huawei Ascend accelerator: Modal has NVIDIA GPUs on amd64 only; write one of them',
        ),
        ("V5LITE_PODSLICE", f'{GPU}: "V5LITE_PODSLICE" is a TPU: Modal has NVIDIA GPUs on amd64 only; write one of them'),
        ("tpu:v5litepod-8", f'{GPU}: "tpu" is a TPU: Modal has NVIDIA GPUs on amd64 only; write one of them'),
        ({"num_gpus": 0.5, "accelerator_type": "T4"}, f'{GPU}["count"]: expected 1 to 8 GPUs, got 0.5'),
        ({"num_gpus": 1, "count": 2}, f'{GPU}: "num_gpus" and "count" say the same; keep one of them'),
        (
            {"accelerators": "H100", "use_spot": True},
            f'{GPU}: unknown key "use_spot"; remove it: GPU sandboxes can always be preempted',
        ),
        (
            {"accelerators": "H100:8", "cpus": "4+"},
            f'{GPU}: unknown key "cpus"; write {{"modal": {{"cpu": CORES}}}}, beside "gpu"',
        ),
        ({"type": "A100", "count": 2}, f'{GPU}: unknown key "type"; did you mean "name"?'),
        ({"memory": 80}, f'{GPU}["memory"]: expected a bound such as ">=40Gi", got 80; write ">=80Gi"'),
        ({"gpu_vendor": "amd"}, f'{GPU}["vendor"]: Modal has NVIDIA GPUs only, got "amd"; remove it'),
    ],
)
def test_forms_that_are_refused(gpu: object, told: str) -> None:
    result = translated(gpu)
    assert result.plan is None
    assert [str(d) for d in result.errors] == [told]


def test_a_range_of_counts_is_told() -> None:
    told = f'{GPU}["count"]: "2..4" GPUs: the least of the range is taken, 2'
    assert [str(d) for d in translated({"name": "H100", "count": "2..4"}).diagnostics] == [told]
