"""Reads a variable from a file of ``NAME='value'`` lines, as Kubernetes' ``fileKeyRef`` names it.

Part of the sandbox's program, see ``set_up``. A value in single quotes may go over several lines and is taken as it is; one in
double quotes or in none ends with its line. Empty lines and comments count for nothing (kubernetes.io, KEP-3721, 2026-09).
"""

from __future__ import annotations

import re

_ENTRY = re.compile(
    r"""^[ \t]*(?P<name>[^\s=#'"]+)[ \t]*=[ \t]*(?:'(?P<single>[^']*)'|"(?P<double>[^"\n]*)"|(?P<bare>[^\n]*?))[ \t]*$""",
    re.MULTILINE,
)


def value_in(text: str, key: str) -> str | None:
    """Return the value of ``key``, the last one of that name; ``None`` if there is none."""
    found = None
    for entry in _ENTRY.finditer(text):
        if entry["name"] == key:
            found = next(value for value in (entry["single"], entry["double"], entry["bare"]) if value is not None)
    return found
