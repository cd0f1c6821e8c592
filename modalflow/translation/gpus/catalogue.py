"""GPU models that Modal has, as data.

Flows out: ``CATALOGUE``, ``GpuChoice`` (whose ``text`` is what Modal is sent), and the checks of counts. ``gpus.labels`` maps the
clouds' names onto the catalogue, ``gpus.requests`` reads the ``gpu`` key.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from modalflow.translation.report import Place

PRICES_OF = "2026-10"
"""Month of the prices in the catalogue (public list prices; the rest of the bill, CPU and memory, is not in them)."""

Family = Literal["turing", "ampere", "ada-lovelace", "hopper", "blackwell"]


@dataclass(frozen=True, kw_only=True, slots=True)
class GpuModel:
    """One model: memory in GiB of one GPU, price in USD an hour of one GPU, most GPUs of one sandbox.

    ``compute`` is CUDA's compute capability. ``mib`` are the least and most MiB that node labels give for the card (nominal size,
    or what the driver reports). ``spellings`` are further names that Modal accepts and that we send as written; ``aliases`` are
    other tools' names, for which we send ``name``. ``exact`` is False for names that let Modal choose between models;
    constraints never pick those. ``becomes`` are the models that Modal may give for the name, at its own choice and the same
    price (modal.com/docs/guide/gpu, 2026-10).
    """

    name: str
    memory: int
    mib: tuple[int, int]
    price: float
    family: Family
    compute: tuple[int, int]
    most: int = 8
    spellings: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    exact: bool = True
    becomes: tuple[str, ...] = ()

    @property
    def capability(self) -> str:
        """Compute capability as NVIDIA writes it: ``8.9``."""
        return f"{self.compute[0]}.{self.compute[1]}"


def _hourly(usd_a_second: float) -> float:
    return round(usd_a_second * 3600, 2)


_GB40 = (40326, 40960)
_GB80 = (80994, 81920)
_B200 = (182642, 196608)

CATALOGUE: tuple[GpuModel, ...] = (
    GpuModel(name="T4", memory=16, mib=(15109, 16384), price=_hourly(0.000164), family="turing", compute=(7, 5)),
    GpuModel(name="L4", memory=24, mib=(22888, 24576), price=_hourly(0.000222), family="ada-lovelace", compute=(8, 9)),
    GpuModel(
        name="A10",
        memory=24,
        mib=(22502, 24576),
        price=_hourly(0.000306),
        family="ampere",
        compute=(8, 6),
        most=4,
        spellings=("A10G",),
    ),
    GpuModel(name="L40S", memory=48, mib=(45776, 49152), price=_hourly(0.000542), family="ada-lovelace", compute=(8, 9)),
    GpuModel(
        name="A100",
        memory=40,
        mib=_GB40,
        price=_hourly(0.000583),
        family="ampere",
        compute=(8, 0),
        exact=False,
        becomes=("A100-40GB", "A100-80GB"),
    ),
    GpuModel(
        name="A100-40GB",
        memory=40,
        mib=_GB40,
        price=_hourly(0.000583),
        family="ampere",
        compute=(8, 0),
        aliases=("A100-40G",),
    ),
    GpuModel(
        name="A100-80GB",
        memory=80,
        mib=_GB80,
        price=_hourly(0.000694),
        family="ampere",
        compute=(8, 0),
        aliases=("A100-80G",),
    ),
    GpuModel(name="RTX-PRO-6000", memory=96, mib=(97251, 98304), price=_hourly(0.000842), family="blackwell", compute=(12, 0)),
    GpuModel(
        name="H100",
        memory=80,
        mib=_GB80,
        price=_hourly(0.001097),
        family="hopper",
        compute=(9, 0),
        aliases=("H100-80GB",),
        becomes=("H200",),
    ),
    GpuModel(
        name="H100!",
        memory=80,
        mib=_GB80,
        price=_hourly(0.001097),
        family="hopper",
        compute=(9, 0),
        exact=False,
        becomes=("H100",),
    ),
    GpuModel(name="H200", memory=141, mib=(143155, 144384), price=_hourly(0.001261), family="hopper", compute=(9, 0)),
    GpuModel(name="B200", memory=192, mib=_B200, price=_hourly(0.001736), family="blackwell", compute=(10, 0)),
    GpuModel(
        name="B200+",
        memory=192,
        mib=_B200,
        price=_hourly(0.001736),
        family="blackwell",
        compute=(10, 0),
        exact=False,
        becomes=("B200",),
    ),
)
"""modal.com/docs/guide/gpu, 2026-10: names, memory, most GPUs; prices as ``PRICES_OF``. Compute capabilities:
developer.nvidia.com/cuda-gpus, 2026-09. MiB: Karpenter's instance types and gpu-feature-discovery, 2026-09 (partly recalled)."""

