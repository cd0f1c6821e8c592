"""What runs inside the sandbox.

Flows out: ``bootstrap_source()``, the text that the executor gives to ``python -c`` in every sandbox. ``bootstrap.py`` is
that text; nothing of it is imported here, in the scheduler.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files


@cache
def bootstrap_source() -> str:
    """Return the source of the program that a sandbox runs: one file, standard library only, without a secret."""
    return files(__name__).joinpath("bootstrap.py").read_text(encoding="utf-8")
