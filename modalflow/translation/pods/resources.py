"""A pod's resource requests and limits as Modal cores, MiB and a number of GPUs.

Flows in: the ``resources`` of the main container and of the pod. Flows out: ``Setting``s and the GPU count. Only a limit of
``nvidia.com/gpu`` allocates a GPU; labels merely choose nodes.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import ROUND_CEILING, Decimal
from typing import Literal, TypeVar

from modalflow.translation.diagnostics import Diagnostic, did_you_mean
from modalflow.translation.gpus.catalogue import GpuSubstitution
from modalflow.translation.gpus.demands import substitute
from modalflow.translation.gpus.label_tables import slice_of
from modalflow.translation.gpus.resources import MAKER, match_resource, report_resource
from modalflow.translation.malformed import in_quantity, report_malformed
from modalflow.translation.merge import Setting
from modalflow.translation.pods.claims import Claims
from modalflow.translation.pods.devices import report_device
from modalflow.translation.pods.merge import Piece
from modalflow.translation.quantities import (
    SMALLEST_CPU,
    VCPUS_A_CORE,
    check_cpu_pair,
    check_memory_pair,
    cores,
    is_below,
    mib,
    parse_quantity,
    usual_cores,
    usual_mib,
)
from modalflow.translation.report import Place, kind_of, shown

GPU = "nvidia.com/gpu"
SHARED_GPU = "nvidia.com/gpu.shared"
SLICE = "nvidia.com/mig-"
LARGEST_DISK = Decimal(512) * 1024**3
"""Bytes. A sandbox's disk without asking (modal.com/docs/guide/resources, 2026-09)."""

T = TypeVar("T", int, float)

_SIDES: tuple[Literal["limits", "requests"], ...] = ("limits", "requests")


