"""How long a folder of 5,000 DAG files takes to get to Modal, at first and after a change of one file.

Ours: ``dag_code.copies``, from a launch's wish to the copy that it may mount: look, hash, upload. The peer, alternating in the
same run on the same emulator with files of the same kind: the modal client's own ``batch_upload`` of the folder, which is what
``modal volume put`` does (without the start of that command); it has no notion of a change and is given ``force``. Also printed:
a launch that finds nothing changed, beside a bare walk of the folder (``os.scandir`` and ``stat``).
Run as ``python -m benchmarks.dag_upload``.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

from benchmarks.light_client import emulator_process
from benchmarks.report import report

FILES = 5000
FOLDERS = 50
ROUNDS = 3
GOAL_FIRST = 1.0
GOAL_CHANGE = 0.25
GOAL_LOOK = 4.0
OLD = 3600
"""Seconds ago that the files were written: nobody's DAG folder is two seconds old."""


def _make_folder(folder: Path, seed: str) -> None:
    """Write ``FILES`` files of 1 to 6 KiB, none like another."""
    for number in range(FILES):
        path = folder / f"team_{number % FOLDERS}" / f"dag_{number}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"# {seed} {number}\n" + "x = 'what a DAG file has to say'\n" * (30 + number % 150))


def _change(folder: Path) -> None:
    (folder / "team_7" / "dag_7.py").write_text(f"changed = {time.time_ns()}\n")


def _bare_walk(folder: str) -> int:
    found = 0
    with os.scandir(folder) as listing:
        for entry in listing:
            if entry.is_dir(follow_symlinks=False):
                found += _bare_walk(entry.path)
            else:
                entry.stat(follow_symlinks=False)
                found += 1
    return found


async def _seconds(step: Callable[[], Awaitable[object]]) -> float:
    begun = time.perf_counter()
    await step()
    return time.perf_counter() - begun


async def _measure(home: Path) -> dict[str, list[float]]:
    import modal

    from modalflow.dag_code.copies import BundleCopies, Clocks
    from modalflow.dag_code.reading import FolderReader, FolderRules
    from modalflow.modal_gateway import ModalGateway
    from modalflow.modal_gateway.code_volume import ModalCodeVolume
    from modalflow.settings import LaunchSettings

    names = ("ours first", "peer first", "ours change", "peer change", "ours look", "bare walk")
    taken: dict[str, list[float]] = {name: [] for name in names}
    async with ModalGateway(LaunchSettings()) as gateway:
        volume = ModalCodeVolume(lambda: gateway, "ours", deployment="bench")
        client = (await gateway.objects()).client
        theirs = modal.Volume.from_name("theirs", create_if_missing=True, version=2, client=client)
        await theirs.hydrate.aio()

        async def put(folder: Path) -> None:
            async with theirs.batch_upload.aio(force=True) as batch:
                batch.put_directory(folder, f"/{folder.name}")

        async def walk(folder: Path) -> None:
            await asyncio.to_thread(_bare_walk, str(folder))

        for turn in range(ROUNDS):
            mine, other = home / f"mine{turn}", home / f"other{turn}"
            for folder in (mine, other):
                _make_folder(folder, folder.name)
            # Two seconds pass before a file's time of change is trusted: the clock is ahead instead of us waiting.
            reader = FolderReader(str(mine), FolderRules(), clock_ns=lambda: time.time_ns() + OLD * 10**9)
            clocks = Clocks(wall=time.time, now=time.monotonic, sleep=_no_rest)
            copies = BundleCopies("dags", reader, lambda: volume, "bench", clocks)
            taken["ours first"].append(await _seconds(copies.current))
            taken["peer first"].append(await _seconds(partial(put, other)))
            for folder in (mine, other):
                _change(folder)
            taken["ours change"].append(await _seconds(copies.current))
            taken["peer change"].append(await _seconds(partial(put, other)))
            taken["ours look"].append(await _seconds(copies.current))
            taken["bare walk"].append(await _seconds(partial(walk, mine)))
    return taken


async def _no_rest(_: float) -> None:
    """Looks follow each other at once here."""


def main() -> int:
    """Measure, report, and return 0 if the goals were met."""
    with emulator_process({"isolation": "process"}) as (_, environment), tempfile.TemporaryDirectory() as home:
        os.environ.update(environment)
        taken = asyncio.run(_measure(Path(home)))
    met = [
        report(f"first upload of {FILES} files", taken["ours first"], taken["peer first"], unit="s", goal_ratio=GOAL_FIRST),
        report("the same after a change of one", taken["ours change"], taken["peer change"], unit="s", goal_ratio=GOAL_CHANGE),
        report(f"look at {FILES} files, none changed", taken["ours look"], taken["bare walk"], unit="s", goal_ratio=GOAL_LOOK),
    ]
    return 0 if all(met) else 1


if __name__ == "__main__":
    sys.exit(main())
