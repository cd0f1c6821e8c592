"""Tables of words: GPU labels, regions, quantities, image references, GPU catalogue."""

from __future__ import annotations

from decimal import Decimal

import pytest

from modalflow.translation.diagnostics import Diagnostic
from modalflow.translation.env import expand
from modalflow.translation.gpus import label_tables as tables
from modalflow.translation.gpus.catalogue import BY_NAME, CATALOGUE
from modalflow.translation.gpus.labels import match_bound, match_label
from modalflow.translation.images import read_image
from modalflow.translation.quantities import parse_duration, parse_quantity
from modalflow.translation.regions import modal_region, modal_region_of_zone
from modalflow.translation.report import Place, Root
from modalflow.translation.tags import safe

GKE = "cloud.google.com/gke-accelerator"
KARPENTER = "karpenter.k8s.aws/instance-gpu-name"
EKS = "eks.amazonaws.com/instance-gpu-name"
PRODUCT = "nvidia.com/gpu.product"
INSTANCE = "node.kubernetes.io/instance-type"
LARGE = {"L40S", "A100-40GB", "A100-80GB", "RTX-PRO-6000", "H100", "H200", "B200"}


@pytest.mark.parametrize(
    ("key", "value", "model"),
    [
        (GKE, "nvidia-tesla-t4", "T4"),
        (GKE, "nvidia-l4", "L4"),
        (GKE, "nvidia-tesla-a100", "A100-40GB"),
        (GKE, "nvidia-a100-80gb", "A100-80GB"),
        (GKE, "nvidia-h100-80gb", "H100"),
        (GKE, "nvidia-h200-141gb", "H200"),
        (GKE, "nvidia-b200", "B200"),
        (KARPENTER, "a10g", "A10"),
        (EKS, "l40s", "L40S"),
        (EKS, "h100", "H100"),
        (PRODUCT, "Tesla-T4", "T4"),
        (PRODUCT, "NVIDIA-A10G", "A10"),
        (PRODUCT, "NVIDIA-A10G-SHARED", "A10"),
        (PRODUCT, "A100-SXM4-40GB", "A100-40GB"),
        (PRODUCT, "NVIDIA-A100-80GB-PCIe", "A100-80GB"),
        (PRODUCT, "NVIDIA-H100-80GB-HBM3", "H100"),
        (PRODUCT, "NVIDIA-L40S", "L40S"),
        (PRODUCT, "NVIDIA-RTX-PRO-6000-Blackwell-Server-Edition", "RTX-PRO-6000"),
        (INSTANCE, "g4dn.xlarge", "T4"),
        (INSTANCE, "g5.48xlarge", "A10"),
        (INSTANCE, "g6.2xlarge", "L4"),
        (INSTANCE, "g6e.xlarge", "L40S"),
        (INSTANCE, "p4d.24xlarge", "A100-40GB"),
        (INSTANCE, "p4de.24xlarge", "A100-80GB"),
        (INSTANCE, "p5.48xlarge", "H100"),
        (INSTANCE, "p5en.48xlarge", "H200"),
        (INSTANCE, "p6-b200.48xlarge", "B200"),
        (INSTANCE, "g2-standard-4", "L4"),
        (INSTANCE, "a2-ultragpu-1g", "A100-80GB"),
        (INSTANCE, "a3-highgpu-8g", "H100"),
        (INSTANCE, "Standard_NC24ads_A100_v4", "A100-80GB"),
        (INSTANCE, "Standard_NC4as_T4_v3", "T4"),
        (INSTANCE, "Standard_ND96isr_H200_v5", "H200"),
        ("karpenter.k8s.aws/instance-family", "g5", "A10"),
        ("skypilot.co/accelerator", "a100-80gb", "A100-80GB"),
        ("gpu.nvidia.com/model", "A100_PCIE_40GB", "A100-40GB"),
        ("gpu-type", "l4", "L4"),
        ("karpenter.k8s.aws/instance-gpu-memory", "15360", "T4"),
        (GKE, "nvidia-h100-mega-80gb", "H100"),
        (GKE, "nvidia-rtx-pro-6000", "RTX-PRO-6000"),
        (KARPENTER, "a100", "A100"),
        (KARPENTER, "rtx-pro-server-6000", "RTX-PRO-6000"),
        (EKS, "b200", "B200"),
        (EKS, "nvidia-l4", "L4"),
        (PRODUCT, "NVIDIA-H200-NVL", "H200"),
        (PRODUCT, "NVIDIA-H100-PCIe", "H100"),
        (PRODUCT, "NVIDIA-A100-PCIE-40GB", "A100-40GB"),
        (PRODUCT, "NVIDIA A100-SXM4-80GB", "A100-80GB"),
        (PRODUCT, "NVIDIA-B200", "B200"),
        (INSTANCE, "gr6.4xlarge", "L4"),
        (INSTANCE, "g7e.2xlarge", "RTX-PRO-6000"),
        (INSTANCE, "p5e.48xlarge", "H200"),
        (INSTANCE, "g4-standard-48", "RTX-PRO-6000"),
        (INSTANCE, "a3-megagpu-8g", "H100"),
        (INSTANCE, "a3-ultragpu-8g", "H200"),
        (INSTANCE, "a4-highgpu-8g", "B200"),
        (INSTANCE, "Standard_ND96asr_v4", "A100-40GB"),
        (INSTANCE, "Standard_ND96amsr_A100_v4", "A100-80GB"),
        (INSTANCE, "Standard_NV36ads_A10_v5", "A10"),
        (INSTANCE, "BM.GPU.A100-v2.8", "A100-80GB"),
        ("karpenter.k8s.aws/instance-family", "p6-b200", "B200"),
        ("cloud.google.com/machine-family", "g2", "L4"),
        ("gpu.nvidia.com/class", "H100_NVLINK_80GB", "H100"),
        ("nebius.com/gpu-name", "L40S", "L40S"),
        ("doks.digitalocean.com/gpu-model", "h200", "H200"),
        ("alibabacloud.com/gpu-model-series", "A10", "A10"),
        ("k8s.amazonaws.com/accelerator", "nvidia-tesla-t4", "T4"),
        ("accelerator", "nvidia-l4", "L4"),
        ("cloud.google.com/gke-gpu-partition-size", "7g.40gb", "A100-40GB"),
    ],
)
def test_labels_that_name_a_model(key: str, value: str, model: str) -> None:
    match = match_label(key, value)
    assert match is not None
    assert (match.kind, match.models[0]) == ("exact", model)


