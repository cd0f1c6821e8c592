"""Which launcher an emulator gets: containers where the machine allows them, else processes.

Flows in: what was asked for, and the emulator's folder. Flows out: a ``Launcher`` that is known to work, how its spawner is
started and the PATH folders of its containers. ``core`` asks once per emulator.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from modalflow.emulator.machines import oci_launcher
from modalflow.emulator.machines.containers import Launcher
from modalflow.emulator.machines.environment import Toolbox
from modalflow.emulator.machines.oci_launcher import OciLauncher
from modalflow.emulator.machines.process_container import ProcessLauncher
from modalflow.emulator.machines.processes import Spawner


class IsolationError(OSError):
    """Containers were asked for and cannot be had here; the text says why."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Setting:
    """Where an emulator keeps what containers need.

    ``tools``: our commands; ``interpreter_bin``: the folder of the interpreter that plays every image; ``hidden``: folders that
    no container may see.
    """

    folder: Path
    tools: Path
    interpreter_bin: Path
    hidden: Sequence[Path] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """``wrapper`` and ``group`` are for ``Spawner.start``."""

    launcher: Launcher
    toolbox: Toolbox
    wrapper: Sequence[str] = ()
    group: str = ""


_OUTCOMES: dict[int, str] = {}
"""What a trial on a file system (its device number) found in the way; one per process is enough."""


def choose(wanted: str, setting: Setting, spawner: Spawner) -> Choice:
    """Return the launcher for ``auto``, ``container`` or ``process``; ``IsolationError`` if there is none such. Blocking."""
    if wanted == "process":
        return _processes(setting, spawner, "")
    found = oci_launcher.obstacle()
    if not found:
        launcher = OciLauncher(
            setting.folder,
            spawner,
            tools=setting.tools,
            interpreter_bin=setting.interpreter_bin,
            hidden=setting.hidden,
        )
        device = setting.folder.stat().st_dev
        if device not in _OUTCOMES:
            _OUTCOMES[device] = launcher.trial()
        found = _OUTCOMES[device]
        if not found:
            return Choice(launcher=launcher, toolbox=launcher.toolbox, wrapper=launcher.wrapper, group=launcher.group)
    if wanted == "container":
        raise IsolationError(f"isolation: no containers here: {found}. Write process, or auto")
    return _processes(setting, spawner, found)


def _processes(setting: Setting, spawner: Spawner, reason: str) -> Choice:
    toolbox = Toolbox(folders=(setting.tools, setting.interpreter_bin))
    launcher = ProcessLauncher(setting.folder / "sandboxes", spawner, toolbox)
    if reason:
        launcher.isolation = replace(launcher.isolation, words=f"{launcher.isolation.words} (no containers here: {reason})")
    return Choice(launcher=launcher, toolbox=toolbox)
