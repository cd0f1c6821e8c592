"""The words of clouds and makers for GPUs, as tables: each with the Modal models that are the same hardware, or the nearest.

Sources (read 2026-09; partly recalled): GKE documentation and manifests, Karpenter's instance-types reference, EKS
ml-workload-placement, AKS use-nvidia-gpu, NVIDIA gpu-feature-discovery, SkyPilot's Kubernetes utilities, flytekit's accelerators.
Flows into ``gpus.labels``, which reads labels by them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from modalflow.translation.gpus.catalogue import smallest_with


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelMatch:
    """What a label says about the GPU.

    ``exact``: ``models`` are that hardware, best first. ``near``: Modal lacks it, ``models`` are closest. ``bound``: it names no
    model, but only ``models`` fit. ``absent``: nothing is like it. ``vague``: it names no model. ``unknown``: a GPU label with a
    value that nobody told us of. ``reason`` says what an absent thing is, or what else is lost with a near one. ``share`` tells
    that a part of a GPU was meant. ``free``: the label's text means whatever its authors agreed on. ``unclear``: a label of
    somebody's own that seems to choose a GPU; ``models`` are those whose names are in it.
    """

    kind: Literal["exact", "near", "bound", "absent", "vague", "unknown", "unclear"]
    models: tuple[str, ...] = ()
    reason: str = ""
    share: bool = False
    free: bool = False

    @property
    def plain(self) -> bool:
        """Tell that there is nothing to say but the models."""
        return self.kind == "exact" and not self.share and not self.free


VAGUE = LabelMatch(kind="vague")
UNKNOWN = LabelMatch(kind="unknown")
UNCLEAR = LabelMatch(kind="unclear")


def exact(*models: str) -> LabelMatch:
    """The same hardware."""
    return LabelMatch(kind="exact", models=models)


def near(*models: str, reason: str = "") -> LabelMatch:
    """The nearest to hardware that Modal lacks."""
    return LabelMatch(kind="near", models=models, reason=reason)


def absent(reason: str) -> LabelMatch:
    """Hardware that nothing of Modal's is like; ``reason`` finishes the sentence "… is"."""
    return LabelMatch(kind="absent", reason=reason)


_ARM = "its machines are arm64, Modal's are amd64"
AMD = absent("an AMD GPU")
INTEL = absent("an Intel GPU")
TPU = absent("a TPU")
NEURON = absent("an AWS Neuron device")
GAUDI = absent("a Gaudi accelerator")
QUALCOMM = absent("a Qualcomm accelerator")
ARM64 = absent("of arm64 machines, and Modal's are amd64")

A100 = exact("A100", "A100-40GB", "A100-80GB")
_A100_40 = exact("A100-40GB")
_A100_80 = exact("A100-80GB")
_V100_16 = near("A10", "L40S")
_V100_32 = near("L40S")

GKE = {
    "nvidia-tesla-t4": exact("T4"),
    "nvidia-l4": exact("L4"),
    "nvidia-tesla-a100": _A100_40,
    "nvidia-a100-80gb": _A100_80,
    "nvidia-h100-80gb": exact("H100"),
    "nvidia-h100-mega-80gb": exact("H100"),
    "nvidia-h200-141gb": exact("H200"),
    "nvidia-b200": exact("B200"),
    "nvidia-rtx-pro-6000": exact("RTX-PRO-6000"),
    "nvidia-gb200": near("B200", reason=_ARM),
    "nvidia-tesla-v100": near("L4", "A10"),
    "nvidia-tesla-p100": near("T4"),
    "nvidia-tesla-p4": near("T4"),
    "nvidia-tesla-k80": near("T4"),
}
KARPENTER = {
    "t4": exact("T4"),
    "a10g": exact("A10"),
    "l4": exact("L4"),
    "l40s": exact("L40S"),
    "a100": A100,
    "h100": exact("H100"),
    "h200": exact("H200"),
    "b200": exact("B200"),
    "b300": near("B200+", reason="B200+ may be a B200"),
    "rtx-pro-server-6000": exact("RTX-PRO-6000"),
    "rtx-pro-4500": near("L40S"),
    "v100": _V100_16,
    "k80": near("T4"),
    "m60": near("T4"),
    "t4g": ARM64,
    "radeon-pro-v520": AMD,
    "gaudi-hl-205": GAUDI,
}
ACCELERATORS = {
    "inferentia": NEURON,
    "inferentia2": NEURON,
    "trainium": NEURON,
    "trainium2": NEURON,
    "trainium3": NEURON,
    "qualcomm-ai100": QUALCOMM,
}