class Resources:
    """Collects quantities; a container's stand above the pod's own."""

    def __init__(self, findings: list[Diagnostic], claims: Claims, substitution: GpuSubstitution = "never") -> None:
        self.refused = False
        self.in_memory: list[tuple[Decimal, Place]] = []
        """Bytes that volumes in memory may take, each with the place that says so."""
        self._claims = claims
        self._findings = findings
        self._substitution = substitution
        self._slice: tuple[str, ...] = ()
        self._named: tuple[str, ...] = ()
        self._found: dict[str, dict[str, Piece]] = {"limits": {}, "requests": {}}
        self._gpu_names: list[str] = []
        self._others: list[tuple[str, str]] = []
        self._gpu: tuple[int, Piece] | None = None

    def read(self, piece: Piece) -> None:
        """Read one ``resources`` value; of two, the container's (whose path is longer) wins quantity by quantity."""
        if not isinstance(piece.value, dict):
            self._place(piece).error("bad-pod", f"expected a mapping, got {kind_of(piece.value)}")
            return
        for side, content in piece.value.items():
            part = piece.part(content, side)
            if side == "claims":
                self._claims.read_used(part)
            elif side not in _SIDES:
                hint = did_you_mean(side, (*_SIDES, "claims")) if isinstance(side, str) else ""
                self._place(part).error("unknown-field", "Kubernetes has no such field", hint)
            elif not isinstance(content, dict):
                self._place(part).error("bad-pod", f"expected a mapping, got {kind_of(content)}")
            else:
                for name, value in content.items():
                    self._take(side, name, part.part(value, name))

    def _place(self, piece: Piece) -> Place:
        return piece.place(self._findings)

    def _take(self, side: str, name: str, piece: Piece) -> None:
        known = self._found[side].get(name)
        if known is None:
            self._found[side][name] = piece
            if name != "cpu" and name != "memory":  # noqa: PLR1714 (the quicker form)
                if not _is_gpu(name):
                    self._others.append((side, name))
                elif name not in self._gpu_names:
                    self._gpu_names.append(name)
            return
        weak, strong = sorted((known, piece), key=lambda p: len(p.path))
        self._found[side][name] = strong
        self._place(weak).notice("overruled-resource", f"the container's own {name} holds")

    def settings(self) -> list[Setting]:
        """Return ``cpu`` and ``memory``, and report every other resource."""
        found = [
            self._both("cpu", self._cores, check_cpu_pair),
            self._both("memory", self._mib, check_memory_pair),
        ]
        for size, place in self.in_memory:
            found[1] = _with_volume(found[1], size, place)
        self._count_gpus()
        if self._others:
            found += [self._other(name, self._found[s][name]) for s in _SIDES for side, name in self._others if side == s]
        return [setting for setting in found if setting is not None]

    def gpu_count(self) -> tuple[int, Piece] | None:
        """Return the GPUs asked for and where, ``None`` if nothing was said. Valid after ``settings``."""
        return self._gpu

    def slice(self) -> tuple[str, ...]:
        """Return the whole GPUs that stand for a slice, empty if none was asked for. Valid after ``settings``."""
        return self._slice

    def named(self) -> tuple[str, ...]:
        """Return the models that the GPU's resource is named after, empty if it is named after none. Valid after ``settings``."""
        return self._named

    def _both(
        self, name: str, convert: Callable[[Piece], T | None], check: Callable[[T, T, Place], tuple[T, T] | None]
    ) -> Setting | None:
        """Combine request and limit: a limit alone is its own request, as in Kubernetes; a request alone has no limit."""
        limit, request = self._found["limits"].get(name), self._found["requests"].get(name)
        piece = request or limit
        if piece is None:
            return None
        most = convert(limit) if limit is not None else None
        least = convert(request) if request is not None else most
        if least is None or (limit is not None and most is None):
            return None
        if (
            most is not None
            and most <= least
            and request is not None
            and limit is not None
            and is_below(limit.value, request.value)
        ):
            # Compared as written: rounded up, both may be the same.
            message = f"the limit {shown(limit.value)} is below the request {shown(request.value)}"
            self._place(limit).error(
                "bad-cpu" if name == "cpu" else "bad-memory", message, "write a limit of at least the request"
            )
            return None
        value = least if most is None else check(least, most, self._place(piece))
        return None if value is None else Setting(key=name, value=value, place=self._place(piece), rank=piece.rank)

    def _quantity(self, piece: Piece, example: str) -> Decimal | None:
        number = parse_quantity(piece.value)
        if number is None:
            report_malformed(self._place(piece), "bad-quantity", f'a quantity such as "{example}"', piece.value, in_quantity)
        return number

    def _cores(self, piece: Piece) -> float | None:
        if type(piece.value) is str and (usual := usual_cores(piece.value)) is not None:
            return usual
        number = self._quantity(piece, "500m")
        if number == 0 and piece.path[-2] == "requests":  # Kubernetes takes it for "no matter how little"
            self._place(piece).notice(
                "raised-cpu", f"{shown(piece.value)} vCPU is raised to Modal's smallest, {SMALLEST_CPU} cores"
            )
            return SMALLEST_CPU
        return None if number is None else cores(number / VCPUS_A_CORE, self._place(piece), value=piece.value, unit=" vCPU")

    def _mib(self, piece: Piece) -> int | None:
        if type(piece.value) is str and (usual := usual_mib(piece.value)) is not None:
            return usual
        number = self._quantity(piece, "2Gi")
        return None if number is None else mib(number, self._place(piece), value=piece.value)

    def _count_gpus(self) -> None:
        for name in self._gpu_names:
            counted = self._count(name)
            if counted is None:
                continue
            if self._gpu is not None and counted[0] and self._gpu[0]:
                origin = self._place(self._gpu[1]).origin
                self._place(counted[1]).error("gpu-conflict", f"asks for GPUs beside {origin}", "keep one of them")
            elif self._gpu is None or counted[0]:
                self._gpu = counted

    def _count(self, name: str) -> tuple[int, Piece] | None:
        """Return the number of GPUs, shares or slices of that name, and where; request and limit must agree."""
        limit, request = self._found["limits"].get(name), self._found["requests"].get(name)
        if limit is None:
            if request is not None:
                self._place(request).error(
                    "gpu-request-alone", "only a limit gives a task a GPU", f'write it as limits["{name}"]'
                )
            return None
        number = self._quantity(limit, "1")
        asked = self._quantity(request, "1") if request is not None else number
        if number is None or asked is None:
            return None
        if number < 0 or number != int(number):
            self._place(limit).error("bad-gpu-count", f"expected a whole number of GPUs, got {shown(limit.value)}")
            return None
        if request is not None and asked != number:
            message = f"the request {shown(request.value)} differs from the limit {shown(limit.value)}"
            self._place(request).error("bad-gpu-count", message, "write the limit alone")
            return None
        if number and not self._is_whole(name, int(number), self._place(limit)):
            self.refused = True
            return None
        return int(number), limit

    def _is_whole(self, name: str, number: int, place: Place) -> bool:
        """Say what a share or a slice becomes; ``False`` if it was refused."""
        if name == SHARED_GPU:
            if number > 1:
                return _refuse_shares(number, place)
            place.notice("whole-gpu", "a share of a GPU; Modal rents whole ones")
        elif name.startswith(SLICE):
            return self._read_slice(name.removeprefix(SLICE), place)
        elif name != GPU and (match := match_resource(name)) is not None:
            if number > 1 and match.share:
                return _refuse_shares(number, place)
            self._named = match.models
            return report_resource(name, match, place, self._substitution)
        return True

    def _read_slice(self, profile: str, place: Place) -> bool:
        match = slice_of(profile)
        if match is None or not match.models:
            place.error("unknown-gpu", f"no GPU is known for the slice {shown(profile)}", 'write {"modal": {"gpu": MODEL}}')
            return False
        self._slice = match.models
        if match.kind == "near":
            reason = "Modal rents whole GPUs, no parts of them"
            substitute(f"slice {profile}", match.models, reason, place, self._substitution)
            return self._substitution == "nearest"
        place.notice("whole-gpu", f"the slice {profile} is a whole GPU")
        return True

    def _other(self, name: object, piece: Piece) -> Setting | None:
        """Report a resource; disk beyond what every container has is for ``lower`` to judge."""
        place = self._place(piece)
        if name == "ephemeral-storage":
            number = self._quantity(piece, "10Gi")
            if number is not None and number > LARGEST_DISK:
                found = mib(number, place, value=piece.value)
                return None if found is None else Setting(key="disk", value=found, place=place, rank=piece.rank)
            if number is not None:
                place.notice("no-effect", "has no effect: a sandbox's disk has 512 GiB")
            return None
        if parse_quantity(piece.value) == 0:
            place.notice("no-effect", "has no effect: none is asked for")
        elif report_device(name, place):
            self.refused = True
        return None


