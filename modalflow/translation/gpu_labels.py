"""The clouds' names for GPUs: node labels and instance types, each with the Modal models that are the same hardware.

Sources (read 2026-09): GKE documentation and manifests, Karpenter's instance-types reference, EKS ml-workload-placement, AKS
use-nvidia-gpu, NVIDIA gpu-feature-discovery, SkyPilot's Kubernetes utilities. Flows into ``pod_fields``.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from modalflow.translation.gpus import BY_NAME, CATALOGUE


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelMatch:
    """What a label says about the GPU.

    ``exact``: ``models`` are that hardware, best first. ``near``: Modal lacks it, ``models`` are closest. ``absent``: nothing is
    like it. ``vague``: it names no model. ``unknown``: a GPU label with a value that nobody told us of.
    """

    kind: Literal["exact", "near", "absent", "vague", "unknown"]
    models: tuple[str, ...] = ()


_VAGUE = LabelMatch(kind="vague")
_ABSENT = LabelMatch(kind="absent")
_UNKNOWN = LabelMatch(kind="unknown")


def _exact(*models: str) -> LabelMatch:
    return LabelMatch(kind="exact", models=models)


def _near(*models: str) -> LabelMatch:
    return LabelMatch(kind="near", models=models)


_GKE = {
    "nvidia-tesla-t4": _exact("T4"),
    "nvidia-l4": _exact("L4"),
    "nvidia-tesla-a100": _exact("A100-40GB"),
    "nvidia-a100-80gb": _exact("A100-80GB"),
    "nvidia-h100-80gb": _exact("H100"),
    "nvidia-h100-mega-80gb": _exact("H100"),
    "nvidia-h200-141gb": _exact("H200"),
    "nvidia-b200": _exact("B200"),
    "nvidia-rtx-pro-6000": _exact("RTX-PRO-6000"),
    "nvidia-gb200": _near("B200"),
    "nvidia-tesla-v100": _near("L4", "A10"),
    "nvidia-tesla-p100": _near("T4"),
    "nvidia-tesla-p4": _near("T4"),
    "nvidia-tesla-k80": _near("T4"),
}
_KARPENTER = {
    "t4": _exact("T4"),
    "a10g": _exact("A10"),
    "l4": _exact("L4"),
    "l40s": _exact("L40S"),
    "a100": _exact("A100", "A100-40GB", "A100-80GB"),
    "h100": _exact("H100"),
    "h200": _exact("H200"),
    "b200": _exact("B200"),
    "b300": _near("B200+"),
    "rtx-pro-server-6000": _exact("RTX-PRO-6000"),
    "rtx-pro-4500": _near("L40S"),
    "v100": _near("A10", "L40S"),
    "t4g": _near("T4"),
    "radeon-pro-v520": _ABSENT,
}
_PRODUCTS: tuple[tuple[str, LabelMatch], ...] = (
    (r"T4", _exact("T4")),
    (r"L4", _exact("L4")),
    (r"L40S", _exact("L40S")),
    (r"L40|A40|RTX-A6000|RTX-6000-Ada-Generation", _near("L40S")),
    (r"A10G?", _exact("A10")),
    (r"A100-(?:SXM4|PCIE)-40GB|A100-40GB(?:-PCIE)?", _exact("A100-40GB")),
    (r"A100-(?:SXM4|PCIE)-80GB|A100-80GB(?:-PCIE)?", _exact("A100-80GB")),
    (r"H100-80GB-HBM3|H100-PCIE|H100", _exact("H100")),
    (r"H100-NVL", _near("H200")),
    (r"H200(?:-NVL)?", _exact("H200")),
    (r"B200", _exact("B200")),
    (r"GH200-480GB", _near("H200")),
    (r"B300-SXM6-AC", _near("B200+")),
    (r"GB[23]00", _near("B200")),
    (r"RTX-PRO-6000-BLACKWELL-.+", _exact("RTX-PRO-6000")),
    (r"V100-.+", _near("A10", "L40S")),
    (r"P100-.+|K80|P4", _near("T4")),
)
_INSTANCES: tuple[tuple[str, LabelMatch], ...] = (
    (r"g4dn\..+", _exact("T4")),
    (r"g5\..+", _exact("A10")),
    (r"g6f\..+", _near("L4")),
    (r"g6\..+|gr6\..+", _exact("L4")),
    (r"g6e\..+", _exact("L40S")),
    (r"g7e\..+", _exact("RTX-PRO-6000")),
    (r"g7\..+", _near("L40S")),
    (r"p3(?:dn)?\..+", _near("A10", "L40S")),
    (r"p4d\..+", _exact("A100-40GB")),
    (r"p4de\..+", _exact("A100-80GB")),
    (r"p5\..+", _exact("H100")),
    (r"p5en?\..+", _exact("H200")),
    (r"p6-b200\..+", _exact("B200")),
    (r"p6-b300\..+", _near("B200+")),
    (r"g5g\..+", _near("T4")),
    (r"g4ad\..+", _ABSENT),
    (r"[pg]\d\w*(?:-\w+)?\..+|trn\d\w*\..+|inf\d\..+|dl\d\w*\..+", _UNKNOWN),
    (r"g2-standard-\d+", _exact("L4")),
    (r"g4-standard-\d+", _exact("RTX-PRO-6000")),
    (r"a2-highgpu-\d+g|a2-megagpu-\d+g", _exact("A100-40GB")),
    (r"a2-ultragpu-\d+g", _exact("A100-80GB")),
    (r"a3-highgpu-\d+g|a3-megagpu-8g", _exact("H100")),
    (r"a3-ultragpu-8g", _exact("H200")),
    (r"a4-highgpu-8g", _exact("B200")),
    (r"Standard_NC\d+as_T4_v3", _exact("T4")),
    (r"Standard_NC\d+ads_A100_v4|Standard_ND96amsr_A100_v4", _exact("A100-80GB")),
    (r"Standard_ND96asr_v4", _exact("A100-40GB")),
    (r"Standard_NC\d+adi?s?_H100_v5", _near("H200")),
    (r"Standard_ND96isr_H100_v5", _exact("H100")),
    (r"Standard_ND96isr_H200_v5", _exact("H200")),
    (r"Standard_NV(?:36|72)ads_A10_v5", _exact("A10")),
    (r"Standard_NV\d+ads_A10_v5", _near("A10")),
    (r"Standard_NC\d+r?s_v3", _near("A10")),
    (r"Standard_N[CDGV]\w*", _UNKNOWN),
)

_GKE_KEY = "cloud.google.com/gke-accelerator"
_KARPENTER_KEYS = ("karpenter.k8s.aws/instance-gpu-name", "eks.amazonaws.com/instance-gpu-name")
_FAMILY_KEYS = ("karpenter.k8s.aws/instance-family", "eks.amazonaws.com/instance-family")
_PRODUCT_KEY = "nvidia.com/gpu.product"
_INSTANCE_KEYS = ("node.kubernetes.io/instance-type", "beta.kubernetes.io/instance-type")
_MEMORY_KEYS = ("karpenter.k8s.aws/instance-gpu-memory", "eks.amazonaws.com/instance-gpu-memory", "nvidia.com/gpu.memory")
_NAME_KEYS = (
    "skypilot.co/accelerator",
    "gpu.nvidia.com/class",
    "gpu.nvidia.com/model",
    "nebius.com/gpu-name",
    "k8s.amazonaws.com/accelerator",
)
_FREE_KEYS = ("accelerator", "gpu-type", "gpu", "kubernetes.azure.com/accelerator")
_VAGUE_KEYS = frozenset(
    {
        "cloud.google.com/gke-accelerator-count",
        "cloud.google.com/gke-gpu-driver-version",
        "karpenter.k8s.aws/instance-gpu-count",
        "karpenter.k8s.aws/instance-gpu-manufacturer",
        "eks.amazonaws.com/instance-gpu-count",
        "eks.amazonaws.com/instance-gpu-manufacturer",
        "nvidia.com/gpu.present",
        "nvidia.com/gpu.count",
        "nvidia.com/gpu.deploy.driver",
        "nvidia.com/gpu",
    }
)
_ABSENT_KEYS = frozenset({"cloud.google.com/gke-tpu-accelerator", "karpenter.k8s.aws/instance-accelerator-name"})
_MEMORY_TOLERANCE = 0.08
"""Labels give the card's usable MiB (T4: 15360 of 16384, A10G: 22888 of 24576), the catalogue its nominal size."""


