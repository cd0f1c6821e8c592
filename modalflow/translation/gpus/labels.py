"""Reads node labels and other tools' names for GPUs as models of the catalogue.

Flows in: a label's key and value, or a name such as ``NVIDIA-A100-SXM4-80GB``. Flows out: ``LabelMatch``, for ``pods.nodes`` and
``gpus.requests``. The words themselves are in ``gpus.label_tables``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import pairwise

from modalflow.translation.gpus import label_tables as tables
from modalflow.translation.gpus.catalogue import BY_NAME, CATALOGUE, PINNED, GpuModel, by_price, smallest_with
from modalflow.translation.gpus.label_tables import UNCLEAR, UNKNOWN, VAGUE, LabelMatch, exact, first, slice_of

GKE_KEY = "cloud.google.com/gke-accelerator"
TPU_KEY = "cloud.google.com/gke-tpu-accelerator"
SLICE_KEYS = ("cloud.google.com/gke-gpu-partition-size", "nvidia.com/mig.config")
KARPENTER_KEYS = ("karpenter.k8s.aws/instance-gpu-name", "eks.amazonaws.com/instance-gpu-name")
ACCELERATOR_KEYS = ("karpenter.k8s.aws/instance-accelerator-name", "eks.amazonaws.com/instance-accelerator-name")
FAMILY_KEYS = ("karpenter.k8s.aws/instance-family", "eks.amazonaws.com/instance-family")
MACHINE_FAMILY_KEY = "cloud.google.com/machine-family"
CATEGORY_KEYS = ("karpenter.k8s.aws/instance-category", "eks.amazonaws.com/instance-category")
PRODUCT_KEY = "nvidia.com/gpu.product"
ARCHITECTURE_KEY = "nvidia.com/gpu.family"
MAJOR_KEY = "nvidia.com/gpu.compute.major"
MINOR_KEY = "nvidia.com/gpu.compute.minor"
INSTANCE_KEYS = ("node.kubernetes.io/instance-type", "beta.kubernetes.io/instance-type", "karpenter.azure.com/sku-name")
MEMORY_KEYS = ("karpenter.k8s.aws/instance-gpu-memory", "eks.amazonaws.com/instance-gpu-memory", "nvidia.com/gpu.memory")
NAME_KEYS = (
    "skypilot.co/accelerator",
    "gpu.nvidia.com/class",
    "gpu.nvidia.com/model",
    "nebius.com/gpu-name",
    "doks.digitalocean.com/gpu-model",
    "alibabacloud.com/gpu-card-model",
    "alibabacloud.com/gpu-model-series",
    "aliyun.accelerator/nvidia_name",
    "k8s.amazonaws.com/accelerator",
    "karpenter.azure.com/sku-gpu-name",
)
FREE_KEYS = ("accelerator", "gpu", "gpu-type", "kubernetes.azure.com/accelerator")
"""The best known of the keys that ``_FREE_KEY`` takes for a GPU's name, in whatever words a site has."""
SIZE_KEYS = ("gpu.nvidia.com/vram", "gpu-memory", "gpu-mem", "gpu-vram", "gpu.memory", "gpu_memory", "vram")
"""Memory of one GPU in the site's own words: GB, or MiB from 1000 on."""
MANUFACTURER_KEYS = (
    "karpenter.k8s.aws/instance-gpu-manufacturer",
    "eks.amazonaws.com/instance-gpu-manufacturer",
    "karpenter.azure.com/sku-gpu-manufacturer",
    "doks.digitalocean.com/gpu-brand",
)
COUNT_KEYS = (
    "cloud.google.com/gke-accelerator-count",
    "karpenter.k8s.aws/instance-gpu-count",
    "eks.amazonaws.com/instance-gpu-count",
    "karpenter.azure.com/sku-gpu-count",
    "nvidia.com/gpu.count",
    "gpu.nvidia.com/count",
)
"""They describe the machine; the limit says how many GPUs of it the task gets."""
VAGUE_KEYS = (
    *COUNT_KEYS,
    "aliyun.accelerator/nvidia_count",
    "cloud.google.com/gke-gpu",
    "cloud.google.com/gke-gpu-driver-version",
    "nvidia.com/gpu",
    "nvidia.com/gpu.present",
    "nvidia.com/gpu.machine",
    "nvidia.com/gpu.replicas",
    "nvidia.com/gpu.sharing-strategy",
    "nvidia.com/gpu.mode",
    "nvidia.com/mig.capable",
    "nvidia.com/mig.strategy",
    "nvidia.com/mps.capable",
    "nvidia.com/vgpu.present",
    "feature.node.kubernetes.io/pci-10de.present",
)
_VAGUE_PREFIXES = ("nvidia.com/gpu.deploy.", "nvidia.com/cuda.", "feature.node.kubernetes.io/pci-03", "nvidia.com/mig-")
_VENDORS = {
    "nvidia": VAGUE,
    **dict.fromkeys(
        ("true", "false", "yes", "no", "on", "off", "none", "any", "enabled", "present", "required", "available", "gpu"), VAGUE
    ),
    **dict.fromkeys(("nvidia-gpu", "nvidia-tesla", "tesla", "dedicated", "shared", "exclusive"), VAGUE),
    "amd": tables.AMD,
    "intel": tables.INTEL,
    "habana": tables.GAUDI,
    "aws": tables.NEURON,
    "tpu": tables.TPU,
}
_ABSENT_PREFIXES = (
    ("amd.com/gpu", tables.AMD),
    ("beta.amd.com/gpu", tables.AMD),
    ("gpu.intel.com/", tables.INTEL),
    ("habana.ai/", tables.GAUDI),
    ("aws.amazon.com/neuron", tables.NEURON),
)
_OTHER_CARDS = re.compile(
    r"V100S?|P100|P40|K80|M60|A[34]0|A16|A800|A[456]000|L20|L40G?|H20|H800|RTX\w+|[345]0[789]0|GH200|GB[23]00|B300|MI\d{3}X?",
    re.ASCII,
)
"""Names of GPUs that Modal lacks, as they stand in names of node pools."""
_FAMILIES = re.compile(r"G4DN|G5|G6[EF]?|GR6|G7E|P3(?:DN)?|P4DE?|P5(?:EN?)?", re.ASCII)
"""AWS's families of machines with GPUs, as they stand in names of node pools: ``g5-gpu-karpenter``."""
_PREFIXES = ("NVIDIA-", "TESLA-", "GEFORCE-", "QUADRO-")
_PARTITION = re.compile(r"(.+)\.PARTITION[-_](\d)G[-_](\d+)GB", re.ASCII)
_MIG_SUFFIX = re.compile(r"(.+)-MIG-([1-7]G\.\d+GB)(?:[+.].+)?", re.ASCII)
_VIRTUAL = re.compile(r"(?:GRID-)?(?:RTX-?)?[A-Z]\w*?(?:-PCIE|-SXM)?-(?:\d-)?(\d+)(?:Q|C|A|B|VWS)", re.ASCII)
"""NVIDIA's names for parts of a GPU given to virtual machines: ``GRID-T4-8C``, ``NVIDIA-A40-48Q``; the number is GB."""
_RTX = re.compile(r"RTX(?=[A\d])", re.ASCII)
_FREE_KEY = re.compile(
    r"(?:.*[/.])?[\w-]*(?:gpu|accelerator)s?(?:[-_.]?(?:type|model|name|product|class|series|sku|kind|flavou?r|tier))?",
    re.ASCII | re.IGNORECASE,
)
_COUNT_KEY = re.compile(r"(?:.*/)?(?:[\w-]*[-_.])?gpus?[-_.]?(?:count|num|number)", re.ASCII | re.IGNORECASE)
_SIZE = re.compile(r"(\d{1,6})\s*(gb|gib|gi|g|mb|mib|mi|m)?", re.ASCII | re.IGNORECASE)
_NOISE = re.compile(r"GPUS?|POOLS?|NODES?", re.ASCII)
_TIMES = re.compile(r"^\d+X(?=[A-Z])|X\d+$", re.ASCII)
"""``gpua100``, ``t4pool``, ``8xh100``, ``h100x8``: what stands around a GPU's name in the name of a pool."""
_WORDS = re.compile(r"[^A-Z0-9]+", re.ASCII)
_LONGEST_KEY = 317
_LEAST_MIB = 1000
"""From here on a size without a unit is MiB."""
_MEMORY_TOLERANCE = 0.08
"""Labels give the card's usable MiB (T4: 15360 of 16384, A10G: 22888 of 24576), the catalogue its nominal size."""
_LONGEST_NUMBER = 7
"""Digits of a label that is a number of MiB."""


