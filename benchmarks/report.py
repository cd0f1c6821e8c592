"""The one line that every benchmark ends with, so that they can be read side by side."""

from __future__ import annotations

from statistics import median


def report(name: str, ours: list[float], peer: list[float], *, unit: str, goal_ratio: float) -> bool:
    """Print ``name | ours | peer | ratio | goal | met`` and return whether the best round met the goal.

    ``ours[i]`` and ``peer[i]`` were measured in the same round, in ``unit``; a ratio is ours over the peer's of one round.
    """
    ratios = [mine / theirs for mine, theirs in zip(ours, peer, strict=True)]
    met = min(ratios) <= goal_ratio
    print(
        f"{name} | ours {_spread(ours, unit)} | peer {_spread(peer, unit)} | ratio {median(ratios):.4g} (best {min(ratios):.4g})"
        f" | goal {goal_ratio:.4g} | {'met' if met else 'missed'}"
    )
    return met


def _spread(values: list[float], unit: str) -> str:
    return f"{median(values):.4g} {unit} ({min(values):.4g}–{max(values):.4g})"
