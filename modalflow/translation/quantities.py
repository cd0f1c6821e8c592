"""Numbers with units: cores, MiB, seconds, and Kubernetes quantities.

Flows in: what a user wrote. Flows out: floats of physical cores, ints of MiB, ints of seconds. Each ``parse_`` function returns
``None`` for text that is no such quantity; each ``read_`` function reports instead, at its place.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from functools import lru_cache

from modalflow.translation.malformed import in_duration, in_quantity, report_malformed
from modalflow.translation.plan import CpuCores, MemoryMib
from modalflow.translation.report import Place, shown

MIB = 1024 * 1024
SECONDS_A_DAY = 86_400
"""Modal's longest sandbox life (modal.com/docs/guide/sandbox, 2026-09)."""
SMALLEST_CPU = 0.125
"""Cores. Modal's smallest reservation and its default (modal.com/docs/guide/resources, 2026-09)."""
VCPUS_A_CORE = 2
"""A Kubernetes cpu is one vCPU, a Modal cpu is a physical core (modal.com/docs/guide/sandbox-resources, 2026-09)."""
LARGEST = 10**18
"""Bound on any number that we convert. An int: comparing a huge int with a Decimal takes minutes, a NaN with one raises."""

LARGEST_QUANTITY = Decimal(1024) ** 7
"""Bound on a quantity in text: beyond the largest suffix, and a number that prints in one line."""

LARGEST_CPU = 10_000
"""Cores: far above any machine, far below what overflows on the wire (milli-cores in 32 bits, modal 1.6.4)."""

LARGEST_MIB = 1024**3
"""MiB (1 PiB): as for cores, of memory (MiB in 32 bits)."""

_LONGEST = 64
"""Characters of any quantity or duration in text."""


_SUFFIXES: dict[str, Decimal] = {
    "": Decimal(1),
    "n": Decimal("1e-9"),
    "u": Decimal("1e-6"),
    "m": Decimal("1e-3"),
    "k": Decimal(10) ** 3,
    "M": Decimal(10) ** 6,
    "G": Decimal(10) ** 9,
    "T": Decimal(10) ** 12,
    "P": Decimal(10) ** 15,
    "E": Decimal(10) ** 18,
    "Ki": Decimal(1024),
    "Mi": Decimal(1024) ** 2,
    "Gi": Decimal(1024) ** 3,
    "Ti": Decimal(1024) ** 4,
    "Pi": Decimal(1024) ** 5,
    "Ei": Decimal(1024) ** 6,
}
_QUANTITY = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+))(?:[eE]([+-]?0*\d{1,3})|([numkMGTPE]|[KMGTPE]i)?)", re.ASCII)
_DURATION = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m(?:in)?)?(?:(\d+)s)?", re.ASCII)


def parse_quantity(value: object) -> Decimal | None:
    """Return a Kubernetes quantity (``500m``, ``1.5Gi``, ``129e6``, 2) as a number, else ``None``."""
    if type(value) is int or type(value) is float:
        return Decimal(str(value)) if -LARGEST < value < LARGEST else None
    if not isinstance(value, str) or len(value) > _LONGEST:
        return None
    return _parse_text(str(value))


@lru_cache(maxsize=1024)  # a deployment writes the same few dozen quantities in all its pods
def _parse_text(text: str) -> Decimal | None:
    match = _QUANTITY.fullmatch(text.strip())
    if match is None:
        return None
    digits, exponent, suffix = match.groups()
    try:
        number = Decimal(digits).scaleb(int(exponent)) if exponent else Decimal(digits) * _SUFFIXES[suffix or ""]
    except InvalidOperation:
        return None
    return number if abs(number) < LARGEST_QUANTITY else None


@lru_cache(maxsize=1024)
def usual_cores(text: str) -> float | None:
    """Return the cores of a pod's cpu that there is nothing to say about; ``None`` for every other, which ``cores`` judges."""
    number = _parse_text(text) if len(text) <= _LONGEST else None
    found = None if number is None else number / VCPUS_A_CORE
    return None if found is None or not SMALLEST_CPU <= found <= LARGEST_CPU else float(found)