def match_label(key: str, value: str, own: Mapping[str, tuple[str, ...]] | None = None) -> LabelMatch | None:
    """Return what a node label says about the GPU; ``None`` if it is not about GPUs at all.

    ``own`` are the site's words, ``key=value`` to models (none: it says nothing); they come before everything else.
    """
    if own and (models := own.get(f"{key}={value}")) is not None:
        return exact(*models) if models else VAGUE
    reader = _READERS.get(key)
    if reader is not None:
        return reader(value) or _own_words(key, value)
    if key.startswith(_VAGUE_PREFIXES):
        return VAGUE
    return next((match for prefix, match in _ABSENT_PREFIXES if key.startswith(prefix)), None) or _own_words(key, value)


def _own_words(key: str, value: str) -> LabelMatch | None:
    """Read a label of somebody's own: one whose key is about GPUs, or whose value has a GPU's name in it."""
    if len(key) > _LONGEST_KEY or len(value) > _LONGEST_KEY:
        return None
    if _COUNT_KEY.fullmatch(key):
        return VAGUE
    if _FREE_KEY.fullmatch(key):
        return _free_label(value)
    words = [_TIMES.sub("", word) for word in _WORDS.split(_NOISE.sub("-", value.upper())) if word]
    pairs = (f"{left}-{right}" for left, right in pairwise(words))
    names = [BY_NAME[word].name for word in (*pairs, *words) if word in BY_NAME]
    families = [word for word in words if _FAMILIES.fullmatch(word)]
    for family in families:
        machine = _family(family)
        names += machine.models if machine is not None and machine.plain else ()
    if names or families or any(_OTHER_CARDS.fullmatch(word) for word in words):
        # "a100" and "a100-80gb" of one text are one name, the longer one.
        found = [name for name in dict.fromkeys(names) if not any(name != other and other.startswith(name) for other in names)]
        return LabelMatch(kind="unclear", models=tuple(found))
    return None