@pytest.mark.parametrize(
    ("key", "value", "kind"),
    [
        (GKE, "nvidia-tesla-v100", "near"),
        (GKE, "amd-mi300", "absent"),
        (GKE, "nvidia-tesla-t5", "unknown"),
        (PRODUCT, "NVIDIA-H100-NVL", "near"),
        (INSTANCE, "p3.2xlarge", "near"),
        (INSTANCE, "g4ad.xlarge", "absent"),
        (INSTANCE, "p9.48xlarge", "unknown"),
        ("kubernetes.azure.com/accelerator", "nvidia", "vague"),
        ("nvidia.com/gpu.present", "true", "vague"),
        ("cloud.google.com/gke-tpu-accelerator", "tpu-v6e-slice", "absent"),
        (GKE, "nvidia-gb200", "near"),
        ("cloud.google.com/gke-gpu-partition-size", "1g.10gb", "near"),
        (KARPENTER, "b300", "near"),
        (KARPENTER, "t4g", "absent"),
        (KARPENTER, "gaudi-hl-205", "absent"),
        ("karpenter.k8s.aws/instance-accelerator-name", "inferentia2", "absent"),
        (PRODUCT, "NVIDIA-L40", "near"),
        (PRODUCT, "NVIDIA-GH200-480GB", "near"),
        (PRODUCT, "NVIDIA-GeForce-RTX-4090", "near"),
        (PRODUCT, "NVIDIA-A100-SXM4-40GB-MIG-1g.5gb", "near"),
        (PRODUCT, "AMD-Instinct-MI300X", "absent"),
        ("gpu-type", "pool-a", "unclear"),
        ("gpu-memory", "300gb", "unclear"),
        ("cloud.google.com/gke-nodepool", "a100-pool", "unclear"),
        ("eks.amazonaws.com/nodegroup", "gpu-v100", "unclear"),
        ("gpu-type", "4", "vague"),
        ("gpu-count", "4", "vague"),
        (INSTANCE, "g6f.large", "near"),
        (INSTANCE, "g5g.xlarge", "absent"),
        (INSTANCE, "trn1.32xlarge", "absent"),
        (INSTANCE, "ct5lp-hightpu-4t", "absent"),
        (INSTANCE, "Standard_ND96isr_MI300X_v5", "absent"),
        (INSTANCE, "Standard_NV6ads_A10_v5", "near"),
        ("nvidia.com/mig.strategy", "mixed", "vague"),
        ("nvidia.com/gpu.family", "hopper", "bound"),
        ("nvidia.com/gpu.compute.major", "8", "bound"),
        ("nvidia.com/gpu.family", "kepler", "unknown"),
        ("amd.com/gpu.product-name", "x", "absent"),
    ],
)
def test_labels_that_name_no_model_of_modal(key: str, value: str, kind: str) -> None:
    match = match_label(key, value)
    assert match is not None
    assert match.kind == kind


