"""One sentence about a translation: what Modal is asked for, and which layers decided it.

Flows in: ``Translation``. Flows out: the first line of the task's log, and the "decided by" column of the demo.
"""

from __future__ import annotations

from collections import defaultdict

from modalflow.translation.plan import CpuCores, ImagePlan, MemoryMib, SandboxPlan
from modalflow.translation.result import Translation

HEADLINE = {"gpu_candidates": "gpu", "cpu": "cpu", "memory": "memory", "image": "image", "timeout": "timeout", "region": "region"}
"""Plan fields that a summary names, with the names that users write."""

SECONDS_PER_HOUR = 3600


def describe_cpu(cpu: CpuCores | None) -> str:
    """Physical cores in words; Modal's own default is 0.125 (Modal's resources guide, October 2026)."""
    if cpu is None:
        return "0.125 cores"
    return f"{cpu[0]:g} to {cpu[1]:g} cores" if isinstance(cpu, tuple) else f"{cpu:g} cores"


def describe_memory(memory: MemoryMib | None) -> str:
    """Memory in MiB in words; Modal's own default is 128 MiB (Modal's resources guide, October 2026)."""
    if memory is None:
        return "128 MiB"
    return f"{memory[0]} to {memory[1]} MiB" if isinstance(memory, tuple) else f"{memory} MiB"


def describe_image(image: ImagePlan) -> str:
    """The reference, or what ``auto`` stands for."""
    if image.reference is not None:
        return image.reference
    return f"auto (debian_slim, Python {image.python_version}, {len(image.packages)} Airflow distributions of the scheduler)"


def describe_plan(plan: SandboxPlan) -> str:
    """What Modal is asked for, in Modal's units."""
    gpu = f"GPU {', then '.join(plan.gpu_candidates)}" if plan.gpu_candidates else "no GPU"
    region = f", region {' or '.join(plan.region)}" if plan.region else ""
    return (
        f"{plan.backend}, {gpu}, {describe_cpu(plan.cpu)}, {describe_memory(plan.memory)}, image {describe_image(plan.image)}, "
        f"timeout {plan.timeout / SECONDS_PER_HOUR:g} h{region}"
    )


def deciding_layers(translation: Translation) -> str:
    """Which layer decided which headline field: ``executor_config["modal"]: gpu; [modal_executor]: memory, timeout``."""
    fields: dict[str, list[str]] = defaultdict(list)
    for field, name in HEADLINE.items():
        if (origin := translation.origins.get(field)) is not None:
            fields[origin.layer].append(name)
    return "; ".join(f"{layer}: {', '.join(names)}" for layer, names in fields.items())


def summarise(translation: Translation) -> str:
    """The sentence; empty for a refused task, whose errors speak for themselves."""
    if translation.plan is None:
        return ""
    return f"Modal was asked for: {describe_plan(translation.plan)}; decided by {deciding_layers(translation)}"