def is_gpu_key(key: str) -> bool:
    """Tell whether a label of this key says something about GPUs, whatever its value."""
    return key in _READERS and key not in FREE_KEYS and key not in INSTANCE_KEYS and key not in _OF_EVERY_MACHINE


def match_bound(key: str, number: int, *, above: bool) -> LabelMatch | None:
    """Return the models on the right side of ``Gt`` or ``Lt``; ``None`` if the key is no number that the catalogue knows."""
    if key in MEMORY_KEYS:
        # Sources differ by some percent; only a model that is on that side by all of them is taken.
        return _bounded(lambda m: m.mib[0] > number if above else m.mib[1] < number)
    if key in SIZE_KEYS:
        size = number if number < _LEAST_MIB else number / 1024
        return _bounded(lambda m: m.memory > size if above else m.memory < size)
    if key in {MAJOR_KEY, MINOR_KEY}:
        part = 0 if key == MAJOR_KEY else 1
        return _bounded(lambda m: m.compute[part] > number if above else m.compute[part] < number)
    return VAGUE if key in COUNT_KEYS or key.startswith("nvidia.com/cuda.") else None


def match_name(text: str) -> LabelMatch | None:
    """Return what a product's name in any tool's spelling means, ``None`` if nobody knows it."""
    name = text.upper().removesuffix(".UNPARTITIONED")
    if partition := _PARTITION.fullmatch(name):
        return slice_of(f"{partition.group(2)}g.{partition.group(3)}gb")
    model = BY_NAME.get(name)
    if model is not None:
        return tables.A100 if model.name == "A100" else exact(model.name)
    name = name.replace("_", "-").replace(" ", "-")
    return tables.GKE.get(name.lower()) or _product(name)


def _product(value: str) -> LabelMatch | None:
    name = value.upper()
    shared = name.endswith("-SHARED")
    name = name.removesuffix("-SHARED")
    if found := _MIG_SUFFIX.fullmatch(name):
        part = slice_of(found.group(2))
        return part if part is None or part.share else _product(found.group(1))
    for prefix in _PREFIXES:
        name = name.removeprefix(prefix)
    name = _RTX.sub("RTX-", name, count=1)
    match = first(name, tables.PRODUCTS)
    if match is None and (virtual := _VIRTUAL.fullmatch(name)):
        return LabelMatch(kind="near", models=smallest_with(int(virtual.group(1))), share=True)
    if match is None or not shared:
        return match
    return LabelMatch(kind=match.kind, models=match.models, reason=match.reason, share=True)


def _gke(value: str) -> LabelMatch:
    return tables.AMD if value.startswith("amd-") else tables.GKE.get(value.lower()) or match_name(value) or UNKNOWN


def _karpenter(value: str) -> LabelMatch:
    return tables.KARPENTER.get(value.lower()) or match_name(value) or UNKNOWN


def _accelerator(value: str) -> LabelMatch:
    return tables.ACCELERATORS.get(value.lower(), tables.NEURON)


def _tpu(_value: str) -> LabelMatch:
    return tables.TPU


def _slice(value: str) -> LabelMatch:
    return slice_of(value.removeprefix("all-")) or UNKNOWN


