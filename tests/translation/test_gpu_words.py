"""Every word for a GPU that we know of, through the whole translation: the right GPU or a refusal, whatever the default is."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from modalflow.settings import read_settings
from modalflow.templates import TemplateFolders
from modalflow.translation.inputs import TaskContext
from modalflow.translation.result import Translation
from modalflow.translation.translate import translate

WORDS: dict[str, dict[str, str]] = yaml.safe_load((Path(__file__).parent / "gpu_words.yaml").read_text(encoding="utf-8"))
MEMORY = "nvidia.com/gpu.memory"
PARTITION = "cloud.google.com/gke-gpu-partition-size"
GKE = "cloud.google.com/gke-accelerator"
PRODUCT = "nvidia.com/gpu.product"
INSTANCE = "node.kubernetes.io/instance-type"


def translated(labels: dict[str, str], limits: dict[str, object], default: str | None = None, **metadata: object) -> Translation:
    container = {"name": "base", "resources": {"limits": limits}}
    pod = {"metadata": metadata, "spec": {"nodeSelector": labels, "containers": [container]}}
    options = read_settings({} if default is None else {"default_gpu": default}).translation
    return translate({"pod_override": pod}, context=TaskContext(), options=options, templates=TemplateFolders([]))


def outcome(result: Translation) -> str:
    return "refused" if result.plan is None else (*result.plan.gpu_candidates, "none")[0]


@pytest.mark.parametrize(
    ("key", "value", "expected"), [(key, value, gpu) for key, values in WORDS.items() for value, gpu in values.items()]
)
def test_one_label_and_one_gpu(key: str, value: str, expected: str) -> None:
    for default in (None, "T4", "A10G"):
        wanted = (default or "refused") if expected == "default" else expected
        assert outcome(translated({key: value}, {"nvidia.com/gpu": "1"}, default)) == wanted


@pytest.mark.parametrize(
    ("labels", "count", "expected"),
    [
        ({PRODUCT: "NVIDIA-H100-80GB-HBM3", "nvidia.com/gpu.count": "8"}, 8, "H100:8"),
        ({INSTANCE: "p4d.24xlarge"}, 8, "A100-40GB:8"),
        ({INSTANCE: "p4d.24xlarge"}, 1, "A100-40GB"),
        ({INSTANCE: "g5.12xlarge"}, 4, "A10:4"),
        ({INSTANCE: "g5.48xlarge"}, 8, "refused"),
        ({INSTANCE: "a2-megagpu-16g"}, 16, "refused"),
        ({GKE: "nvidia-tesla-t4", "cloud.google.com/gke-accelerator-count": "4"}, 4, "T4:4"),
        ({GKE: "nvidia-tesla-t4", INSTANCE: "p5.48xlarge"}, 1, "refused"),
        ({GKE: "nvidia-tesla-a100", PARTITION: "1g.5gb"}, 1, "refused"),
        ({GKE: "nvidia-l4", "cloud.google.com/gke-gpu-sharing-strategy": "time-sharing"}, 1, "L4"),
        ({"gpu-model": "rtx-a6000", "gpu-memory": "192gb"}, 1, "refused"),
        ({"gpu-type": "a100", "gpu-memory": "40Gi"}, 1, "A100-40GB"),
        ({"gpu-memory": "192gb"}, 1, "refused"),
        ({"gpu.nvidia.com/vram": "80"}, 1, "refused"),
        ({"gpu-type": "a100", "gpu-memory": "24"}, 1, "refused"),
        ({"skypilot.co/accelerator": "a100", MEMORY: "81920"}, 1, "A100-80GB"),
        ({PRODUCT: "NVIDIA-L4", "gpu-pool": "pool-a"}, 1, "L4"),
        ({"gpu-type": "v100", "gpu-pool": "a100"}, 1, "refused"),
        ({GKE: "nvidia-l4"}, 0, "none"),
    ],
)
def test_several_labels_and_counts(labels: dict[str, str], count: int, expected: str) -> None:
    for default in (None, "T4"):
        assert outcome(translated(labels, {"nvidia.com/gpu": count}, default)) == expected


@pytest.mark.parametrize("count", ["0.5", "-1", "9", "1Gi", "one", "500m"])
def test_counts_that_are_none(count: str) -> None:
    assert outcome(translated({GKE: "nvidia-l4"}, {"nvidia.com/gpu": count})) == "refused"


@pytest.mark.parametrize("count", ["1", 1, "1000m", "1e0", 1.0])
def test_counts_of_one(count: object) -> None:
    assert outcome(translated({GKE: "nvidia-l4"}, {"nvidia.com/gpu": count})) == "L4"


@pytest.mark.parametrize(
    ("profile", "expected"),
    [
        *((p, "refused") for p in ("1g.5gb", "1g.10gb", "1g.12gb", "1g.18gb", "1g.20gb", "1g.24gb", "1g.5gb.me", "2g.10gb")),
        *((p, "refused") for p in ("2g.20gb", "3g.20gb", "3g.40gb", "4g.20gb", "4g.40gb", "2g.48gb", "4g.96gb", "9g.1tb")),
        *(("7g.40gb", "A100-40GB"), ("7g.80gb", "A100-80GB"), ("7g.141gb", "H200"), ("7g.180gb", "B200")),
    ],
)
def test_slices(profile: str, expected: str) -> None:
    assert outcome(translated({}, {f"nvidia.com/mig-{profile}": "1"}, "T4")) == expected


@pytest.mark.parametrize(
    ("profile", "expected"),
    [
        *((p, "T4") for p in ("1g.5gb", "1g.10gb", "1g.12gb", "2g.10gb")),
        *((p, "L4") for p in ("1g.18gb", "1g.20gb", "1g.24gb", "2g.20gb", "3g.20gb", "4g.20gb")),
        *((p, "A100-40GB") for p in ("3g.40gb", "4g.40gb")),
        ("4g.96gb", "RTX-PRO-6000"),
    ],
)
def test_slices_by_their_nearest(profile: str, expected: str) -> None:
    container = {"name": "base", "resources": {"limits": {f"nvidia.com/mig-{profile}": "1"}}}
    options = read_settings({"gpu_substitution": "nearest"}).translation
    config = {"pod_override": {"spec": {"containers": [container]}}}
    found = translate(config, context=TaskContext(), options=options, templates=TemplateFolders([]))
    assert outcome(found) == expected