def match_label(key: str, value: str) -> LabelMatch | None:
    """Return what a node label says about the GPU; ``None`` if it is not about GPUs at all."""
    reader = _READERS.get(key)
    return None if reader is None else reader(value)


def _gke(value: str) -> LabelMatch:
    return _ABSENT if value.startswith("amd-") else _GKE.get(value, _UNKNOWN)


def _karpenter(value: str) -> LabelMatch:
    return _KARPENTER.get(value.lower(), _UNKNOWN)


def _family(value: str) -> LabelMatch | None:
    return _instance(f"{value}.any")


def _instance(value: str) -> LabelMatch | None:
    return _first(value, _INSTANCES)


def _product_label(value: str) -> LabelMatch:
    return _product(value) or _UNKNOWN


def _name_label(value: str) -> LabelMatch:
    return _by_name(value) or _UNKNOWN


def _free_label(value: str) -> LabelMatch | None:
    """Read a label that anybody may use for anything: what names no GPU is not about GPUs."""
    return _by_name(value) or (_VAGUE if value.lower() in {"nvidia", "true", "yes", "gpu"} else None)


def _vague_label(_value: str) -> LabelMatch:
    return _VAGUE


def _absent_label(_value: str) -> LabelMatch:
    return _ABSENT


def _first(value: str, table: tuple[tuple[str, LabelMatch], ...]) -> LabelMatch | None:
    return next((match for pattern, match in table if re.fullmatch(pattern, value, re.ASCII | re.IGNORECASE)), None)


