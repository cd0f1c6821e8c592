"""The state over a restart of an emulator that keeps none: a state folder that is there as long as the emulator is.

Flows in: the store and the temporary folder of the emulator that stops. Flows out: a state folder for the one that starts.
``server`` makes one at the first restart.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from modalflow.emulator.machines import leftovers
from modalflow.emulator.machines.untrusted_folder import remove_tree
from modalflow.emulator.state.persistence import Persistence
from modalflow.emulator.state.state_folder import StateFolder
from modalflow.emulator.state.store import Store

_CONTENTS = ("blobs", "buckets", "layers")


class Interim:
    """A folder of our own, which the next emulator sweeps up should this one be killed."""

    def __init__(self, parent: Path) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix=f"{leftovers.PREFIX}state-", dir=parent))
        self._claim = leftovers.claim(self._folder)

    def keep(self, store: Store, source: Path) -> Path:
        """Write the store, move the contents that it refers to; return the state folder. ``OSError`` if that cannot be."""
        target = self._folder / "state"
        state = StateFolder(target)
        state.open()
        try:
            persistence = Persistence(state, store)
            for workspace in store.workspaces.values():
                persistence.keep(workspace)
        finally:
            state.close()
        for name in _CONTENTS:
            if (source / name).exists():
                (source / name).rename(target / name)
        return target

    def remove(self) -> None:
        """Remove all of it."""
        remove_tree(self._folder)
        os.close(self._claim)
