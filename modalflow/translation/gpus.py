"""GPU models that Modal has, as data, and the ways a task can ask for them.

Flows in: the ``gpu`` key (a name, a list of fallbacks, a constraint) or a count with a set of acceptable models. Flows out:
``GpuChoice`` tuples, whose ``text`` is what Modal is sent. ``gpu_labels`` maps the clouds' names onto this catalogue.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from modalflow.translation.diagnostics import LONGEST_TYPO, did_you_mean
from modalflow.translation.report import Place, kind_of, shown

PRICES_OF = "2026-10"
"""Month of the prices in the catalogue (public list prices; the rest of the bill, CPU and memory, is not in them)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GpuModel:
    """One model: memory in GiB of one GPU, price in USD an hour of one GPU, most GPUs of one sandbox.

    ``spellings`` are further names that Modal accepts and that we send as written; ``aliases`` are other tools' names, for which
    we send ``name``. ``exact`` is False for names that let Modal choose between models; constraints never pick those.
    """

    name: str
    memory: int
    price: float
    most: int = 8
    spellings: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    exact: bool = True


def _hourly(usd_a_second: float) -> float:
    return round(usd_a_second * 3600, 2)


CATALOGUE: tuple[GpuModel, ...] = (
    GpuModel(name="T4", memory=16, price=_hourly(0.000164), aliases=("TESLA-T4",)),
    GpuModel(name="L4", memory=24, price=_hourly(0.000222)),
    GpuModel(name="A10", memory=24, price=_hourly(0.000306), most=4, spellings=("A10G",)),
    GpuModel(name="L40S", memory=48, price=_hourly(0.000542)),
    GpuModel(name="A100", memory=40, price=_hourly(0.000583), exact=False),
    GpuModel(name="A100-40GB", memory=40, price=_hourly(0.000583), aliases=("A100-40G",)),
    GpuModel(name="A100-80GB", memory=80, price=_hourly(0.000694), aliases=("A100-80G",)),
    GpuModel(name="RTX-PRO-6000", memory=96, price=_hourly(0.000842)),
    GpuModel(name="H100", memory=80, price=_hourly(0.001097), aliases=("H100-80GB",)),
    GpuModel(name="H100!", memory=80, price=_hourly(0.001097), exact=False),
    GpuModel(name="H200", memory=141, price=_hourly(0.001261)),
    GpuModel(name="B200", memory=192, price=_hourly(0.001736)),
    GpuModel(name="B200+", memory=192, price=_hourly(0.001736), exact=False),
)
"""modal.com/docs/guide/gpu, 2026-10: names, memory, most GPUs; prices as ``PRICES_OF``."""

BY_NAME: dict[str, GpuModel] = {
    spelling.upper(): model for model in CATALOGUE for spelling in (model.name, *model.spellings, *model.aliases)
}
_SENT_AS_WRITTEN = {spelling for model in CATALOGUE for spelling in (model.name, *model.spellings)}
_SUGGESTED = tuple(spelling for model in CATALOGUE for spelling in (model.name, *model.spellings))
_REQUEST = re.compile(r"\s*([^:\s]*)\s*(?::\s*(\S*)\s*)?", re.ASCII)
_MEMORY = re.compile(r"(>=|<=|==|>|<|)\s*(\d{1,6}(?:\.\d{1,3})?)\s*(Gi|GiB|GB|G|Mi|MiB)", re.ASCII)
MOST_EXPENSIVE = 1_000_000
"""USD an hour: a bound far above any price, so that a wrong number is told from a limit."""
_CONSTRAINT_KEYS = ("name", "any_of", "memory", "count", "max_price")


@dataclass(frozen=True, kw_only=True, slots=True)
class GpuChoice:
    """One candidate: how the model is spelled to Modal, and how many of it."""

    name: str
    count: int

    @property
    def text(self) -> str:
        """Modal's form: ``A10G``, ``H100:2``."""
        return self.name if self.count == 1 else f"{self.name}:{self.count}"


GpuRequest = tuple[GpuChoice, ...]
"""Candidates in order of preference; empty means "no GPU"."""