@pytest.mark.parametrize(
    ("key", "value"), [(INSTANCE, "m5.xlarge"), (INSTANCE, "n2-standard-4"), ("team", "ml"), ("gpu-node", "x")]
)
def test_labels_that_are_not_about_gpus(key: str, value: str) -> None:
    assert match_label(key, value) is None


@pytest.mark.parametrize(
    ("value", "models"),
    [
        ("Tesla-V100-SXM2-16GB", ("A10", "L40S")),
        ("Tesla-V100-SXM2-32GB", ("L40S",)),
        ("Tesla-P100-PCIE-16GB", ("T4",)),
        ("NVIDIA-GeForce-RTX-3070", ("L4", "A10")),
        ("NVIDIA-GeForce-RTX-3090", ("L4", "A10")),
        ("NVIDIA-GeForce-RTX-5090", ("L40S",)),
        ("NVIDIA-A30", ("L4", "A10")),
        ("NVIDIA-A40", ("L40S",)),
        ("NVIDIA-RTX-A6000", ("L40S",)),
        ("NVIDIA-RTX-6000-Ada-Generation", ("L40S",)),
        ("NVIDIA-B300-SXM6-AC", ("B200+",)),
        ("NVIDIA-A100-SXM4-80GB-MIG-3g.40gb", ("A100-40GB",)),
        ("NVIDIA-A100-SXM4-40GB-MIG-2g.10gb", ("T4",)),
        ("NVIDIA-A100-SXM4-40GB-MIG-4g.20gb", ("L4", "A10")),
    ],
)
def test_the_nearest_has_at_least_the_memory(value: str, models: tuple[str, ...]) -> None:
    found = match_label(PRODUCT, value)
    assert found is not None
    assert (found.kind, found.models) == ("near", models)


