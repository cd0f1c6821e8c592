"""A launch plan in words: the line that a task's log opens with, and the values that ``airflow modal explain`` shows.

In: ``Translation``. Out: text. Pure.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from modalflow.translation.functions.plan import candidates_in_words
from modalflow.translation.plan import CpuCores, ImagePlan, MemoryMib
from modalflow.translation.result import Translation

UNSET = "Modal's default"
OURS = "built-in defaults"


HEADLINE = {"gpu_candidates": "gpu", "cpu": "cpu", "memory": "memory", "image": "image", "timeout": "timeout", "region": "region"}
"""Plan fields that a summary names, with the names that users write."""


def summary(translation: Translation) -> str:
    """One line: what Modal was asked for, and who decided each part; empty for a refused task. Holds no environment."""
    plan = translation.plan
    if plan is None:
        return ""
    parts = (
        ("gpu_candidates", f"GPU {gpu_text(candidates_in_words(plan))}", UNSET),
        ("cpu", cpu_text(plan.cpu), UNSET),
        ("memory", memory_text(plan.memory), UNSET),
        ("image", f"image {image_text(plan.image)}", OURS),
        ("timeout", f"timeout {plan.timeout} s", OURS),
    )
    told = "; ".join(f"{text} ({decided_by(translation, field, without)})" for field, text, without in parts)
    return f"Modal was asked for a {plan.backend}: {told}"


def deciding_layers(translation: Translation) -> str:
    """Which layer decided which headline field: ``executor_config["modal"]: gpu; [modal_executor]: memory, timeout``."""
    fields: dict[str, list[str]] = defaultdict(list)
    for field, name in HEADLINE.items():
        if (origin := translation.origins.get(field)) is not None:
            fields[origin.layer].append(name)
    return "; ".join(f"{layer}: {', '.join(names)}" for layer, names in fields.items())


def decided_by(translation: Translation, field: str, without: str) -> str:
    """Who set a field of the plan, and who its number if that is somebody else; ``without`` if nobody did."""
    origin = translation.origins.get(field)
    if origin is None:
        return without
    count = translation.origins.get(f"{field}.count")
    return f"{origin}, count: {count}" if count else str(origin)


def gpu_text(candidates: Sequence[str]) -> str:
    """``H100, then A100-80GB``; ``none`` on CPU."""
    return ", then ".join(candidates) or "none"


def image_text(image: ImagePlan) -> str:
    """The reference, or what modalflow's own image is made of."""
    if image.name:
        return f"{image.name} ({_made_of(image)})"
    return image.reference or _made_of(image)


def _made_of(image: ImagePlan) -> str:
    base = image.reference or image.dockerfile or f"debian_slim, Python {image.python_version}"
    if not image.has_base_of_its_own:
        base += f", {len(image.packages)} Airflow distributions of the scheduler"
    parts = (
        (len(image.packages) if image.has_base_of_its_own else 0, "Airflow distributions of the scheduler"),
        (len(image.requirements), "requirements"),
        (len(image.apt_packages), "Debian packages"),
    )
    return ", ".join([base, *(f"{count} {what}" for count, what in parts if count)])


def cpu_text(cpu: CpuCores | None) -> str:
    """Cores, and vCPUs for those who count in them. Modal's default is 0.125 cores (modal.com/docs/guide/resources, 2026-07)."""
    if cpu is None:
        return "0.125 cores"
    if not isinstance(cpu, tuple):
        return f"{cpu:g} cores ({cpu * 2:g} vCPU)"
    return f"{cpu[0]:g} to {cpu[1]:g} cores" if cpu[0] != cpu[1] else f"{cpu[0]:g} cores, no more"


def memory_text(memory: MemoryMib | None) -> str:
    """MiB. Modal's default request is 128 MiB (same page)."""
    if memory is None:
        return "128 MiB"
    if not isinstance(memory, tuple):
        return f"{memory} MiB"
    return f"{memory[0]} to {memory[1]} MiB" if memory[0] != memory[1] else f"{memory[0]} MiB, no more"