def price_list() -> str:
    """Return ``T4 ($0.59/h), L4 (…)``: the exact models, cheapest first."""
    models = sorted((m for m in CATALOGUE if m.exact), key=lambda m: m.price)
    return ", ".join(f"{m.name} (${m.price:.2f}/h)" for m in models)


def read_gpu(value: object, place: Place) -> GpuRequest | None:
    """Read the ``gpu`` key: ``"A10G"``, ``"H100:2"``, a list of those, or a constraint. ``[]`` asks for no GPU."""
    if isinstance(value, str):
        return _one(read_choice(value, place))
    if isinstance(value, dict):
        return _read_constraint(value, place)
    if isinstance(value, (list, tuple)):
        return _read_fallbacks(value, place)
    if type(value) is int:
        place.error(
            "bad-gpu",
            f"expected a GPU model, got the count {shown(value)}",
            f'write e.g. "L4:{min(max(value, 1), 8)}", or [] for no GPU',
        )
        return None
    place.error("bad-gpu", f'expected a GPU such as "A10G", a list of them, or a dict of constraints, got {kind_of(value)}')
    return None


def _one(choice: GpuChoice | None) -> GpuRequest | None:
    return None if choice is None else (choice,)


def _read_fallbacks(values: list[object] | tuple[object, ...], place: Place) -> GpuRequest | None:
    choices: list[GpuChoice] = []
    complete = True
    for index, value in enumerate(values):
        at = place.at(index)
        found = read_gpu(value, at) if isinstance(value, (str, dict)) else None
        if found is None:
            complete = False
            if not isinstance(value, (str, dict)):
                at.error("bad-gpu", f'expected a GPU such as "A10G", got {kind_of(value)}')
            continue
        choices.extend(choice for choice in found if choice not in choices)
    return tuple(choices) if complete else None


def read_choice(text: str, place: Place) -> GpuChoice | None:
    """Read ``NAME`` or ``NAME:COUNT``."""
    match = _REQUEST.fullmatch(text)
    name = match.group(1) if match else ""
    if match is None or not name:
        place.error(
            "bad-gpu", f'expected a GPU such as "A10G" or "H100:2", got {shown(text)}', "write [] for no GPU" * (not text.strip())
        )
        return None
    model = BY_NAME.get(name.upper())
    if model is None:
        known = ", ".join(m.name for m in CATALOGUE)
        place.error("unknown-gpu", f"unknown GPU {shown(name)}", _suggestion(name) or f"Modal has {known}")
        return None
    raw = match.group(2)
    if raw is None:
        return GpuChoice(name=_spelled(name, model), count=1)
    if not (raw.isascii() and raw.isdigit() and len(raw) <= 4):  # noqa: PLR2004
        meant = BY_NAME.get(f"{name}-{raw}".upper())
        hint = f'write "{meant.name}"' if meant is not None else f'write e.g. "{name}:2"'
        place.error("bad-gpu-count", f"expected a whole number of GPUs after the colon, got {shown(text)}", hint)
        return None
    count = check_count(int(raw), model, place, name=name, got=shown(text))
    return None if count is None else GpuChoice(name=_spelled(name, model), count=count)


def _suggestion(name: str) -> str:
    """Name the model that was likely meant. Another leading letter means another product: a V100 is no mistyped H100."""
    word = name.upper()
    if hint := did_you_mean(name, [known for known in _SUGGESTED if known[0] == word[0]]):
        return hint
    inside = [known for known in _SUGGESTED if known in word[:LONGEST_TYPO]]
    return f'did you mean "{max(inside, key=len)}"?' if inside else ""


def _spelled(name: str, model: GpuModel) -> str:
    return name.upper() if name.upper() in _SENT_AS_WRITTEN else model.name


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