# Card memory in GiB of workstation and older data-centre cards, and whether Turing (T4) is a step down.
_TURING = (7, 5)
_AMPERE = (8, 6)
_CARDS: tuple[tuple[str, int, tuple[int, int]], ...] = (
    (r"A30(?:-.+)?|L2", 24, _AMPERE),
    (r"A16|A2|(?:RTX-)?A4000|(?:RTX-)?A2000|(?:RTX-)?(?:4080|5080|5060-TI|4060-TI)(?:-.+)?", 16, _AMPERE),
    (r"(?:RTX-)?A4500|(?:RTX-)?A5000|(?:RTX-)?A5500|RTX-?4000(?:-SFF)?-?ADA(?:-.+)?|4000-ADA|RTX-4500-ADA(?:-.+)?", 24, _AMPERE),
    (r"RTX-5000-ADA(?:-.+)?|RTX-PRO-4500(?:-.+)?|(?:RTX-)?5090(?:-.+)?", 32, _AMPERE),
    (r"RTX-PRO-5000(?:-.+)?", 48, _AMPERE),
    (r"RTX-PRO-4000(?:-.+)?|(?:RTX-)?(?:3090|4090)(?:-.+)?", 24, _AMPERE),
    (r"(?:RTX-)?(?:3060|3070|3080|4060|4070|5060|5070)(?:-.+)?", 16, _AMPERE),
    (
        r"(?:RTX-)?20[678]0(?:-.+)?|RTX-[45]000|(?:GTX-)?(?:9[678]0|1[06]\d0)(?:-.+)?|TITAN-(?:V|XP?)|M40|M4000|K40\w?",
        16,
        _TURING,
    ),
    (r"RTX-6000|TITAN-RTX|P40", 24, _TURING),
    (r"RTX-8000", 48, _TURING),
)

Table = tuple[tuple[str, LabelMatch], ...]