BY_NAME: dict[str, GpuModel] = {
    spelling.upper(): model for model in CATALOGUE for spelling in (model.name, *model.spellings, *model.aliases)
}
SENT_AS_WRITTEN = frozenset(spelling for model in CATALOGUE for spelling in (model.name, *model.spellings))

PINNED = "H100!"
"""The H100 that Modal does not turn into an H200."""

GpuSubstitution = Literal["never", "nearest"]


@dataclass(frozen=True, kw_only=True, slots=True)
class GpuChoice:
    """One candidate: how the model is spelled to Modal, and how many of it.

    ``stands_for`` is the name of other hardware, as the user wrote it, that this model is nearest to. ``regions`` are where this
    candidate may run, if it has regions of its own.
    """

    name: str
    count: int
    stands_for: str = ""
    regions: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """Modal's form: ``A10G``, ``H100:2``."""
        return self.name if self.count == 1 else f"{self.name}:{self.count}"

    @property
    def price(self) -> float:
        """USD an hour of all of its GPUs."""
        return model_of(self.name).price * self.count


GpuRequest = tuple[GpuChoice, ...]
"""Candidates in order of preference; empty means "no GPU"."""


def model_of(name: str) -> GpuModel:
    """Return the model of a name that was checked before."""
    return BY_NAME[name.upper()]


def by_price(models: Iterable[GpuModel]) -> list[GpuModel]:
    """Return ``models`` cheapest first, and those that Modal cannot exchange before those it can."""
    return sorted(models, key=lambda m: (m.price, not m.exact))


def priced(names: Iterable[str]) -> str:
    """Return ``T4 ($0.59/h), L4 (…)`` in the order given."""
    return ", ".join(f"{name} (${model_of(name).price:.2f}/h)" for name in names)


def price_list() -> str:
    """Return ``T4 ($0.59/h), L4 (…)``: the exact models, cheapest first."""
    return priced(m.name for m in by_price(CATALOGUE) if m.exact)


def smallest_with(memory: int, *, compute: tuple[int, int] = (0, 0)) -> tuple[str, ...]:
    """Return the smallest whole GPUs of at least ``memory`` GiB and that compute capability, cheapest first."""
    fits = [m for m in by_price(CATALOGUE) if m.exact and m.memory >= memory and m.compute >= compute]
    least = min((m.memory for m in fits), default=0)
    return tuple(m.name for m in fits if m.memory == least)


def without_doubles(choices: Iterable[GpuChoice]) -> GpuRequest:
    """Drop a candidate that is an earlier one under another name: A10 and A10G are the same stock."""
    kept: dict[tuple[str, int], GpuChoice] = {}
    for choice in choices:
        kept.setdefault((model_of(choice.name).name, choice.count), choice)
    return tuple(kept.values())


def check_count(count: int, model: GpuModel, place: Place, *, name: str, got: str, written: str = '"{}"') -> int | None:
    """Return ``count`` if one sandbox can have that many of ``model``, else report with what could be written.

    ``written`` is how a GPU is spelled at ``place``, with ``{}`` for the GPU itself.
    """
    if count < 1:
        place.error("bad-gpu-count", f"expected 1 to {model.most} GPUs, got {got}", f'write "{name}", or [] for no GPU')
        return None
    if count > model.most:
        larger = _larger_alternative(model, count)
        gpu = f"{larger.name}:{count}" if larger else f"{name}:{model.most}"
        hint = f"write {written.replace('{}', gpu)}" + ("" if larger else " or less")
        place.error("bad-gpu-count", f"a sandbox has at most {model.most} {model.name} GPUs, got {got}", hint)
        return None
    return count


def _larger_alternative(model: GpuModel, count: int) -> GpuModel | None:
    """Return the cheapest model that is no step down and comes in this number."""
    fits = [m for m in CATALOGUE if m.exact and m.most >= count and m.price > model.price and m.memory >= model.memory]
    return min(fits, key=lambda m: m.price, default=None)
