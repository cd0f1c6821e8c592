"""Joins the terms of required node affinity, which are alternatives, into what one plan can say of machines.

Flows in: a ``Wish`` for each term that can be met. Flows out, for ``pods.nodes``: the models of all of them, the regions, and the
regions of each model, where terms pair them. A launch asks for one model at a time, so each goes to its own regions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from modalflow.translation.gpus.demands import Demand, Strength, Values, Wish
from modalflow.translation.pods.merge import Piece


class Joined(NamedTuple):
    """What the terms come to.

    ``wish`` has the models and regions of all together. ``pairs`` are the regions of each model (``()``: anywhere), empty where
    all have the same; ``paired`` is where the first of them is named. ``unused`` are terms that add nothing: they name no model
    where others do.
    """

    wish: Wish
    pairs: Mapping[str, Values]
    paired: Piece | None
    unused: Sequence[Wish]


def join(possible: Sequence[Wish]) -> Joined:
    """Join at least one wish; the most telling ones hold, in their order."""
    ranked = sorted(possible, key=lambda wish: -_strength(wish))
    first = ranked[0]
    least = min(_strength(first), Strength.BOUNDS)
    alike = [wish for wish in ranked if _strength(wish) >= least]
    pairs = _pairs(alike)
    piece = next((wish.regions[1] for wish in alike if wish.regions is not None), None)
    anywhere = any(wish.regions is None for wish in alike)
    together = tuple(dict.fromkeys(region for wish in alike if wish.regions is not None for region in wish.regions[0]))
    leader = first.strongest
    if leader is not None:
        models = pairs or dict.fromkeys(model for wish in alike for model in wish.models())
        first.demands = [Demand(models=tuple(models), strength=leader.strength, place=leader.place)]
    first.regions = None if piece is None or anywhere else (together, piece)
    first.pinned = any(wish.pinned for wish in possible)
    first.unclear = [entry for wish in possible for entry in wish.unclear]
    differ = len({frozenset(regions) for regions in pairs.values()}) > 1
    return Joined(first, pairs if differ else {}, piece, ranked[len(alike) :])


def _strength(wish: Wish) -> Strength:
    return Strength.NONE if wish.strongest is None else wish.strongest.strength


def _pairs(wishes: Sequence[Wish]) -> dict[str, Values]:
    """Return the regions in which some term allows each model."""
    pairs: dict[str, Values] = {}
    for wish in wishes:
        regions = () if wish.regions is None else wish.regions[0]
        for model in wish.models():
            known = pairs.get(model)
            both_named = known and regions
            pairs[model] = regions if known is None else tuple(dict.fromkeys((*known, *regions))) if both_named else ()
    return pairs