def _product(value: str) -> LabelMatch | None:
    name = value.upper().removesuffix("-SHARED")
    for prefix in ("NVIDIA-", "TESLA-"):
        name = name.removeprefix(prefix)
    return _first(name, _PRODUCTS)


def _by_name(value: str) -> LabelMatch | None:
    model = BY_NAME.get(value.upper())
    if model is not None:
        return _exact(model.name)
    return _product(value.replace("_", "-"))


def _by_memory(value: str) -> LabelMatch:
    if not (value.isascii() and value.isdigit() and len(value) < len("10000000")):
        return _UNKNOWN
    # "H100!" is the same card as "H100", asked for more strictly: no fallback of its own.
    near = [
        m for m in CATALOGUE if m.name != "H100!" and abs(int(value) - m.memory * 1024) <= m.memory * 1024 * _MEMORY_TOLERANCE
    ]
    models = tuple(m.name for m in sorted(near, key=lambda m: (m.price, not m.exact)))
    return _exact(*models) if models else _UNKNOWN


_READERS: dict[str, Callable[[str], LabelMatch | None]] = {
    _GKE_KEY: _gke,
    _PRODUCT_KEY: _product_label,
    **dict.fromkeys(_KARPENTER_KEYS, _karpenter),
    **dict.fromkeys(_FAMILY_KEYS, _family),
    **dict.fromkeys(_INSTANCE_KEYS, _instance),
    **dict.fromkeys(_MEMORY_KEYS, _by_memory),
    **dict.fromkeys(_NAME_KEYS, _name_label),
    **dict.fromkeys(_FREE_KEYS, _free_label),
    **dict.fromkeys(_VAGUE_KEYS, _vague_label),
    **dict.fromkeys(_ABSENT_KEYS, _absent_label),
}
