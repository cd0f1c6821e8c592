"""Tables of words: GPU labels, regions, quantities, image references, GPU catalogue."""

from __future__ import annotations

from decimal import Decimal

import pytest

from modalflow.translation.diagnostics import Diagnostic
from modalflow.translation.env import expand
from modalflow.translation.gpu_labels import match_label
from modalflow.translation.gpus import BY_NAME, CATALOGUE
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
    ],
)
def test_labels_that_name_no_model_of_modal(key: str, value: str, kind: str) -> None:
    match = match_label(key, value)
    assert match is not None
    assert match.kind == kind


@pytest.mark.parametrize(
    ("key", "value"), [(INSTANCE, "m5.xlarge"), (INSTANCE, "n2-standard-4"), ("team", "ml"), ("gpu-type", "pool-a")]
)
def test_labels_that_are_not_about_gpus(key: str, value: str) -> None:
    assert match_label(key, value) is None


@pytest.mark.parametrize("size", ["Standard_NC40ads_H100_v5", "Standard_NC80adis_H100_v5"])
def test_the_h100_of_94_gb_is_not_taken_for_the_one_of_80(size: str) -> None:
    found = match_label(INSTANCE, size)
    assert found is not None
    assert (found.kind, found.models) == ("near", ("H200",))


def test_every_label_names_models_of_the_catalogue() -> None:
    from modalflow.translation import gpu_labels

    tables = [match for _, match in (*gpu_labels._PRODUCTS, *gpu_labels._INSTANCES)]
    named = {model for match in (*gpu_labels._GKE.values(), *gpu_labels._KARPENTER.values(), *tables) for model in match.models}
    assert named <= {model.name for model in CATALOGUE}


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
        ("ap-southeast-1", "ap"),
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
