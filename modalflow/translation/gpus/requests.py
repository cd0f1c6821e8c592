"""Reads the ``gpu`` key: names, fallbacks and constraints, in Modal's spelling and in those of other tools.

Flows in: ``"A10G"``, ``"H100:2"``, a list of fallbacks, a dict of constraints, and what SkyPilot, Ray, dstack and Flyte write.
Flows out: ``GpuRequest``, which ``resolve`` weighs against what a pod says. ``judge`` also tells why a model does not fit.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TypeVar

from modalflow.translation.diagnostics import LONGEST_TYPO, did_you_mean
from modalflow.translation.gpus.catalogue import (
    BY_NAME,
    CATALOGUE,
    PINNED,
    PRICES_OF,
    SENT_AS_WRITTEN,
    GpuChoice,
    GpuModel,
    GpuRequest,
    by_price,
    check_count,
    model_of,
    price_list,
    priced,
    without_doubles,
)
from modalflow.translation.gpus.labels import match_name
from modalflow.translation.gpus.spellings import hint_for, with_our_keys
from modalflow.translation.malformed import in_bound, in_capability, report_malformed
from modalflow.translation.report import Place, Root, kind_of, shown

MOST_EXPENSIVE = 1_000_000
"""USD an hour: a bound far above any price, so that a wrong number is told from a limit."""
MOST_GPUS = max(m.most for m in CATALOGUE)
CONSTRAINT_KEYS = (
    *("name", "any_of", "ordered", "memory", "count", "compute_capability", "max_price", "accelerators", "vendor"),
    "total_memory",
)

_OTHER_VENDORS = ("amd", "google", "intel", "tenstorrent", "aws", "habana")
_SUGGESTED = tuple(spelling for model in CATALOGUE for spelling in (model.name, *model.spellings))
T = TypeVar("T", float, tuple[int, int])

_REQUEST = re.compile(r"\s*([^:\s]*(?: +[^:\s]+)*)\s*(?::\s*(\S*)\s*)?", re.ASCII)
_UNIT = r"(Gi|GiB|GB|G|Mi|MiB|MB)"
_BOUND = re.compile(rf"(>=|<=|==|>|<|)\s*(\d{{1,6}}(?:\.\d{{1,3}})?)\s*{_UNIT}", re.ASCII)
_MEMORY_RANGE = re.compile(
    rf"(?:(\d{{1,6}}(?:\.\d{{1,3}})?)\s*{_UNIT})?\s*(\+|\.\.|)\s*(?:(\d{{1,6}}(?:\.\d{{1,3}})?)\s*{_UNIT})?", re.ASCII
)
_COUNT_RANGE = re.compile(r"(\d{1,4})?(\+|\.\.)(\d{1,4})?", re.ASCII)
_CAPABILITY = re.compile(r"(>=|<=|==|>|<|)\s*(\d{1,2})(?:\.(\d))?", re.ASCII)


@dataclass(frozen=True, kw_only=True, slots=True)
class Constraint:
    """Bounds on a model: GiB of one GPU and of all, compute capability, USD an hour of one GPU, and how many of it."""

    count: int = 1
    memory: tuple[tuple[str, float], ...] = ()
    total: tuple[tuple[str, float], ...] = ()
    compute: tuple[tuple[str, tuple[int, int]], ...] = ()
    price: float | None = None


def judge(model: GpuModel, constraint: Constraint) -> tuple[str, ...]:
    """Return why ``model`` does not fit, empty if it does."""
    found = []
    for operator, bound in constraint.memory:
        if not _holds(float(model.memory), operator, bound):
            found.append(f"has {model.memory} GiB, not {operator} {bound:g}")
    for operator, bound in constraint.total:
        if not _holds(float(model.memory * constraint.count), operator, bound):
            found.append(f"{constraint.count} have {model.memory * constraint.count} GiB, not {operator} {bound:g}")
    for operator, (major, minor) in constraint.compute:
        if not _holds(model.compute, operator, (major, minor)):
            found.append(f"has compute capability {model.capability}, not {operator} {major}.{minor}")
    if constraint.price is not None and model.price > constraint.price:
        found.append(f"costs ${model.price:.2f} an hour, more than ${constraint.price:.2f}")
    if model.most < constraint.count:
        found.append(f"comes in at most {model.most}, not {constraint.count}")
    return tuple(found)


def _holds(value: T, operator: str, bound: T) -> bool:
    """Compare two numbers, or two compute capabilities."""
    less, more = value < bound, value > bound
    return {">=": not less, ">": more, "<=": not more, "<": less, "==": not less and not more}[operator]


def read_gpu(value: object, place: Place) -> GpuRequest | None:
    """Read the ``gpu`` key: ``"A10G"``, ``"H100:2"``, a list of those, or a constraint. ``[]`` asks for no GPU."""
    if isinstance(value, str):
        return read_text(value, place)
    if isinstance(value, dict):
        return _read_dict(value, place)
    if isinstance(value, (list, tuple)):
        return _read_fallbacks(value, place)
    if isinstance(value, (set, frozenset)):  # SkyPilot's: any of them
        found = _read_fallbacks(sorted(value, key=str), place)
        return None if found is None else tuple(sorted(found, key=lambda choice: choice.price))
    if type(value) is int:
        place.error(
            "bad-gpu",
            f"expected a GPU model, got the count {shown(value)}",
            f'write e.g. "L4:{min(max(value, 1), 8)}", or [] for no GPU',
        )
        return None
    place.error("bad-gpu", f'expected a GPU such as "A10G", a list of them, or a dict of constraints, got {kind_of(value)}')
    return None


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
        choices.extend(found)
    return without_doubles(choices) if complete else None


def read_text(text: str, place: Place) -> GpuRequest | None:
    """Read one text: ``A10G``, ``H100:2``; dstack's ``A100:40GB:2``, ``24GB..``, ``nvidia:L4``, ``H100:1..8``; also ``L4+``."""
    text = text.strip().removeprefix("accelerator_type:")  # Ray's resource
    parts = [part.strip() for part in text.split(":")]
    if "," in text:
        return _read_listed(text, parts, place)
    if len(parts) > 1 and parts[0].lower() in _OTHER_VENDORS:
        place.error("gpu-not-on-modal", f"Modal has NVIDIA GPUs only, got {shown(text)}", "write a model of NVIDIA's, such as L4")
        return None
    if len(parts) > 1 and parts[0].lower() == "nvidia":
        parts = parts[1:]
        text = ":".join(parts)
    ranges = [_read_range(part) for part in parts]
    is_more = parts[0].endswith("+") and parts[0].upper() not in BY_NAME and parts[0][:-1].upper() in BY_NAME
    if not any(ranges) and not is_more and not any(_COUNT_RANGE.fullmatch(part) for part in parts[1:]):
        return _read_names_choice(text, place)
    return _read_foreign(text, parts, place)