@pytest.mark.parametrize(
    ("key", "number", "above", "models"),
    [
        ("nvidia.com/gpu.memory", 40000, True, {"L40S", "A100-40GB", "A100-80GB", "RTX-PRO-6000", "H100", "H200", "B200"}),
        (
            "karpenter.k8s.aws/instance-gpu-memory",
            22888,
            True,
            {"L40S", "A100-40GB", "A100-80GB", "RTX-PRO-6000", "H100", "H200", "B200"},
        ),
        ("nvidia.com/gpu.memory", 24000, False, {"T4"}),
        ("nvidia.com/gpu.compute.major", 8, True, {"RTX-PRO-6000", "H100", "H200", "B200"}),
        ("nvidia.com/gpu.memory", 999999, True, set()),
    ],
)
def test_bounds_take_only_models_that_are_surely_within(key: str, number: int, above: bool, models: set[str]) -> None:
    found = match_bound(key, number, above=above)
    assert found is not None
    assert {name for name in found.models if BY_NAME[name].exact} == models


def test_the_site_s_own_labels_come_first() -> None:
    own: dict[str, tuple[str, ...]] = {"gpu-type=l4": ("H100",), f"{GKE}=nvidia-l4": ()}
    first, second = match_label("gpu-type", "l4", own), match_label(GKE, "nvidia-l4", own)
    assert first is not None
    assert second is not None
    assert (first.kind, first.models, second.kind) == ("exact", ("H100",), "vague")


@pytest.mark.parametrize("size", ["Standard_NC40ads_H100_v5", "Standard_NC80adis_H100_v5"])
def test_the_h100_of_94_gb_is_not_taken_for_the_one_of_80(size: str) -> None:
    found = match_label(INSTANCE, size)
    assert found is not None
    assert (found.kind, found.models) == ("near", ("H200",))


def test_every_label_names_models_of_the_catalogue() -> None:
    patterns = [match for table in (tables.PRODUCTS, tables.INSTANCES, tables.GKE_FAMILIES) for _, match in table]
    words = (*tables.GKE.values(), *tables.KARPENTER.values(), *tables.WHOLE_SLICES.values())
    assert set(tables.union((*patterns, *words))) <= {model.name for model in CATALOGUE}


def test_names_of_the_catalogue_are_unambiguous() -> None:
    spelled = [name.upper() for model in CATALOGUE for name in (model.name, *model.spellings, *model.aliases)]
    assert len(spelled) == len(set(spelled)) == len(BY_NAME)


@pytest.mark.parametrize(
    ("region", "expected"),
    [
        ("us-east-1", "us-east"),
        ("us-east4", "us-east"),
        ("eastus2", "us-east"),
        ("us-central1", "us-central"),
        ("westus3", "us-west"),
        ("southcentralus", "us-south"),
        ("eu-west-1", "eu-west"),
        ("eu-west-2", "uk"),
        ("europe-west2", "uk"),
        ("europe-west4", "eu-west"),
        ("northeurope", "eu-west"),  # Ireland
        ("eu-central-1", "eu"),
        ("eu-central-2", None),  # Zurich, which is not in the EU
        ("ap-northeast-1", "jp"),
        ("ap-southeast-2", "au"),
        ("ap-southeast-1", "ap-southeast"),
        ("ap-northeast-2", "ap-northeast"),
        ("ap-east-1", "ap"),
        ("us-east", "us-east"),  # Modal's own
        ("us-ashburn-1", "us-east"),
        ("us-phoenix-1", "us-central"),
        ("eu-frankfurt-1", "eu"),
        ("europe-west6", None),  # Zurich as well
        ("switzerlandnorth", None),
        ("europe-west8", "eu-south"),  # Milan
        ("eu-south-2", "eu-south"),
        ("norwayeast", "eu-north"),
        ("europe-north1", "eu-north"),
        ("uk-london-1", "uk"),
        ("asia-northeast1", "jp"),
        ("asia-south1", "ap-south"),
        ("centralindia", "ap-south"),
        ("australiaeast", "au"),
        ("northamerica-northeast2", "ca"),
        ("northamerica-south1", "mx"),
        ("southamerica-east1", "sa"),
        ("me-west1", "me"),
        ("il-central-1", "me"),
        ("africa-south1", "af"),
        ("us-gov-west-1", None),
        ("cn-north-1", None),
        ("ca-central-1", "ca"),
        ("moon-1", None),
    ],
)
def test_regions(region: str, expected: str | None) -> None:
    assert modal_region(region) == expected


