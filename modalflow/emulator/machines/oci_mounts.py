"""Images mounted into a container that runs already: an overlay with a writable folder of its own at a path.

Flows in: layers and a path. Flows out: orders to the spawner, beside whose namespaces ``mount_script`` does it.
``oci_container`` is the user.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path

from modalflow.emulator.machines.containers import AttachError
from modalflow.emulator.machines.output import STDERR, Output
from modalflow.emulator.machines.processes import Process, Spawner

_SCRIPT = Path(__file__).with_name("mount_script.py")


class OciMounts:
    """Those of one container, by path. ``folder``: for their writable parts; it goes with the container."""

    def __init__(self, folder: Path, scope: str, spawner: Spawner) -> None:
        self._folder = folder
        self._scope = scope
        self._spawner = spawner
        self._attached: set[str] = set()
        self._count = 0

    async def attach(self, main: Process, layers: Sequence[Path], path: str) -> None:
        """Mount the layers, the topmost first. ``AttachError`` if that cannot be."""
        if path in self._attached:
            await self.detach(main, path)
        self._count += 1
        folder = self._folder / str(self._count)
        await asyncio.to_thread(_prepare, folder, layers)
        await self._run(main, "attach", str(folder), str(len(layers) or 1), path)
        self._attached.add(path)

    async def detach(self, main: Process, path: str) -> None:
        """Unmount. ``AttachError`` if nothing is mounted at that path."""
        if path not in self._attached:
            raise AttachError(f"nothing is mounted at {path}")
        await self._run(main, "detach", path)
        self._attached.discard(path)

    async def _run(self, main: Process, word: str, *arguments: str) -> None:
        await main.started.wait()
        output = Output()
        process = await self._spawner.spawn(
            [sys.executable, "-I", "-S", str(_SCRIPT), word, str(main.pid), *arguments],
            env={},
            cwd=Path("/"),
            scope=self._scope,
            main=False,
            output=output,
        )
        process.close_stdin()
        if (await process.exited).code:
            said = b"".join(chunk.data for chunk in output.streams[STDERR].available(0)).decode(errors="replace")
            raise AttachError(f"{word} at {arguments[-1]}: {said}")


def _prepare(folder: Path, layers: Sequence[Path]) -> None:
    for name in ("upper", "work", "merged"):
        (folder / name).mkdir(parents=True)
        (folder / name).chmod(0o755)
    if not layers:
        (folder / "l0").mkdir(mode=0o755)
    for number, layer in enumerate(layers):
        (folder / f"l{number}").symlink_to(layer)
