"""Rounds what ``with_options`` gets, so that tasks which ask for nearly the same share warm containers.

Modal keeps a pool of containers for each set of options (docstring of ``modal.Function.with_options``, 1.6.4), and a pool starts
cold. Flows in: what a task asked for. Flows out: the class that it falls into, never less than asked.
"""

from __future__ import annotations

from bisect import bisect_left

from modalflow.translation.plan import CpuCores, MemoryMib

CPU_CLASSES = (0.125, 0.25, 0.5, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0, 24.0, 32.0, 48.0, 64.0)
"""Physical cores."""
MEMORY_CLASSES = (
    128, 256, 512, 768, 1024, 1536, 2048, 3072, 4096, 6144, 8192, 12288, 16384, 24576, 32768, 49152, 65536, 98304, 131072, 196608,
    262144, 344064,
)  # fmt: skip
"""MiB; the last is Modal's largest, 336 GiB (modal.com/docs/guide/resources, 2026-09)."""
TIMEOUT_CLASSES = (3_600, 21_600, 86_400)
"""Seconds: an hour, six, a day. The Runner ends the task at its own timeout; this is only what Modal enforces."""


def cpu_class(cpu: CpuCores | None) -> CpuCores | None:
    """Return the cores of the pool; beyond the largest class, what was asked."""
    if isinstance(cpu, tuple):
        return _up(cpu[0], CPU_CLASSES), _up(cpu[1], CPU_CLASSES)
    return None if cpu is None else _up(cpu, CPU_CLASSES)


def memory_class(memory: MemoryMib | None) -> MemoryMib | None:
    """Return the MiB of the pool."""
    if isinstance(memory, tuple):
        return int(_up(memory[0], MEMORY_CLASSES)), int(_up(memory[1], MEMORY_CLASSES))
    return None if memory is None else int(_up(memory, MEMORY_CLASSES))


def timeout_class(seconds: int) -> int:
    """Return the seconds after which Modal ends a call of the pool."""
    return int(_up(seconds, TIMEOUT_CLASSES))


def _up(value: float, classes: tuple[float, ...]) -> float:
    at = bisect_left(classes, value)
    return classes[at] if at < len(classes) else value