def _read_constraint(value: dict[object, object], place: Place) -> GpuRequest | None:
    before = len(place.findings)
    if not value:
        place.error(
            "bad-gpu", "expected at least one constraint, got an empty dict", 'write e.g. {"memory": ">=24Gi"}, or [] for no GPU'
        )
    for key in value:
        if key not in _CONSTRAINT_KEYS:
            hint = did_you_mean(key, _CONSTRAINT_KEYS) if isinstance(key, str) else ""
            place.error("unknown-key", f"unknown key {shown(key)}", hint or f"known: {', '.join(_CONSTRAINT_KEYS)}")
    count = _read_count(value.get("count"), place.at("count"))
    bounds = _read_memory_bound(value.get("memory"), place.at("memory"))
    price = _read_price(value.get("max_price"), place.at("max_price"))
    names = _read_names(value, place)
    if len(place.findings) > before or count is None:
        return None
    return _solve(place, count=count, bounds=bounds, price=price, names=names)


def _read_count(value: object, place: Place) -> int | None:
    if value is None:
        return 1
    if type(value) is not int or not 1 <= value <= max(m.most for m in CATALOGUE):
        place.error("bad-gpu-count", f"expected 1 to 8 GPUs, got {shown(value)}")
        return None
    return value


def _read_memory_bound(value: object, place: Place) -> tuple[str, float] | None:
    if value is None:
        return None
    match = _MEMORY.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None:
        place.error("bad-gpu-memory", f'expected a bound such as ">=40Gi", got {shown(value)}')
        return None
    operator, number, unit = match.groups()
    # Makers' "40 GB" is 40 GiB on the card, so G, GB and Gi name the same size here.
    return operator or ">=", float(number) / (1024 if unit.startswith("M") else 1)


def _read_price(value: object, place: Place) -> float | None:
    if value is None:
        return None
    if type(value) not in {int, float} or not isinstance(value, (int, float)) or not 0 < value < MOST_EXPENSIVE:
        place.error("bad-gpu-price", f"expected USD an hour for one GPU, such as 3.0, got {shown(value)}")
        return None
    return float(value)


def _read_names(value: dict[object, object], place: Place) -> tuple[GpuChoice, ...]:
    """Read ``name`` (one) or ``any_of`` (several); the cheapest wins either way."""
    name, any_of = value.get("name"), value.get("any_of")
    if name is not None and any_of is not None:
        place.error("bad-gpu", "name and any_of exclude each other", "keep any_of")
        return ()
    listed: list[tuple[Place, object]] = [] if name is None else [(place.at("name"), name)]
    if any_of is not None and not isinstance(any_of, (list, tuple)):
        place.at("any_of").error("bad-gpu", f"expected a list of GPU models, got {kind_of(any_of)}")
    elif any_of is not None:
        listed = [(place.at("any_of", index), entry) for index, entry in enumerate(any_of)]
        if not listed:
            place.at("any_of").error("bad-gpu", "expected at least one GPU model, got an empty list")
    choices: list[GpuChoice] = []
    for at, entry in listed:
        if not isinstance(entry, str) or ":" in entry:
            at.error(
                "bad-gpu",
                f'expected a GPU model without a count, such as "A10G", got {shown(entry)}',
                'write the count as "count"',
            )
        elif (choice := read_choice(entry, at)) is not None:
            choices.append(choice)
    return tuple(choices)


def _satisfies(memory: int, bounds: tuple[str, float] | None) -> bool:
    if bounds is None:
        return True
    operator, bound = bounds
    return {
        ">=": memory >= bound,
        ">": memory > bound,
        "<=": memory <= bound,
        "<": memory < bound,
        "==": memory == bound,
    }[operator]


def _solve(
    place: Place, *, count: int, bounds: tuple[str, float] | None, price: float | None, names: tuple[GpuChoice, ...]
) -> GpuRequest | None:
    offered: Iterable[str] = (c.name for c in names) if names else (m.name for m in CATALOGUE if m.exact)
    fits = [
        (model.price, index, name)
        for index, name in enumerate(offered)
        if (model := BY_NAME[name]).most >= count and (price is None or model.price <= price) and _satisfies(model.memory, bounds)
    ]
    if not fits:
        place.error("no-gpu-fits", "no GPU fits these constraints", f"prices for one GPU ({PRICES_OF}): {price_list()}")
        return None
    return tuple(GpuChoice(name=name, count=count) for _, _, name in sorted(fits))