def _read_listed(text: str, parts: list[str], place: Place) -> GpuRequest | None:
    """Read dstack's ``A10,L4:24GB:2``: any of the models, the cheapest first."""
    if any("," in part for part in parts[1:]):
        listed = ", ".join(shown(part.strip()) for part in text.split(","))
        place.error("bad-gpu", f"expected one GPU, or models with one size and count, got {shown(text)}", f"write [{listed}]")
        return None
    found = [read_text(":".join((name, *parts[1:])), place) for name in parts[0].split(",")]
    choices = [choice for request in found for choice in request or ()]
    return without_doubles(sorted(choices, key=lambda choice: choice.price)) if all(r is not None for r in found) else None


def _read_foreign(text: str, parts: list[str], place: Place) -> GpuRequest | None:
    """Read a text with a range of memory or of counts in it."""
    names: tuple[str, ...] | None = None
    memory: tuple[tuple[str, float], ...] = ()
    count = 1
    for index, part in enumerate(parts):
        if bounds := _read_range(part):
            memory += bounds
        elif index and (number := _least(part)) is not None:
            if number == 0 or number > MOST_GPUS:
                place.error("bad-gpu-count", f"expected 1 to {MOST_GPUS} GPUs, got {shown(text)}")
                return None
            count = number
            if not part.isdigit():
                place.notice("least-count", f"{shown(part)} GPUs: the least of the range is taken, {count}")
        elif not index:
            found = _read_head(part, place)
            if found is None:
                return None
            names, more = found
            memory += more
        else:
            place.error(
                "bad-gpu", f"expected MODEL, MODEL:COUNT or MODEL:MEMORY:COUNT, got {shown(text)}", f"remove {shown(part)}"
            )
            return None
    choices = tuple(GpuChoice(name=name, count=count) for name in names) if names else None
    return _solve(place, Constraint(count=count, memory=memory), choices)


def _read_head(part: str, place: Place) -> tuple[tuple[str, ...] | None, tuple[tuple[str, float], ...]] | None:
    """Return the models that a name stands for beside a memory size, and the memory that ``L4+`` asks for."""
    if part.endswith("+") and part.upper() not in BY_NAME:
        choice = read_choice(part[:-1], place)
        return None if choice is None else (None, ((">=", float(model_of(choice.name).memory)),))
    choice = read_choice(part, place)
    if choice is None:
        return None
    if choice.stands_for:
        _refuse_near(part, (choice.name,), place)
        return None
    return (("A100-40GB", "A100-80GB") if choice.name == "A100" else (choice.name,)), ()


