"""How many GPUs may be in flight at once, in all and of a model, and which launch holds how many.

In flight is what is being created, runs, was taken over from an earlier scheduler, or was last seen to run for another one.
Flows in: the caps, and GPU strings as they are sent to Modal (``H100:2``). Flows out: which of them still fits. Pure; used by
``pools``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

from modalflow.translation.gpus.caps import ALL, GpuCaps, model_of, parse_gpu
from modalflow.translation.tags import safe


def gpu_tag(gpu: str) -> str:
    """What a sandbox's tag says of its GPU, in characters that a tag may have: ``H100.2``."""
    model, count = parse_gpu(gpu)
    return safe(f"{model}.{count}")


def gpu_of_tag(text: str) -> str | None:
    """The GPU string of such a tag, ``None`` for anything else."""
    model, _, number = text.rpartition(".")
    return f"{model}:{number}" if model and number.isascii() and number.isdecimal() else None


class GpuLedger:
    """GPUs in flight by launch, held against the caps."""

    __slots__ = ("_by_launch", "_by_model", "_caps", "_elsewhere", "_elsewhere_by_model", "_total")

    def __init__(self, caps: GpuCaps) -> None:
        """Hold none yet."""
        self._caps = caps
        self._by_launch: dict[str, tuple[str, int]] = {}
        self._by_model: Counter[str] = Counter()
        self._total = 0
        self._elsewhere: dict[str, tuple[str, int]] = {}
        self._elsewhere_by_model: Counter[str] = Counter()

    @property
    def in_flight(self) -> Mapping[str, int]:
        """Number held by model, models that have none left out."""
        return {model: count for model, count in sorted(self._by_model.items()) if count}

    @property
    def total(self) -> int:
        """Number held of all models."""
        return self._total

    def hold(self, launch_id: str, gpu: str) -> None:
        """Count ``gpu`` as held by the launch, in place of what it held."""
        self.release(launch_id)
        model, count = parse_gpu(gpu)
        self._by_launch[launch_id] = (model, count)
        self._by_model[model] += count
        self._total += count

    def release(self, launch_id: str) -> bool:
        """Count what the launch held as free; whether it held anything."""
        elsewhere = self._elsewhere.pop(launch_id, None)
        if elsewhere is not None:
            self._elsewhere_by_model[elsewhere[0]] -= elsewhere[1]
        held = self._by_launch.pop(launch_id, None)
        if held is None:
            return False
        self._by_model[held[0]] -= held[1]
        self._total -= held[1]
        return True

    def see_elsewhere(self, gpus: Mapping[str, str]) -> None:
        """Count these, launch id to GPU, as held by other schedulers, in place of those seen before."""
        self._elsewhere = {launch_id: parse_gpu(gpu) for launch_id, gpu in gpus.items() if launch_id not in self._by_launch}
        self._elsewhere_by_model = Counter()
        for model, count in self._elsewhere.values():
            self._elsewhere_by_model[model] += count

    def hand_on(self, launch_id: str, name: str) -> bool:
        """Count what the launch held as held by ``name``; whether it held anything."""
        held = self._by_launch.pop(launch_id, None)
        if held is not None:
            self._by_launch[name] = held
        return held is not None

    def could_ever(self, gpu: str) -> bool:
        """Whether the request fits where nobody holds any."""
        model, count = parse_gpu(gpu)
        return count <= min(self._limits(model), default=count)

    def lacks(self, gpu: str) -> Iterator[str]:
        """What the request is short of now: its model, ``ALL``, both or nothing."""
        model, count = parse_gpu(gpu)
        if model in self._caps.models and self._of(model) + count > self._caps.models[model]:
            yield model
        if self._caps.total is not None and self._of_all + count > self._caps.total:
            yield ALL

    def why(self, gpu: str) -> str:
        """What the request waits for, for a sentence; empty if it fits."""
        lacking = next(self.lacks(gpu), None)
        if lacking is None:
            return ""
        if lacking == ALL:
            return f"{self._of_all} of {self._caps.total} GPUs are in flight ([modal_executor] max_gpus)"
        return f"{self._of(lacking)} of {self._caps.models[lacking]} {lacking} are in flight ([modal_executor] max_gpus)"

    def refusal(self, gpus: tuple[str, ...]) -> str:
        """Why none of these can ever be had: each is more than a cap."""
        told = ", ".join(f"{gpu} (at most {min(self._limits(model_of(gpu)))})" for gpu in gpus)
        return f"the task asks for more GPUs than [modal_executor] max_gpus allows: {told}; ask for fewer, or raise max_gpus"

    def _of(self, model: str) -> int:
        return self._by_model[model] + self._elsewhere_by_model[model]

    @property
    def _of_all(self) -> int:
        return self._total + self._elsewhere_by_model.total()

    def _limits(self, model: str) -> list[int]:
        of_model = self._caps.models.get(model)
        return [limit for limit in (of_model, self._caps.total) if limit is not None]
