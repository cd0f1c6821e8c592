"""Seconds that are fixed, or drawn anew each time between two bounds: delays of calls and of scheduling."""

from __future__ import annotations

import math
import random
from typing import TypeAlias

Span: TypeAlias = "float | tuple[float, float]"
"""Seconds: a number, or the bounds between which one is drawn."""


def drawn(span: Span, dice: random.Random) -> float:
    """Return seconds."""
    return dice.uniform(*span) if isinstance(span, tuple) else span


def span_problem(span: Span) -> str:
    """Return what is wrong with ``span``; empty if nothing is."""
    low, high = span if isinstance(span, tuple) else (span, span)
    if 0 <= low <= high < math.inf:
        return ""
    shown = list(span) if isinstance(span, tuple) else span
    return f"expected seconds of at least 0, or a lower and a higher bound; got {shown}"