def _least(part: str) -> int | None:
    if part.isascii() and part.isdigit() and len(part) <= 4:  # noqa: PLR2004
        return int(part)
    found = _COUNT_RANGE.fullmatch(part)
    if found is None or (found.group(1) is None and found.group(3) is None):
        return None
    return int(found.group(1)) if found.group(1) is not None else 1


def _read_range(part: str) -> tuple[tuple[str, float], ...]:
    """Read ``24GB`` (exactly), ``24GB+``, ``24GB..``, ``24GB..80GB``, ``..80GB`` or ``>=24Gi``; empty if it is none of them."""
    if (bound := _BOUND.fullmatch(part)) and bound.group(1):
        return ((bound.group(1), _gib(bound.group(2), bound.group(3))),)
    found = _MEMORY_RANGE.fullmatch(part)
    if found is None or not (found.group(1) or found.group(4)) or (found.group(3) in {"", "+"} and found.group(4)):
        return ()
    if not found.group(3):
        return (("==", _gib(found.group(1), found.group(2))),)
    least = ((">=", _gib(found.group(1), found.group(2))),) if found.group(1) else ()
    return (*least, *((("<=", _gib(found.group(4), found.group(5))),) if found.group(4) else ()))


def _gib(number: str, unit: str) -> float:
    # Makers' "40 GB" is 40 GiB on the card, so G, GB and Gi name the same size here.
    return float(number) / (1024 if unit.startswith("M") else 1)


def _read_names_choice(text: str, place: Place) -> GpuRequest | None:
    choice = read_choice(text, place)
    if choice is None:
        return None
    if not choice.stands_for:
        return (choice,)
    match = match_name(choice.stands_for)
    models = match.models if match is not None else (choice.name,)
    return tuple(replace(choice, name=name) for name in models if model_of(name).most >= choice.count)


def read_choice(text: str, place: Place) -> GpuChoice | None:
    """Read ``NAME`` or ``NAME:COUNT``. A name of hardware that Modal lacks gives the nearest model, with ``stands_for`` set."""
    match = _REQUEST.fullmatch(text)
    name = match.group(1) if match else ""
    if match is None or not name:
        place.error(
            "bad-gpu", f'expected a GPU such as "A10G" or "H100:2", got {shown(text)}', "write [] for no GPU" * (not text.strip())
        )
        return None
    found = _model(name, place)
    if found is None:
        return None
    model, stands_for = found
    raw = match.group(2)
    spelled = name.upper() if name.upper() in SENT_AS_WRITTEN else model.name
    if raw is None:
        return GpuChoice(name=spelled, count=1, stands_for=stands_for)
    if not (raw.isascii() and raw.isdigit() and len(raw) <= 4):  # noqa: PLR2004
        meant = BY_NAME.get(f"{name}-{raw}".upper())
        hint = f'write "{meant.name}"' if meant is not None else f'write e.g. "{name}:2"'
        place.error("bad-gpu-count", f"expected a whole number of GPUs after the colon, got {shown(text)}", hint)
        return None
    count = check_count(int(raw), model, place, name=spelled if stands_for else name, got=shown(text))
    return None if count is None else GpuChoice(name=spelled, count=count, stands_for=stands_for)


def _model(name: str, place: Place) -> tuple[GpuModel, str] | None:
    """Return the model, and the name that it is merely nearest to."""
    if (model := BY_NAME.get(name.upper())) is not None:
        return model, ""
    match = match_name(name)
    if match is not None and match.kind == "absent":
        place.error(
            "gpu-not-on-modal", f"{shown(name)} is {match.reason}: Modal has NVIDIA GPUs on amd64 only", "write one of them"
        )
        return None
    if match is not None and match.models:
        return model_of(match.models[0]), name if match.kind == "near" else ""
    known = ", ".join(m.name for m in CATALOGUE)
    place.error("unknown-gpu", f"unknown GPU {shown(name)}", _suggestion(name) or f"Modal has {known}")
    return None


def _suggestion(name: str) -> str:
    """Name the model that was likely meant. Another leading letter means another product: a V100 is no mistyped H100."""
    word = name.upper()
    if hint := did_you_mean(name, [known for known in _SUGGESTED if known[0] == word[0]]):
        return hint
    inside = [known for known in _SUGGESTED if known in word[:LONGEST_TYPO]]
    return f'did you mean "{max(inside, key=len)}"?' if inside else ""