def _with_volume(memory: Setting | None, size: Decimal, place: Place) -> Setting | None:
    """Ask for as much memory more as a volume in memory may take, within the limit that the pod has."""
    if memory is None:
        place.notice("no-effect", "has no effect: the pod requests no memory, and a sandbox may use more than it asks for")
        return None
    request, limit = memory.value if isinstance(memory.value, tuple) else (memory.value, None)
    more = request + int((size / 1024**2).to_integral_value(ROUND_CEILING))
    if limit is None or more < limit:
        place.notice("memory-volume", f"is added to the memory that is asked for: {more} MiB")
    elif request == limit:
        place.notice("no-effect", "has no effect: the request is the limit of memory, which counts the volume too")
    else:
        place.notice("memory-volume", f"is added to the memory that is asked for, up to the limit: {limit} MiB")
    return memory._replace(value=more if limit is None else (min(more, limit), limit))


def _refuse_shares(number: int, place: Place) -> bool:
    message = f"{number} shares of GPUs are not that many GPUs; Modal rents whole ones"
    place.error("gpu-not-on-modal", message, f'write limits["{GPU}"], or {{"modal": {{"gpu": MODEL}}}}')
    return False


def _is_gpu(name: object) -> bool:
    return isinstance(name, str) and (
        name in {GPU, SHARED_GPU} or name.startswith(SLICE) or (name.startswith(MAKER) and match_resource(name) is not None)
    )