PRODUCTS: Table = (
    (r"T4(?:-VWS)?", exact("T4")),
    (r"L4(?:-VWS)?", exact("L4")),
    (r"L40S", exact("L40S")),
    (r"L40G?|L20|A40|(?:RTX-)?A6000|(?:RTX-?)?6000-?ADA(?:-.+)?|RTX-5880-ADA(?:-.+)?", near("L40S")),
    (r"A10G?", exact("A10")),
    (r"A100", A100),
    (r"A100-(?:SXM4?|PCIE|NVLINK)-40GB|A100-40GB(?:-PCIE|-SXM4?)?", _A100_40),
    (r"A100-(?:SXM4?|PCIE|NVLINK)-80GB|A100-80GB(?:-PCIE|-SXM4?)?", _A100_80),
    (r"A100-(?:SXM4?|PCIE|NVLINK)|A100-DGX", A100),
    (r"A800(?:-.+)?", near("A100-80GB")),
    (r"H100(?:-(?:SXM5?|PCIE|NVLINK|MEGA))?(?:-80GB)?(?:-HBM[23]E?|-PCIE)?", exact("H100")),
    (r"H100-NVL(?:-94GB)?|H20(?:-.+)?", near("H200")),
    (r"H800(?:-.+)?", near("H100")),
    (r"H200(?:-(?:NVL|SXM5?|NVLINK))?(?:-141GB)?(?:-HBM3E)?", exact("H200")),
    (r"B200(?:-.+)?", exact("B200")),
    (r"GH200(?:-.+)?", near("H200", reason=_ARM)),
    (r"B300(?:-.+)?", near("B200+", reason="B200+ may be a B200")),
    (r"GB[23]00(?:-.+)?", near("B200", reason=_ARM)),
    (r"RTX-?PRO-?(?:SERVER-?)?6000(?:-.+)?", exact("RTX-PRO-6000")),
    (r"V100S?(?:-.+)?-32GB?(?:-LS)?", _V100_32),
    (r"V100S(?:-.+)?", _V100_32),
    (r"V100(?:-.+)?", _V100_16),
    (r"P100(?:-.+)?|K80|P4|M60", near("T4")),
    (r"(?:AMD-)?(?:INSTINCT-)?MI\d+\w*(?:-.+)?|(?:AMD-)?RADEON-.+", AMD),
    (r"TPU-.+|TPU|V\d\w*-(?:PODSLICE|SLICE)", TPU),
    (r"(?:INTEL-)?GAUDI.*", GAUDI),
    (r"INTEL-(?:GPU|MAX|ARC).*", INTEL),
    (r"ASCEND.*", absent("a Huawei Ascend accelerator")),
    (r"(?:AWS-)?(?:INFERENTIA|TRAINIUM|NEURON).*", NEURON),
    *((pattern, near(*smallest_with(memory, compute=compute))) for pattern, memory, compute in _CARDS),
)
INSTANCES: Table = (
    # AWS
    (r"g4dn\..+", exact("T4")),
    (r"g5\..+", exact("A10")),
    (r"g6f\..+|gr6f\..+", LabelMatch(kind="near", models=("L4",), share=True)),
    (r"g6\..+|gr6\..+", exact("L4")),
    (r"g6e\..+", exact("L40S")),
    (r"g7e\..+", exact("RTX-PRO-6000")),
    (r"g7\..+", near("L40S")),
    (r"p2\..+|g3s?\..+", near("T4")),
    (r"p3dn\..+", _V100_32),
    (r"p3\..+", _V100_16),
    (r"p4d\..+", _A100_40),
    (r"g2\..+", near("T4")),
    (r"p4de\..+", _A100_80),
    (r"p5\..+", exact("H100")),
    (r"p5en?\..+", exact("H200")),
    (r"p6-b200\..+", exact("B200")),
    (r"p6-b300\..+", near("B200+", reason="B200+ may be a B200")),
    (r"p6e-gb[23]00\..+", near("B200", reason=_ARM)),
    (r"g5g\..+", ARM64),
    (r"g4ad\..+", AMD),
    (r"trn\d\w*\..+|inf\d\..+", NEURON),
    (r"dl1\..+", GAUDI),
    (r"dl2q\..+", QUALCOMM),
    (r"[pg]\d\w*(?:-\w+)?\..+", UNKNOWN),
    # Google
    (r"g2-(?:standard-\d+|custom-\d+-\d+)", exact("L4")),
    (r"g4-standard-\d+", exact("RTX-PRO-6000")),
    (r"a2-highgpu-\d+g|a2-megagpu-\d+g", _A100_40),
    (r"a2-ultragpu-\d+g", _A100_80),
    (r"a3-(?:high|mega|edge)gpu-\d+g(?:-\w+)?", exact("H100")),
    (r"a3-ultragpu-\d+g(?:-\w+)?", exact("H200")),
    (r"a4-highgpu-\d+g(?:-\w+)?", exact("B200")),
    (r"a4x-\w+gpu-\d+g(?:-\w+)?", near("B200", reason=_ARM)),
    (r"ct\d\w*-.+|tpu\d\w*-.+", TPU),
    # Azure
    (r"Standard_NC\d+as_T4_v3", exact("T4")),
    (r"Standard_NC\d+ads_A100_v4|Standard_ND96amsr?_A100_v4", _A100_80),
    (r"Standard_ND96asr(?:_A100)?_v4", _A100_40),
    (r"Standard_NCC?\d+adi?s?_H100_v5", near("H200")),
    (r"Standard_ND128is?r_(?:NDR_)?GB[23]00_v6", near("B200", reason=_ARM)),
    (r"Standard_ND96is?r?_H100_v5", exact("H100")),
    (r"Standard_ND96is?r?_H200_v5", exact("H200")),
    (r"Standard_ND\w*_MI\d+X_v5|Standard_NV\d+as_v4|Standard_NV\d+\w*_V710_v5|Standard_NG\w+", AMD),
    (r"Standard_NV(?:36|72)adm?s_A10_v5|Standard_NC\d+ads_A10_v4", exact("A10")),
    (r"Standard_NV\d+adm?s_A10_v5", LabelMatch(kind="near", models=("A10",), share=True)),
    (r"Standard_NC\d+r?s_v3", near("A10")),
    (r"Standard_ND40rs_v2", _V100_32),
    (r"Standard_NC\d+r?s?(?:_v2)?(?:_Promo)?|Standard_NV\d+s?(?:_v[23])?(?:_Promo)?|Standard_ND\d+r?s", near("T4")),
    (r"Standard_N[CDGPV]\w*", UNKNOWN),
    # Oracle
    (r"(?:VM|BM)\.GPU\.A10\.\d+", exact("A10")),
    (r"BM\.GPU4\.8|BM\.GPU\.B4\.8", _A100_40),
    (r"(?:VM|BM)\.GPU2\.\d", near("T4")),
    (r"(?:VM|BM)\.GPU3\.\d", _V100_16),
    (r"BM\.GPU\.GB[23]00\..+", near("B200", reason=_ARM)),
    (r"BM\.GPU\.B300\..+", near("B200+", reason="B200+ may be a B200")),
    (r"BM\.GPU\.A100-v2\.8", _A100_80),
    (r"BM\.GPU\.L40S[.-].+", exact("L40S")),
    (r"BM\.GPU\.H100[.-].+", exact("H100")),
    (r"BM\.GPU\.H200[.-].+", exact("H200")),
    (r"BM\.GPU\.B200[.-].+", exact("B200")),
    (r"BM\.GPU\.MI\d+X.*", AMD),
    (r"(?:VM|BM)\.GPU.*", UNKNOWN),
    # Alibaba
    (r"ecs\.(?:ebm)?gn6i.*", exact("T4")),
    (r"ecs\.(?:ebm)?gn7i.*", exact("A10")),
    (r"ecs\.(?:ebm)?gn7ex?[-.].*", _A100_80),
    (r"ecs\.(?:ebm)?gn7[-.].*", _A100_40),
    (r"ecs\.(?:ebm)?gn6v.*", _V100_16),
    (r"ecs\.(?:ebm)?gn6e.*", _V100_32),
    (r"ecs\.gn5i?[-.].*", near("T4")),
    (r"ecs\.gn7s.*", near("L4", "A10")),
    (r"ecs\.s?vgn7i.*|ecs\.sgn7i.*", LabelMatch(kind="near", models=("A10",), share=True)),
    (r"ecs\.s?vgn\d.*|ecs\.sgn\d.*", LabelMatch(kind="near", models=("T4",), share=True)),
    (r"ecs\.\w*gn\d.*", UNKNOWN),
    # IBM
    (r"gx3d?-\d+x\d+x\d+l4", exact("L4")),
    (r"gx3d?-\d+x\d+x\d+l40s", exact("L40S")),
    (r"gx3d-\d+x\d+x\d+a100p?", _A100_80),
    (r"gx3d-\d+x\d+x\d+h100", exact("H100")),
    (r"gx3d-\d+x\d+x\d+h200", exact("H200")),
    (r"gx3d-\d+x\d+x\d+gaudi3", GAUDI),
    (r"gx2-\d+x\d+x\d+v100", _V100_16),
    (r"gx\d\w*-.+", UNKNOWN),
    # DigitalOcean, Nebius
    (r"gpu-l40s(?:x\d)?(?:-.+)?", exact("L40S")),
    (r"gpu-h100(?:x\d)?(?:-.+)?", exact("H100")),
    (r"gpu-h200(?:x\d)?(?:-.+)?", exact("H200")),
    (r"gpu-b200(?:x\d)?(?:-.+)?", exact("B200")),
    (r"gpu-6000adax\d(?:-.+)?", near("L40S")),
    (r"gpu-4000adax\d(?:-.+)?", near("L4", "A10")),
    (r"gpu-mi\d+x\d(?:-.+)?", AMD),
    # Lambda
    (r"gpu_\d+x_a10", exact("A10")),
    (r"gpu_\d+x_a100_80gb\w*", _A100_80),
    (r"gpu_\d+x_a100(?:_sxm4)?", _A100_40),
    (r"gpu_\d+x_h100(?:_\w+)?", exact("H100")),
    (r"gpu_\d+x_b200(?:_\w+)?", exact("B200")),
    (r"gpu_\d+x_gh200", near("H200", reason=_ARM)),
    (r"gpu_\d+x_v100(?:_\w+)?", _V100_16),
    (r"gpu_\d+x_a6000", near("L40S")),
    (r"gpu_\d+x_rtx6000", near("L4", "A10")),
    # Scaleway
    (r"L4-\d-24G", exact("L4")),
    (r"L40S-\d-48G", exact("L40S")),
    (r"H100-(?:SXM-)?\d-80G", exact("H100")),
    (r"RENDER-S|GPU-3070-S", near("T4")),
    # CoreWeave
    (r"gd-\dxh100ib-.+", exact("H100")),
    (r"gd-\dxh200ib-.+", exact("H200")),
    (r"gd-\dxa100-.+", _A100_80),
    (r"gd-\dxl40s-.+", exact("L40S")),
    (r"gd-\dxl40-.+", near("L40S")),
    (r"gd-\dxgh200.*", near("H200", reason=_ARM)),
    (r"(?:gpu|gd|gb\d+)[-_].+", UNCLEAR),
)
GKE_FAMILIES: Table = (
    (r"g2", exact("L4")),
    (r"g4", exact("RTX-PRO-6000")),
    (r"a2", exact("A100-40GB", "A100-80GB")),
    (r"a3", exact("H100", "H200")),
    (r"a4", exact("B200")),
    (r"a4x", near("B200", reason=_ARM)),
    (r"ct\d\w*", TPU),
)
WHOLE_SLICES = {"7g.40gb": _A100_40, "7g.80gb": _A100_80, "7g.141gb": exact("H200"), "7g.180gb": exact("B200")}
"""MIG profiles that are a whole card of Modal's."""

