"""``modalflow gpus``: the models that Modal has, and which of them meet a wish, with the reason for each that does not.

Flows in: arguments; ``--for`` takes the constraints of the ``gpu`` key in one line, or any other form of it. Flows out: a table
or JSON. Nothing is asked of Modal or Airflow: catalogue and prices are data of this version.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterable, Sequence

from modalflow.translation.diagnostics import Diagnostic, Severity
from modalflow.translation.gpus.catalogue import CATALOGUE, PINNED, PRICES_OF, GpuChoice, GpuModel, by_price, model_of
from modalflow.translation.gpus.requests import Constraint, constraint_of, judge, read_gpu
from modalflow.translation.prices import multiplier_of
from modalflow.translation.regions import modal_region
from modalflow.translation.report import Place, Root, kind_of, shown

WISH = Root(layer="--for", prefix="--for", style="subscript")
_PART = re.compile(r"\s*([a-z_]+)\s*(>=|<=|==|=|>|<)\s*(.+?)\s*", re.ASCII)
_SHORT = {"price": "max_price", "compute": "compute_capability", "cc": "compute_capability", "mem": "memory"}
_EXAMPLE = "memory>=40Gi,count=2,price<=3"


class WishError(ValueError):
    """A ``--for`` that cannot be read; the text says why."""


def run(arguments: argparse.Namespace) -> int:
    """Print the catalogue or the ranking. Exit code 1 if nothing meets the wish, 2 if the wish cannot be read."""
    if arguments.wish is None:
        _print_catalogue(as_json=arguments.json)
        return 0
    findings: list[Diagnostic] = []
    place = Place(WISH, (), findings)
    try:
        value = read_wish(arguments.wish)
    except WishError as error:
        sys.stderr.write(f"modalflow gpus: --for: {error}\n")
        return 2
    try:
        regions = _regions(value.pop("region", ())) if isinstance(value, dict) else ()
    except WishError as error:
        sys.stderr.write(f"modalflow gpus: --for: region: {error}\n")
        return 2
    request = read_gpu(value or "0GB+", place)
    errors = [d for d in findings if d.severity is Severity.ERROR]
    if request is None and not all(d.code == "no-gpu-fits" for d in errors):
        sys.stderr.write("modalflow gpus: " + "\n".join(found.full() for found in errors) + "\n")
        return 2
    rows = ranking(request or (), constraint_of(value), multiplier_of(regions))
    _print_ranking(rows, as_json=arguments.json, regions=regions)
    return 0 if request else 1


def read_wish(text: str) -> object:
    """Return the value of the ``gpu`` key that ``text`` stands for. Raises ``WishError``."""
    if text.lstrip().startswith(("{", "[", '"')):
        try:
            return json.loads(text)
        except json.JSONDecodeError as error:
            raise WishError(f"no JSON: {error}") from error
    parts = [_PART.fullmatch(part) for part in text.split(",")]
    if not any(parts):
        return text
    wish: dict[str, object] = {}
    for part, match in zip(text.split(","), parts, strict=True):
        if match is None:
            raise WishError(f"expected NAME>=VALUE, got {part.strip()!r}; write e.g. {_EXAMPLE}")
        name, operator, raw = match.groups()
        wish[_SHORT.get(name, name)] = _value(_SHORT.get(name, name), operator, raw)
    return wish


def _regions(value: object) -> tuple[str, ...]:
    """Return the regions of a wish: ``us-east|eu`` or a list. Raises ``WishError``."""
    named = value.split("|") if isinstance(value, str) else value
    if not isinstance(named, (list, tuple)):
        raise WishError(f"expected a region or a list of them, got {kind_of(value)}")
    for region in named:
        if not isinstance(region, str) or modal_region(region.strip()) is None:
            raise WishError(f"no region of Modal's is known for {shown(region)}")
    return tuple(region.strip() for region in named)


def _value(name: str, operator: str, raw: str) -> object:
    if name in {"any_of", "ordered"}:
        return [word.strip() for word in raw.split("|")]
    if name in {"memory", "compute_capability"}:
        return f"{'==' if operator == '=' else operator}{raw}"
    if name == "max_price" and operator in {"<=", "="}:
        return _number(name, raw)
    if operator not in {"=", "=="}:
        raise WishError(f"{name} takes '=', got {operator!r}; write e.g. {_EXAMPLE}")
    return _number(name, raw) if name == "count" else raw


def _number(name: str, raw: str) -> int | float:
    try:
        return int(raw) if raw.isdigit() else float(raw)
    except ValueError as error:
        raise WishError(f"{name}: expected a number, got {raw!r}") from error


Row = dict[str, object]


def ranking(request: Sequence[GpuChoice], constraint: Constraint, factor: float = 1.0) -> list[Row]:
    """Return the candidates in the order they are tried, then the models that are none, each with the reason.

    ``factor`` is what a named region does to the price.
    """
    rows: list[Row] = []
    for rank, choice in enumerate(request, start=1):
        model = model_of(choice.name)
        why = f"the nearest to {choice.stands_for}" if choice.stands_for else "fits"
        price = round(choice.price * factor, 2)
        rows.append({"rank": rank, "gpu": choice.text, **_facts(model), "usd_an_hour": price, "why": why})
    taken = {model_of(choice.name).name for choice in request}
    for model in by_price(CATALOGUE):
        if model.name not in taken:
            reasons = judge(model, constraint)
            if PINNED in taken and model.name == "H100":
                reasons = (f"Modal may make it an H200, which does not fit: {PINNED} is sent",)
            why = "; ".join(reasons) or ("not asked for" if model.exact else "lets Modal choose: only by its name")
            price = round(model.price * factor, 2)
            rows.append({"rank": None, "gpu": model.name, **_facts(model), "usd_an_hour": price, "why": why})
    return rows


def _facts(model: GpuModel) -> Row:
    return {"memory_gib": model.memory, "compute_capability": model.capability}


def _catalogue_rows() -> list[Row]:
    return [
        {
            "gpu": model.name,
            **_facts(model),
            "family": model.family,
            "most": model.most,
            "usd_an_hour": model.price,
            "also": [*model.spellings, *model.aliases],
        }
        for model in CATALOGUE
    ]


def _print_catalogue(*, as_json: bool) -> None:
    rows = _catalogue_rows()
    if as_json:
        _print_json({"prices_of": PRICES_OF, "gpus": rows})
        return
    lines = [("GPU", "GIB", "COMPUTE", "FAMILY", "MOST", "USD/H", "ALSO")]
    for model in CATALOGUE:
        facts = (model.name, str(model.memory), model.capability, model.family, str(model.most), f"{model.price:.2f}")
        lines.append((*facts, ", ".join((*model.spellings, *model.aliases))))
    _print_table(lines)
    sys.stdout.write(f"\nPrices of {PRICES_OF}, for one GPU, without CPU and memory.\n")


def _print_ranking(rows: list[Row], *, as_json: bool, regions: tuple[str, ...]) -> None:
    if as_json:
        _print_json({"prices_of": PRICES_OF, "region": list(regions), "ranking": rows})
        return
    lines = [("#", "GPU", "GIB", "COMPUTE", "USD/H", "WHY")]
    for row in rows:
        rank = "-" if row["rank"] is None else str(row["rank"])
        price = row["usd_an_hour"]
        lines.append(
            (rank, str(row["gpu"]), str(row["memory_gib"]), str(row["compute_capability"]), f"{price:.2f}", str(row["why"]))
        )
    _print_table(lines)
    if regions:
        which = f"region {regions[0]}" if len(regions) == 1 else f"dearest of the regions {', '.join(regions)}"
        sys.stdout.write(f"\nPrices with the factor {multiplier_of(regions):g} of the {which}.\n")


def _print_table(lines: Iterable[tuple[str, ...]]) -> None:
    table = list(lines)
    widths = [max(len(line[column]) for line in table) for column in range(len(table[0]))]
    for line in table:
        cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        sys.stdout.write("  ".join(cells).rstrip() + "\n")


def _print_json(value: object) -> None:
    json.dump(value, sys.stdout, indent=2, ensure_ascii=False)
    sys.stdout.write("\n")