def _refuse_near(name: str, models: tuple[str, ...], place: Place) -> None:
    place.error("gpu-not-on-modal", f"Modal has no {shown(name)}", f"the nearest: {priced(models)}")


def _read_dict(given: dict[object, object], place: Place) -> GpuRequest | None:
    before = len(place.findings)
    value = with_our_keys(given, place)
    if len(place.findings) > before:
        return None
    if not value:
        place.error(
            "bad-gpu", "expected at least one constraint, got an empty dict", 'write e.g. {"memory": ">=24Gi"}, or [] for no GPU'
        )
        return None
    if not any(key in CONSTRAINT_KEYS for key in value) and any(_is_gpu_name(key) for key in value):
        return _read_set(value, place)
    return _read_constraint(value, place)


def constraint_of(value: object) -> Constraint:
    """Return the bounds in a value of the ``gpu`` key, none for a name or a list; for those who explain a choice."""
    if not isinstance(value, dict):
        return Constraint(
            memory=tuple(b for part in value.split(":") for b in _read_range(part)) if isinstance(value, str) else ()
        )
    nowhere = Place(Root(layer="", prefix="", style="dotted"), (), [])
    value = with_our_keys(value, nowhere)
    return Constraint(
        count=_read_count(value.get("count"), nowhere) or 1,
        memory=_read_memory_bound(value.get("memory"), nowhere),
        total=_read_memory_bound(value.get("total_memory"), nowhere),
        compute=_read_capability(value.get("compute_capability"), nowhere),
        price=_read_price(value.get("max_price"), nowhere),
    )


def _is_gpu_name(key: object) -> bool:
    return isinstance(key, str) and (key.upper() in BY_NAME or match_name(key) is not None)


def _read_set(value: dict[object, object], place: Place) -> GpuRequest | None:
    """Read SkyPilot's ``{"H100": 1, "A100-80GB": 2}``: any of them, the cheapest first."""
    choices: list[GpuChoice] = []
    complete = True
    for name, count in value.items():
        at = place.at(name) if isinstance(name, (str, int)) else place
        if not isinstance(name, str) or (count is not None and type(count) is not int):
            at.error("bad-gpu-count", f"expected a model and its number of GPUs, got {shown(name)}: {shown(count)}")
            complete = False
            continue
        found = read_text(name if count is None else f"{name}:{count}", at)
        complete = complete and found is not None
        choices.extend(found or ())
    return without_doubles(sorted(choices, key=lambda choice: choice.price)) if complete else None


def _read_constraint(value: dict[object, object], place: Place) -> GpuRequest | None:
    before = len(place.findings)
    for key in value:
        if key not in CONSTRAINT_KEYS:
            hint = hint_for(key) or (did_you_mean(key, CONSTRAINT_KEYS) if isinstance(key, str) else "")
            place.error("unknown-key", f"unknown key {shown(key)}", hint or f"known: {', '.join(CONSTRAINT_KEYS)}")
    vendor = value.get("vendor")
    if vendor is not None and (not isinstance(vendor, str) or vendor.lower() != "nvidia"):
        place.at("vendor").error("gpu-not-on-modal", f"Modal has NVIDIA GPUs only, got {shown(vendor)}", "remove it")
    count = _read_count(value.get("count"), place.at("count"))
    constraint = Constraint(
        count=count or 1,
        memory=_read_memory_bound(value.get("memory"), place.at("memory")),
        total=_read_memory_bound(value.get("total_memory"), place.at("total_memory")),
        compute=_read_capability(value.get("compute_capability"), place.at("compute_capability")),
        price=_read_price(value.get("max_price"), place.at("max_price")),
    )
    names = _read_candidates(value, place)
    if sum(d.severity == "error" for d in place.findings[before:]) or count is None:
        return None
    keep_order = "ordered" in value or isinstance(value.get("accelerators"), (list, tuple))
    return _solve(place, constraint, names, keep_order=keep_order, own_counts=value.get("count") is None)


def _read_count(value: object, place: Place) -> int | None:
    if value is None:
        return 1
    if isinstance(value, str) and (least := _least(value.strip())) is not None and 1 <= least <= MOST_GPUS:
        if not value.strip().isdigit():
            place.notice("least-count", f"{shown(value)} GPUs: the least of the range is taken, {least}")
        return least
    if type(value) is not int or not 1 <= value <= MOST_GPUS:
        place.error("bad-gpu-count", f"expected 1 to 8 GPUs, got {shown(value)}")
        return None
    return value