@lru_cache(maxsize=1024)
def usual_mib(text: str) -> int | None:
    """Return the MiB of a pod's memory that there is nothing to say about; ``None`` for every other, which ``mib`` judges."""
    number = _parse_text(text) if len(text) <= _LONGEST and not text.strip().endswith(("n", "u", "m")) else None
    return None if number is None or not MIB <= number <= LARGEST_MIB * MIB else math.ceil(number / MIB)


@lru_cache(maxsize=1024)
def parse_duration(text: str) -> int | None:
    """Return the seconds of ``90s``, ``10m``, ``1h30m``, ``1d`` or a bare number, else ``None``."""
    text = text.strip() if len(text) <= _LONGEST else ""
    if text.isascii() and text.isdigit() and len(text) < len(str(LARGEST)):
        return int(text)
    match = _DURATION.fullmatch(text)
    if match is None or not text or len(text) > len(str(LARGEST)):
        return None
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds


def _pair(value: object, place: Place, code: str, read: Callable[[object, Place], object | None]) -> object | None:
    """Read one quantity, or ``[request, limit]`` of two."""
    if not isinstance(value, (list, tuple)):
        return read(value, place)
    if len(value) != 2:  # noqa: PLR2004
        place.error(code, f"expected one value or [request, limit], got a list of {len(value)}")
        return None
    request, limit = (read(part, place.at(index)) for index, part in enumerate(value))
    return None if request is None or limit is None else (request, limit)


def read_cpu(value: object, place: Place) -> CpuCores | None:
    """Read physical cores: a number, text (``"2"``, ``"500m"``) or ``[request, limit]``."""
    found = _pair(value, place, "bad-cpu", _read_cores)
    if isinstance(found, tuple) and isinstance(value, (list, tuple)):
        request, limit = found
        if request == limit == SMALLEST_CPU and is_below(value[1], value[0]):
            place.error(
                "bad-cpu", f"the limit {shown(value[1])} is below the request {shown(value[0])}", "write [request, limit]"
            )
            return None
        return check_cpu_pair(request, limit, place)
    return found if isinstance(found, float) else None


def check_cpu_pair(request: float, limit: float, place: Place) -> tuple[float, float] | None:
    """Return (request, limit) in cores, refusing a limit below the request. Both may have been raised to the smallest."""
    if limit < request:
        place.error("bad-cpu", f"the limit {limit:g} is below the request {request:g}", "write [request, limit]")
        return None
    return request, limit


def is_below(limit: object, request: object) -> bool:
    """Tell whether one quantity, as written, is less than another. What is no quantity is not."""
    less, more = parse_quantity(limit), parse_quantity(request)
    return less is not None and more is not None and less < more


def _read_cores(value: object, place: Place) -> float | None:
    number = parse_quantity(value)
    if number is None:
        report_malformed(place, "bad-cpu", "physical cores such as 2 or 0.5", value, in_quantity)
        return None
    return cores(number, place, value=value)


def cores(number: Decimal, place: Place, *, value: object, unit: str = "") -> float | None:
    """Return ``number`` of cores as Modal takes it: above zero, and at least its smallest reservation.

    ``value`` and ``unit`` are what the user wrote, for the texts.
    """
    if number <= 0:
        place.error("bad-cpu", f"expected more than zero cores, got {shown(value)}{unit}")
        return None
    if number > LARGEST_CPU:
        place.error("bad-cpu", f"no machine has {shown(value)}{unit or ' cores'}")
        return None
    if number < SMALLEST_CPU:
        place.notice("raised-cpu", f"{shown(value)}{unit} is raised to Modal's smallest, {SMALLEST_CPU} cores")
        return SMALLEST_CPU
    return float(number)


