"""What a sandbox costs beside the process that it is: create and wait of ``true``, 100 at once, against starting them directly.

Ours: the modal client's calls (``SandboxCreateV2``, ``SandboxWaitV2``) by its own stubs, from a process beside the emulator's,
from the first request to the last result. The floor, alternating in the same run: the same 100 commands with the same isolation
and nothing else. As processes that is a session, three pipes, an environment, and a HOME and TMPDIR that are made and removed
(``subprocess``). As containers it is ``runc run`` of prepared bundles, those of our own launcher, started by a shell in the
namespaces in which they belong; with networks of their own each joins a network namespace that was prepared as well, while ours
makes one for each sandbox and removes it. Measured where the machine has containers, and networks for them.
Run as ``python -m benchmarks.emulator_overhead``.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import itertools
import json
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

from pyroute2 import NetlinkError

from benchmarks.light_client import Client, emulator_process
from benchmarks.report import report
from modalflow.emulator import EmulatorConfig
from modalflow.emulator.machines import oci_launcher
from modalflow.emulator.machines.containers import ContainerSpec
from modalflow.emulator.machines.isolation import Setting, choose
from modalflow.emulator.machines.oci_launcher import OciLauncher
from modalflow.emulator.machines.processes import Spawner

SANDBOXES = 100
CLIENTS = 4
ROUNDS = 9
GOAL = 3.0
ARGV = ["true"]


class Floor(Protocol):
    """The same commands without an emulator."""

    def run(self) -> float:
        """Milliseconds until the last of them has ended."""
        ...


class Processes:
    """Process groups with private folders."""

    def __init__(self, folder: Path) -> None:
        """Below ``folder``."""
        self._folder = folder

    def run(self) -> float:
        """Start all, then read the output of each and remove its folders."""
        begun = time.perf_counter()
        running = []
        for number in range(SANDBOXES):
            root = self._folder / str(number)
            for private in (root, root / "root", root / "tmp"):
                private.mkdir()
            env = {"PATH": "/usr/bin:/bin", "HOME": str(root / "root"), "TMPDIR": str(root / "tmp")}
            pipe = subprocess.PIPE
            process = subprocess.Popen(
                ARGV, env=env, cwd=root / "root", stdin=pipe, stdout=pipe, stderr=pipe, start_new_session=True
            )
            running.append((process, root))
        for process, root in running:
            process.communicate()
            shutil.rmtree(root)
        return (time.perf_counter() - begun) * 1000


_LOOP = """
while read -r _; do
  for one in "$0"/*/run; do { sh "$one" </dev/null 2>&1 || : > "$0/failed"; } | cat >/dev/null & done
  wait
  if [ -e "$0/failed" ]; then echo failed; else echo done; fi
done
"""


class Containers:
    """Bundles of our own launcher, run by a shell in the launcher's namespaces; each has its three pipes from it."""

    def __init__(self, folder: Path, launcher: OciLauncher, namespaces: Sequence[Path]) -> None:
        """Prepare the bundles below ``folder``, which is the launcher's. ``namespaces``: networks to join, or none."""
        self._containers = [
            launcher.container(ContainerSpec(container_id=f"ta-{number}", milli_cpu=0)) for number in range(SANDBOXES)
        ]
        bundles = folder / "bundles"
        for container, network in itertools.zip_longest(self._containers, namespaces):
            container.prepare()
            bundle = bundles / container.root.name
            bundle.mkdir(parents=True)
            main = container.main_process(ARGV, env=dict(container.base_env), workdir=None)
            config: dict[str, Any] = container.config(main)
            if network is not None:
                config["linux"]["namespaces"].append({"type": "network", "path": str(network)})
            (bundle / "config.json").write_text(json.dumps(config))
            (bundle / "run").write_text(f"exec {shlex.join(container.argv(bundle, ['run'], mounting=True))}\n")
        self._shell = subprocess.Popen(
            [*launcher.wrapper, "sh", "-c", _LOOP, str(bundles)],
            env={"PATH": oci_launcher.SEARCH_PATH},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self) -> float:
        """Have the shell run all at once."""
        assert self._shell.stdin is not None
        assert self._shell.stdout is not None
        begun = time.perf_counter()
        self._shell.stdin.write("go\n")
        self._shell.stdin.flush()
        if self._shell.stdout.readline() != "done\n":
            raise RuntimeError("a container of the floor failed")
        return (time.perf_counter() - begun) * 1000

    def close(self) -> None:
        """Remove all of it."""
        self._shell.communicate()
        for container in self._containers:
            container.remove()


@contextlib.contextmanager
def _launcher() -> Iterator[tuple[Path, OciLauncher] | None]:
    """A launcher of containers and its folder; ``None`` where the machine has none, and why is printed."""
    with tempfile.TemporaryDirectory(prefix="modal-bench-") as name:
        folder = Path(name)
        (folder / "tools").mkdir()
        setting = Setting(folder=folder, tools=folder / "tools", interpreter_bin=Path(sys.executable).parent)
        choice = choose("auto", setting, Spawner())
        if not isinstance(choice.launcher, OciLauncher):
            print(f"{SANDBOXES} sandboxes at once, container isolation | not measured: {choice.launcher.isolation.words}")
            yield None
            return
        try:
            yield folder, choice.launcher
        finally:
            from modalflow.emulator.machines import cgroups

            cgroups.remove(choice.group)


@contextlib.contextmanager
def _namespaces(network: str) -> Iterator[list[Path] | None]:
    """Network namespaces, one for each sandbox if it has its own; ``None`` where the machine has none, and why is printed."""
    if network == "host":
        yield []
        return
    from modalflow.emulator.machines.network_links import Links

    links = Links(ipaddress.IPv4Network(EmulatorConfig().network_range))
    with ThreadPoolExecutor(1) as thread:  # one that goes from namespace to namespace
        try:
            thread.submit(links.start).result()
            for number in range(SANDBOXES):
                thread.submit(links.make, number).result()
        except (OSError, NetlinkError) as error:
            print(f"{SANDBOXES} sandboxes at once, networks of their own | not measured: {error}")
            yield None
        else:
            yield [links.namespace(number) for number in range(SANDBOXES)]
        finally:
            thread.submit(links.stop).result()


async def _one(client: Client, app_id: str) -> None:
    sandbox = await client.create(app_id, ARGV)
    if code := await client.wait(sandbox.sandbox_id):
        raise RuntimeError(f"{sandbox.sandbox_id} ended with exit code {code}")


async def _ours(clients: list[Client], app_id: str) -> float:
    """Milliseconds until the last of the sandboxes has ended."""
    begun = time.perf_counter()
    await asyncio.gather(*(_one(clients[number % CLIENTS], app_id) for number in range(SANDBOXES)))
    return (time.perf_counter() - begun) * 1000


async def _measure(environment: dict[str, str], floor: Floor, rounds: int) -> tuple[list[float], list[float]]:
    clients = [Client(environment) for _ in range(CLIENTS)]
    try:
        app_id = await clients[0].app()
        await _ours(clients, app_id)
        floor.run()
        ours, theirs = [], []
        for turn in range(rounds):
            if turn % 2:
                ours.append(await _ours(clients, app_id))
                theirs.append(floor.run())
            else:
                theirs.append(floor.run())
                ours.append(await _ours(clients, app_id))
        return ours, theirs
    finally:
        for client in clients:
            client.close()


def _compare(isolation: str, network: str, floor: Floor, rounds: int) -> bool:
    with emulator_process({"isolation": isolation, "network": network}) as (_, environment):
        ours, theirs = asyncio.run(_measure(environment, floor, rounds))
    name = f"{SANDBOXES} sandboxes at once, {isolation} isolation, {network} network"
    return report(name, ours, theirs, unit="ms", goal_ratio=GOAL)


def _compare_containers(network: str) -> bool:
    with _launcher() as found, _namespaces(network) as namespaces:
        if found is None or namespaces is None:
            return True
        with contextlib.closing(Containers(*found, namespaces)) as floor:
            return _compare("container", network, floor, ROUNDS // 2)


def main() -> int:
    """Measure, report, and return 0 if the goals were met."""
    with tempfile.TemporaryDirectory() as folder:
        met = [_compare("process", "host", Processes(Path(folder)), ROUNDS)]
    met += [_compare_containers(network) for network in ("host", "own")]
    return 0 if all(met) else 1


if __name__ == "__main__":
    sys.exit(main())
