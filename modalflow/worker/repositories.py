"""Clones the git repositories that a pod's volumes are made of.

Part of the sandbox's program, see ``set_up``. Flows in: ``ClonePlan`` as plain data. git runs with no more than the transports
that a repository of a pod can need, asks nobody for a password, and gets no argument that it could take for an option.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from modalflow.worker.commands import run_command
from modalflow.worker.errors import EXIT_NOT_CLONED, SetUpError

PROTOCOLS = "file:git:http:https:ssh"


def clone(one: Any, folder: str, given: Any, say: Callable[[str, str], None]) -> str:
    """Clone one repository into ``folder``, which exists; return where it is. Raises ``SetUpError``."""
    import shutil

    what = f"the repository {one['repository']}"
    git = shutil.which("git", path=given.get("PATH"))
    if git is None:
        raise SetUpError(f"{what} cannot be cloned: this image has no git; install it there", EXIT_NOT_CLONED)
    environ = {**given, "GIT_TERMINAL_PROMPT": "0", "GIT_ALLOW_PROTOCOL": PROTOCOLS}

    def run(place: str, *words: str) -> None:
        run_command(what, [git, *words], say, environ=environ, folder=place, code=EXIT_NOT_CLONED)

    before = set(os.listdir(folder))
    run(folder, "clone", "--quiet", "--", one["repository"], *([one["directory"]] if one.get("directory") else []))
    inside = one.get("directory") or next(iter(set(os.listdir(folder)) - before), ".")
    place = os.path.normpath(os.path.join(folder, inside))
    if one.get("revision"):
        run(place, "checkout", "--quiet", one["revision"], "--")
    return place
