"""Reads the names of resources that are a GPU model's own: ``nvidia.com/a100``, as some clusters split ``nvidia.com/gpu``.

Flows in, from ``pods.resources``: the name of a resource. Flows out: the models it stands for, or what Modal lacks. Names: the
National Research Platform's and Volcano's documentation of resources by model, KubeVirt's names of PCI devices
(``nvidia.com/GA102GL_A10``) and manifests of clusters that rename what the device plugin offers, 2026-11.
"""

from __future__ import annotations

import re

from modalflow.translation.gpus.catalogue import GpuSubstitution
from modalflow.translation.gpus.demands import refuse_absent, substitute
from modalflow.translation.gpus.label_tables import LabelMatch, exact
from modalflow.translation.gpus.labels import match_name
from modalflow.translation.report import Place, shown

MAKER = "nvidia.com/"
_AROUND = re.compile(r"gpus?[-_.]|(?:[A-Z]{2}\d{3}[A-Z]{0,2}_)", re.ASCII)
"""What stands before the model: ``gpu-a100``, or the chip as PCI names it, ``TU104GL_Tesla_T4``."""
_OWN = {"rtx6000bw": exact("RTX-PRO-6000")}
"""The National Research Platform's."""


def match_resource(name: str) -> LabelMatch | None:
    """Return what a resource such as ``nvidia.com/a100`` stands for, ``None`` if it is not named after a model."""
    text = name.removeprefix(MAKER)
    shared = text.endswith(".shared")
    text = text.removesuffix(".shared")
    match = _OWN.get(text) or match_name(text) or match_name(_AROUND.sub("", text, count=1))
    if match is None or match.kind not in {"exact", "near", "absent"}:
        return None
    return LabelMatch(kind=match.kind, models=match.models, reason=match.reason, share=match.share or shared)


def report_resource(name: str, match: LabelMatch, place: Place, substitution: GpuSubstitution) -> bool:
    """Say what a resource that is named after a model becomes; ``False`` if it was refused."""
    text = shown(name.removeprefix(MAKER))
    if match.kind == "absent":
        refuse_absent(text, match.reason, place)
        return False
    if match.kind == "near":
        substitute(text, match.models, "" if not match.share else "Modal rents whole GPUs, no parts of them", place, substitution)
        return substitution == "nearest"
    if match.share:
        place.notice("whole-gpu", f"a share of a GPU; Modal rents whole ones: {' or '.join(match.models[:1])}")
    return True