def _read_memory_bound(value: object, place: Place) -> tuple[tuple[str, float], ...]:
    if value is None:
        return ()
    text = value.strip() if isinstance(value, str) else ""
    if match := _BOUND.fullmatch(text):
        operator, number, unit = match.groups()
        return ((operator or ">=", _gib(number, unit)),)
    if text and (bounds := _read_range(text)):
        return bounds
    hint = f'write ">={value}Gi"' if type(value) is int and value > 0 else ""
    report_malformed(place, "bad-gpu-memory", 'a bound such as ">=40Gi"', value, in_bound, hint)
    return ()


def _read_capability(value: object, place: Place) -> tuple[tuple[str, tuple[int, int]], ...]:
    if value is None:
        return ()
    text = str(value) if type(value) in {int, float} else value
    match = _CAPABILITY.fullmatch(text.strip()) if isinstance(text, str) else None
    if match is None:
        expected = 'a bound on the compute capability such as ">=8.0"'
        report_malformed(place, "bad-gpu-capability", expected, value, in_capability)
        return ()
    return ((match.group(1) or ">=", (int(match.group(2)), int(match.group(3) or 0))),)


def _read_price(value: object, place: Place) -> float | None:
    if value is None:
        return None
    if type(value) not in {int, float} or not isinstance(value, (int, float)) or not 0 < value < MOST_EXPENSIVE:
        place.error("bad-gpu-price", f"expected USD an hour for one GPU, such as 3.0, got {shown(value)}")
        return None
    return float(value)


_SOURCES = ("name", "any_of", "ordered", "accelerators")


def _read_candidates(value: dict[object, object], place: Place) -> GpuRequest | None:
    """Read ``name`` (one), ``any_of`` (the cheapest first), ``ordered`` or SkyPilot's ``accelerators``; ``None``: any model."""
    given = [key for key in _SOURCES if value.get(key) is not None]
    if len(given) > 1:
        place.error("bad-gpu", f"{' and '.join(given)} exclude each other", f"keep {given[-1]}")
        return ()
    if not given:
        return None
    key, at, listed = given[0], place.at(given[0]), value[given[0]]
    if key == "accelerators":
        return read_gpu(listed, at) or ()
    if key == "name" and not isinstance(listed, (list, tuple)):
        return _read_plain_name(listed, at)
    if not isinstance(listed, (list, tuple)):
        at.error("bad-gpu", f"expected a list of GPU models, got {kind_of(listed)}")
        return ()
    if not listed:
        at.error("bad-gpu", "expected at least one GPU model, got an empty list")
    return _read_fallbacks(listed, at) or ()


def _read_plain_name(name: object, place: Place) -> GpuRequest:
    if not isinstance(name, str) or ":" in name:
        place.error(
            "bad-gpu",
            f'expected a GPU model without a count, such as "A10G", got {shown(name)}',
            'write the count as "count"',
        )
        return ()
    return _read_names_choice(name, place) or ()


def _solve(
    place: Place,
    constraint: Constraint,
    choices: GpuRequest | None,
    *,
    keep_order: bool = False,
    own_counts: bool = False,
) -> GpuRequest | None:
    """Return the candidates that fit, the cheapest first; ``own_counts`` keeps each candidate's own number of GPUs."""
    offered = choices
    if offered is None:
        offered = tuple(GpuChoice(name=m.name, count=constraint.count) for m in by_price(CATALOGUE) if m.exact)
    elif not own_counts:
        offered = tuple(replace(choice, count=constraint.count) for choice in offered)
    if choices is not None and (constraint.memory or constraint.total):
        offered = tuple(sized for choice in offered for sized in _sizes(choice))
    fits = [c for c in offered if not judge(model_of(c.name), replace(constraint, count=c.count))]
    if not fits:
        place.error("no-gpu-fits", "no GPU fits these constraints", f"prices for one GPU ({PRICES_OF}): {price_list()}")
        return None
    if any(operator in {"<=", "<"} and bound < model_of("H200").memory for operator, bound in constraint.memory):
        fits = [replace(choice, name=PINNED) if choice.name == "H100" else choice for choice in fits]
    return without_doubles(fits if keep_order else sorted(fits, key=lambda choice: choice.price))


def _sizes(choice: GpuChoice) -> tuple[GpuChoice, ...]:
    """Return the A100 of both sizes for a name that leaves the size to Modal: who bounds the memory does not."""
    becomes = model_of(choice.name).becomes if choice.name == "A100" else ()
    return tuple(replace(choice, name=name) for name in becomes) or (choice,)
