"""The fields of a Kubernetes pod by path, for options that name them. Reads the support matrix' list of leaves when asked."""

from __future__ import annotations

import json
import re
from functools import lru_cache
from pathlib import Path

from modalflow.translation.allowances import read_pattern
from modalflow.translation.diagnostics import did_you_mean
from modalflow.translation.inputs import FieldPattern

LEAVES_FILE = Path(__file__).parent / "cli" / "pod_leaves.json"
SHORTEST = 2
"""Keys of a pattern: ``spec`` alone would be everything."""


@lru_cache(maxsize=1)
def known_paths() -> frozenset[str]:
    """Return every field and leaf below ``spec`` and ``metadata``, without indexes: ``spec.containers.args``."""
    leaves = json.loads(LEAVES_FILE.read_text(encoding="utf-8"))
    found: set[str] = set()
    for leaf in leaves:
        words = leaf.replace("[]", "").split(".")
        found.update(".".join(words[:end]) for end in range(1, len(words) + 1))
    return frozenset(found)


def read_allowed(text: str) -> FieldPattern:
    """Read one entry of ``allow``. Raises ``ValueError`` saying what is wrong with it."""
    pattern = read_pattern(text)
    if pattern is None or not text.strip():
        raise ValueError(f'"{text}" is no path of a field; write e.g. spec.hostNetwork or spec.containers[*].args')
    if len(pattern) < SHORTEST:
        raise ValueError(f'"{text}" is too wide; name the fields, e.g. spec.hostNetwork')
    bare = ".".join(key for key in pattern if key is not None)
    if bare not in known_paths() and ".".join(_without_keys(text)) not in known_paths():
        hint = did_you_mean(bare, known_paths())
        raise ValueError(f'"{text}" is no field of a pod' + (f"; {hint}" if hint else ""))
    return pattern


def _without_keys(text: str) -> list[str]:
    """Return the names of a path without what stands in brackets: the keys of a map are anybody's."""
    return re.sub(r"\[[^\]]*\]", "", text).split(".")