def read_memory(value: object, place: Place) -> MemoryMib | None:
    """Read memory: an int of MiB, text with a unit (``"64Gi"``), or ``[request, limit]``."""
    found = _pair(value, place, "bad-memory", _read_mib)
    if isinstance(found, tuple):
        request, limit = found
        return check_memory_pair(request, limit, place)
    return found if isinstance(found, int) else None


def check_memory_pair(request: int, limit: int, place: Place) -> tuple[int, int] | None:
    """Return (request, limit) in MiB, refusing a limit below the request."""
    if limit < request:
        place.error("bad-memory", f"the limit {limit} MiB is below the request {request} MiB", "write [request, limit]")
        return None
    return request, limit


def read_disk(value: object, place: Place) -> int | None:
    """Read disk: an int of MiB, or text with a unit."""
    number = parse_quantity(value) if isinstance(value, str) and not value.strip().isdigit() else None
    if type(value) is int and 0 < value < LARGEST:
        number = Decimal(value) * MIB
    if number is None or not 0 < number <= LARGEST_MIB * MIB:
        report_malformed(place, "bad-disk", 'MiB such as 1048576, or text such as "1Ti"', value, in_quantity)
        return None
    return math.ceil(number / MIB)


def _read_mib(value: object, place: Place) -> int | None:
    if type(value) is int:
        number = Decimal(value) * MIB if -LARGEST < value < LARGEST else None
    else:
        number = parse_quantity(value) if isinstance(value, str) else None
    if number is None:
        report_malformed(place, "bad-memory", 'MiB such as 2048, or text such as "2Gi"', value, in_quantity)
        return None
    if isinstance(value, str) and value.strip().isdigit():
        # A bare number means MiB as a number and bytes in Kubernetes: in text, the reader cannot know which was meant.
        place.error("bad-memory", f"{shown(value)} has no unit", f'write {value.strip()} for MiB, or "{value.strip()}Mi"')
        return None
    return mib(number, place, value=value)


def mib(number: Decimal, place: Place, *, value: object) -> int | None:
    """Return bytes as whole MiB, rounded up, refusing what cannot have been meant."""
    if number <= 0:
        place.error("bad-memory", f"expected more than zero memory, got {shown(value)}")
        return None
    if isinstance(value, str) and value.strip().endswith(("n", "u", "m")):
        digits = value.strip()[:-1]
        place.error("bad-memory", f"{shown(value)} is in fractions of a byte", f'write "{digits}Mi" for MiB')
        return None
    if number < MIB:
        place.error("bad-memory", f"{shown(value)} is less than one MiB", 'write a unit, e.g. "512Mi"')
        return None
    if number > LARGEST_MIB * MIB:
        place.error("bad-memory", f"no machine has {shown(value)} of memory")
        return None
    return math.ceil(number / MIB)


def read_timeout(value: object, place: Place, *, most: str = '"24h"') -> int | None:
    """Read seconds: an int, or text such as ``"6h"``; at most Modal's 24 hours, which ``place`` spells ``most``."""
    seconds = read_seconds(value, place, code="bad-timeout")
    if seconds is None:
        return None
    if seconds > SECONDS_A_DAY:
        place.error(
            "timeout-too-long", f"a sandbox lives at most 24h, got {shown(value)}", f"write {most} or less, or split the task"
        )
        return None
    return seconds


def read_seconds(value: object, place: Place, *, code: str) -> int | None:
    """Read a time above zero, in whole seconds (rounded up)."""
    seconds: int | None = None
    if isinstance(value, str):
        seconds = parse_duration(value)
    elif type(value) in {int, float} and isinstance(value, (int, float)) and -LARGEST < value < LARGEST:
        seconds = math.ceil(value)
    if seconds is None:
        report_malformed(place, code, 'seconds or text such as "6h" or "1h30m"', value, in_duration)
        return None
    if seconds <= 0:
        place.error(code, f"expected more than zero seconds, got {shown(value)}")
        return None
    return seconds
