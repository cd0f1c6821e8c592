"""What ``[modal_executor] max_gpus`` says, and under which model a GPU string is counted there.

Flows in: the option's text, GPU strings as they are sent to Modal. Flows out: ``GpuCaps``, which ``launch.gpu_ledger`` keeps.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from modalflow.translation.gpus.catalogue import BY_NAME

ALL = "*"
"""Stands for all models together."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GpuCaps:
    """Most GPUs at once: ``total`` of all models, ``models`` by model; absent means no cap."""

    total: int | None = None
    models: Mapping[str, int] = field(default_factory=dict, hash=False)  # settings are the key of what is kept for a process

    @property
    def any(self) -> bool:
        """Whether there is a cap at all."""
        return self.total is not None or bool(self.models)


def model_of(gpu: str) -> str:
    """The model that a GPU string counts as: ``A10G:2`` is ``A10``, ``H100!`` is ``H100``; an unknown one is its own model."""
    name = gpu.partition(":")[0].strip().upper()
    found = BY_NAME.get(name)
    if found is None:
        return name
    return found.name if found.exact or len(found.becomes) != 1 else found.becomes[0]


def parse_gpu(gpu: str) -> tuple[str, int]:
    """Model and number of a GPU string that was sent to Modal: ``H100:2``."""
    _, _, number = gpu.partition(":")
    return model_of(gpu), int(number) if number.isdecimal() else 1


def read_gpu_caps(raw: str) -> GpuCaps:
    """Read ``16`` or ``{"*": 16, "H100": 8}``. Raises ``ValueError`` for anything else, unknown models included."""
    value = json.loads(raw)
    entries = value if isinstance(value, dict) else {ALL: value}
    models: dict[str, int] = {}
    for name, count in entries.items():
        if isinstance(count, bool) or not isinstance(count, int) or count < 0:
            raise ValueError(f"{name}: {count!r}")
        if name != ALL and name.upper() not in BY_NAME:
            raise ValueError(f"no GPU model of Modal: {name}")
        models[name if name == ALL else model_of(name)] = count
    return GpuCaps(total=models.pop(ALL, None), models=models)