_SLICE = re.compile(r"[1-7]g\.(\d{1,3})gb(?:\+[\w.]+)?", re.ASCII)
_COMPILED: dict[int, list[tuple[re.Pattern[str], LabelMatch]]] = {
    id(table): [(re.compile(pattern, re.ASCII | re.IGNORECASE), match) for pattern, match in table]
    for table in (PRODUCTS, INSTANCES, GKE_FAMILIES)
}


def first(value: str, table: Table) -> LabelMatch | None:
    """Return the first entry whose pattern is the whole of ``value``, whatever its case."""
    return next((match for pattern, match in _COMPILED[id(table)] if pattern.fullmatch(value)), None)


def slice_of(profile: str) -> LabelMatch | None:
    """Return what a MIG profile such as ``1g.10gb`` comes to: the smallest whole GPU with as much memory."""
    name = profile.lower()
    found = _SLICE.fullmatch(name)
    if found is None:
        return None
    if name in WHOLE_SLICES:
        return WHOLE_SLICES[name]
    return LabelMatch(kind="near", models=smallest_with(int(found.group(1))), share=True)


def union(matches: Iterable[LabelMatch]) -> tuple[str, ...]:
    """Return the models of all matches, each once, in order."""
    return tuple(dict.fromkeys(model for match in matches for model in match.models))
