"""Puts together in the sandbox what only it knows: texts with the values of Secrets, of files, and its own address.

Part of the programs of ``bootstrap`` and ``stopping``. Flows in: ``Text`` of ``translation/setup_plan.py`` as plain data, and the
variables as Modal gave them. Flows out: values. No error quotes one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from modalflow.worker.env_files import value_in
from modalflow.worker.errors import SetUpError

SETUP = "MODALFLOW_SETUP"
POD_IP = "MODALFLOW_POD_IP"
EMULATOR_ROOT = "MODAL_EMULATOR_ROOT"
OURS = "MODALFLOW_"


class Texts:
    """Texts from the variables ``given``. Under the emulator, which gives a sandbox a root folder, paths are below that."""

    def __init__(self, given: Mapping[str, str]) -> None:
        self.given = given
        self.root = given.get(EMULATOR_ROOT) or ""

    def place(self, path: str) -> str:
        """Return where ``path`` is on this machine: as it is, but for the emulator's private root."""
        inside = path == self.root or path.startswith(self.root + "/")
        return path if inside else self.root + path

    def text(self, text: Any, what: str) -> str | None:
        """Return one text; ``None`` if it is optional and a part of it is not there. Raises ``SetUpError``."""
        found = []
        for part in text["parts"]:
            if isinstance(part, dict) and "file" in part:
                value = self._of_file(part["file"], part["key"])
            else:
                value = part if isinstance(part, str) else self._value(part["env"], part.get("else"))
            if value is None:
                if text.get("optional"):
                    return None
                if "file" in part:
                    raise SetUpError(f"{what} needs {part['key']} of {part['file']}, which is not there")
                raise SetUpError(f"{what} needs {part['env']}, which no Modal Secret of this sandbox gives")
            found.append(value)
        return "".join(found)

    def _of_file(self, path: str, key: str) -> str | None:
        try:
            with open(self.place(path), encoding="utf-8", errors="replace") as file:
                return value_in(file.read(), key)
        except OSError:
            return None

    def _value(self, name: str, otherwise: str | None) -> str | None:
        return _own_address() if name == POD_IP else self.given.get(name, otherwise)


def is_of_file(text: Any) -> bool:
    """Tell a text of which a part is in a file that an init container may write."""
    return any(isinstance(part, dict) and "file" in part for part in text["parts"])


def variables_of_task(given: Mapping[str, str]) -> dict[str, str]:
    """Return the task's own variables, of those that Modal gave: put together, renamed and removed, without modalflow's."""
    import json

    texts, found = Texts(given), dict(given)
    plan = json.loads(found.pop(SETUP, "") or "{}")
    exports = {name: texts.text(text, f"the variable {name}") for name, text in plan.get("exports", {}).items()}
    for name in plan.get("remove", []):
        found.pop(name, None)
    found.update({name: text for name, text in exports.items() if text is not None})
    return {name: text for name, text in found.items() if not name.startswith(OURS)}


def _own_address() -> str:
    """Return the address from which this machine would send; nothing is sent."""
    import socket

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("10.254.254.254", 1))
            return str(probe.getsockname()[0])
        except OSError:
            return "127.0.0.1"
