"""What runs inside the sandbox.

Flows out: ``bootstrap_source()``, the text that the executor gives to ``python -c`` in every sandbox. ``bootstrap.py`` is
that text, with the files that it imports from here in the places of their imports; nothing of them is imported here, in the
scheduler.
"""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files

_JOINED = re.compile(r"^from modalflow\.worker\.(\w+) import .*\n", re.MULTILINE)
"""A line that the text of that file stands in for: a sandbox has no modalflow."""
_FUTURE = "from __future__ import annotations\n"


@cache
def bootstrap_source() -> str:
    """Return the source of the program that a sandbox runs: one text, standard library only, without a secret."""
    return _joined(_read("bootstrap"), set())


def _read(name: str) -> str:
    return files(__name__).joinpath(f"{name}.py").read_text(encoding="utf-8")


def _joined(text: str, there: set[str]) -> str:
    """Put each file in the place of its first import, and nothing in the place of a further one."""

    def part(line: re.Match[str]) -> str:
        if line[1] in there:
            return ""
        there.add(line[1])
        return _joined(_read(line[1]).split(_FUTURE, 1)[1].strip(), there) + "\n\n"

    return _JOINED.sub(part, text)
