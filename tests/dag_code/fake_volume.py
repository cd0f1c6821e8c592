"""A ``CodeVolume`` in memory, and clocks that only tests move."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from modalflow.dag_code.copies import Clocks, ReadBlock
from modalflow.dag_code.manifest import CodeFile
from modalflow.launch.gateway import GatewayError

NOON = 1_772_452_800.0
"""2026-03-02, 12:00 UTC."""
DAY = 86_400.0


@dataclass
class Time:
    """``slept`` are the pauses that were asked for."""

    seconds: float = 0.0
    slept: list[float] = field(default_factory=list)

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.seconds += seconds
        await asyncio.sleep(0)

    @property
    def clocks(self) -> Clocks:
        return Clocks(wall=lambda: NOON + self.seconds, now=lambda: self.seconds, sleep=self.sleep)


class FakeVolume:
    def __init__(self) -> None:
        self.folders: dict[str, dict[str, bytes]] = {}
        self.puts: list[str] = []
        self.asked: list[str] = []
        self.removed: list[str] = []
        self.failures: list[GatewayError] = []
        self.mounted: set[str] = set()
        self.gate: asyncio.Event | None = None
        self.entered = asyncio.Event()

    async def put(self, folder: str, files: Sequence[CodeFile], read: ReadBlock) -> int:
        self.puts.append(folder)
        self.entered.set()
        if self.gate is not None:
            await self.gate.wait()
        if self.failures:
            raise self.failures.pop(0)
        contents = {file.path: b"".join(read(file, index) for index in range(len(file.blocks))) for file in files}
        self.folders[folder] = contents
        return sum(map(len, contents.values()))

    async def names(self, folder: str) -> list[str]:
        self.asked.append(folder)
        if self.failures:
            raise self.failures.pop(0)
        below = {path.removeprefix(f"{folder}/").partition("/")[0] for path in self.folders if path.startswith(f"{folder}/")}
        return sorted(below)

    async def remove(self, folder: str) -> None:
        self.removed.append(folder)
        self.folders = {path: files for path, files in self.folders.items() if not f"{path}/".startswith(f"{folder}/")}

    async def tags_in_use(self) -> set[str]:
        return self.mounted