@pytest.mark.parametrize(
    ("zone", "expected"), [("us-east-1a", "us-east"), ("us-east4-b", "us-east"), ("eastus-1", "us-east"), ("x", None)]
)
def test_zones(zone: str, expected: str | None) -> None:
    assert modal_region_of_zone(zone) == expected


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("500m", "0.5"),
        ("2", "2"),
        (2, "2"),
        (0.5, "0.5"),
        ("1.5Gi", "1610612736"),
        ("129e6", "129000000"),
        ("1E", "1000000000000000000"),
        ("1E3", "1000"),
        ("0.5Ei", "576460752303423488"),
        ("129M", "129000000"),
        ("128974848", "128974848"),
        (".5", "0.5"),
        ("128m", "0.128"),
        ("-1", "-1"),
    ],
)
def test_quantities(text: object, number: str) -> None:
    assert parse_quantity(text) == Decimal(number)


@pytest.mark.parametrize("text", ["", "1 Gi", "1GiB", "x", "1e9999", "٣", True, None, float("inf"), 10**30, "1e30"])
def test_what_is_no_quantity(text: object) -> None:
    assert parse_quantity(text) is None


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("90s", 90), ("10m", 600), ("1h30m", 5400), ("1d", 86400), ("6h", 21600)]
)
def test_durations(text: str, seconds: int) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "h", "1.5h", "1h 30m", "30m1h", "-1s", "9" * 5000])
def test_what_is_no_duration(text: str) -> None:
    assert parse_duration(text) is None


@pytest.mark.parametrize(
    ("reference", "codes"),
    [
        ("auto", []),
        ("python:3.11", []),
        ("localhost:5000/me/train:1.2", []),
        ("123456789012.dkr.ecr.us-east-1.amazonaws.com/train:v1", []),
        ("apache/airflow:3.3.2-python3.11", []),
        ("me/train:latest", ["moving-image"]),
        ("me/train", ["moving-image"]),
        ("Me/Train:1", ["bad-image"]),
        ("me/train:", ["bad-image"]),
        ("me/train@sha256:123", ["bad-image"]),
        ("me/train:1 --privileged", ["bad-image"]),
        ("https://ghcr.io/me/train:1", ["bad-image"]),
        ("", ["bad-image"]),
    ],
)
def test_image_references(reference: str, codes: list[str]) -> None:
    findings: list[Diagnostic] = []
    read_image(reference, Place(Root(layer="x", prefix="x", style="dotted"), (), findings))
    assert [d.code for d in findings] == codes


def test_an_image_reference_is_checked_in_linear_time() -> None:
    findings: list[Diagnostic] = []
    assert read_image("a" * 500 + "!", Place(Root(layer="x", prefix="x", style="dotted"), (), findings)) is None


@pytest.mark.parametrize(
    ("text", "expanded"),
    [
        ("$(A)", "1"),
        ("$$(A)", "$(A)"),
        ("$(B)", "$(B)"),
        ("$A $", "$A $"),
        ("x$(A)y$(A)", "x1y1"),
        ("$$$(A)", "$1"),
        ("$(A", "$(A"),
    ],
)
def test_references_expand_as_in_kubernetes(text: str, expanded: str) -> None:
    assert expand(text, {"A": "1"}) == expanded


def test_tags_are_made_safe_and_kept_apart() -> None:
    assert safe("a.b_c-D9") == "a.b_c-D9"
    assert safe("") == ""
    first, second = safe("a:b"), safe("a+b")
    assert first != second
    assert first.startswith("a_b-")
    assert len(safe("x" * 200)) == 63
    assert safe("x" * 200) != safe("x" * 201)
