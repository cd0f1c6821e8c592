"""The embedded Modal: a control plane on this machine that the unmodified ``modal`` client talks to.

Flows in: gRPC and HTTP from any Modal client whose ``MODAL_SERVER_URL`` points here. Flows out: answers, and real local
processes. State lives in ``state``, behaviour in ``machines``, the wire in ``wire``, ``services`` (the control plane) and
``router`` (the task command router); ``faults`` stands in front of the handlers. ``core`` composes what services share,
``server`` starts and stops all of it and is the module to read next; ``coverage`` says what is served.

Nothing is loaded until a name is asked for, so that importing the package costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from modalflow.emulator.config import EmulatorConfig, EmulatorConfigError
    from modalflow.emulator.server import Emulator
    from modalflow.emulator.thread import EmulatorThread

__all__ = ["Emulator", "EmulatorConfig", "EmulatorConfigError", "EmulatorThread"]

_HOMES = {
    "Emulator": "modalflow.emulator.server",
    "EmulatorConfig": "modalflow.emulator.config",
    "EmulatorConfigError": "modalflow.emulator.config",
    "EmulatorThread": "modalflow.emulator.thread",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
