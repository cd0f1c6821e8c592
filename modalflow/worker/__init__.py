"""What runs inside the sandbox.

Flows out: ``bootstrap_source()``, the text that the executor gives to ``python -c`` in every sandbox. ``bootstrap.py`` is
that text, with ``set_up.py`` in the place of its import; nothing of them is imported here, in the scheduler.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files

JOINED = "from modalflow.worker.set_up import SetUpError, set_up\n"
"""The line of ``bootstrap.py`` that the text of ``set_up.py`` stands in for: a sandbox has no modalflow."""
_FUTURE = "from __future__ import annotations\n"


@cache
def bootstrap_source() -> str:
    """Return the source of the program that a sandbox runs: one text, standard library only, without a secret."""
    folder = files(__name__)
    whole = folder.joinpath("bootstrap.py").read_text(encoding="utf-8")
    part = folder.joinpath("set_up.py").read_text(encoding="utf-8").split(_FUTURE, 1)[1].strip()
    return whole.replace(JOINED, part + "\n\n")