def _family(value: str) -> LabelMatch | None:
    return _instance(f"{value}.any")


def _machine_family(value: str) -> LabelMatch | None:
    return first(value, tables.GKE_FAMILIES)


def _category(value: str) -> LabelMatch | None:
    return VAGUE if value in {"g", "p"} else tables.NEURON if value in {"inf", "trn"} else None


def _instance(value: str) -> LabelMatch | None:
    return first(value.removeprefix("ml."), tables.INSTANCES)  # SageMaker HyperPod: ml.g5.xlarge


def _product_label(value: str) -> LabelMatch:
    return _product(value.replace(" ", "-")) or UNKNOWN


def _name_label(value: str) -> LabelMatch:
    return match_name(value) or _VENDORS.get(value.lower()) or _family(value) or UNKNOWN


def _free_label(value: str) -> LabelMatch | None:
    """Read a label that anybody may use for anything: what names no GPU may still choose one."""
    match = match_name(value) or _family(value)
    if match is None or match.kind == "unknown":
        return _VENDORS.get(value.lower()) or (VAGUE if not value or value.isdigit() else UNCLEAR)
    return LabelMatch(kind=match.kind, models=match.models, reason=match.reason, share=match.share, free=True)


def _manufacturer(value: str) -> LabelMatch:
    return _VENDORS.get(value.lower(), UNKNOWN)


def _vague_label(_value: str) -> LabelMatch:
    return VAGUE


def _bounded(fits: Callable[[GpuModel], bool]) -> LabelMatch:
    return LabelMatch(kind="bound", models=tuple(m.name for m in by_price(CATALOGUE) if fits(m)))


def _by_memory(value: str) -> LabelMatch:
    if value.isascii() and value.isdigit() and len(value) <= _LONGEST_NUMBER:
        return _of_size(int(value))
    return _by_size(value)


def _by_size(value: str) -> LabelMatch:
    size = _SIZE.fullmatch(value)
    if size is None:
        return UNKNOWN
    number, unit = int(size.group(1)), (size.group(2) or "").lower()
    return _of_size(number if unit.startswith("m") or (not unit and number >= _LEAST_MIB) else number * 1024)


def _of_size(mib: int) -> LabelMatch:
    # "H100!" is the same card as "H100", asked for more strictly: no fallback of its own.
    near = [m for m in CATALOGUE if m.name != PINNED and abs(mib - m.memory * 1024) <= m.memory * 1024 * _MEMORY_TOLERANCE]
    models = tuple(m.name for m in by_price(near))
    return exact(*models) if models else UNKNOWN


def _size_label(value: str) -> LabelMatch:
    match = _by_size(value)
    return UNCLEAR if match is UNKNOWN else replace(match, free=True)


def _architecture(value: str) -> LabelMatch:
    found = _bounded(lambda m: m.family == value.lower() or (value.lower() == "ada" and m.family == "ada-lovelace"))
    return found if found.models else UNKNOWN


def _major(value: str) -> LabelMatch:
    found = _bounded(lambda m: str(m.compute[0]) == value)
    return found if found.models else UNKNOWN


def _minor(value: str) -> LabelMatch:
    found = _bounded(lambda m: str(m.compute[1]) == value)
    return found if found.models else UNKNOWN


_READERS: dict[str, Callable[[str], LabelMatch | None]] = {
    GKE_KEY: _gke,
    TPU_KEY: _tpu,
    PRODUCT_KEY: _product_label,
    ARCHITECTURE_KEY: _architecture,
    MAJOR_KEY: _major,
    MINOR_KEY: _minor,
    MACHINE_FAMILY_KEY: _machine_family,
    **dict.fromkeys(SLICE_KEYS, _slice),
    **dict.fromkeys(KARPENTER_KEYS, _karpenter),
    **dict.fromkeys(ACCELERATOR_KEYS, _accelerator),
    **dict.fromkeys(FAMILY_KEYS, _family),
    **dict.fromkeys(CATEGORY_KEYS, _category),
    **dict.fromkeys(INSTANCE_KEYS, _instance),
    **dict.fromkeys(MEMORY_KEYS, _by_memory),
    **dict.fromkeys(SIZE_KEYS, _size_label),
    **dict.fromkeys(NAME_KEYS, _name_label),
    **dict.fromkeys(FREE_KEYS, _free_label),
    **dict.fromkeys(MANUFACTURER_KEYS, _manufacturer),
    **dict.fromkeys(VAGUE_KEYS, _vague_label),
}
_OF_EVERY_MACHINE = frozenset({*FAMILY_KEYS, *CATEGORY_KEYS, MACHINE_FAMILY_KEY})
