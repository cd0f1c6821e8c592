"""Readiness probes: a port that is tried, or a command that is run, until it says that the sandbox is ready.

Flows in: a running ``Machine`` whose definition has a probe. Flows out: its ``ready`` event, and the moment in the store. A probe
runs inside the container, and is no use of the sandbox that an idle timeout would count.
"""

from __future__ import annotations

import asyncio

from modal_proto import api_pb2

from modalflow.emulator.clock import Clock
from modalflow.emulator.machines.container_tools import TCP_PROBE
from modalflow.emulator.machines.machine import Machine
from modalflow.emulator.machines.output import Output

DEFAULT_INTERVAL_MS = 100
"""Modal's own default (modal 1.6.4, ``Probe``)."""


async def probe(machine: Machine, clock: Clock) -> None:
    """Try until the sandbox is ready, and say so. Cancelled at the sandbox's end."""
    wanted = machine.definition.readiness_probe
    interval_ms = wanted.interval_ms or DEFAULT_INTERVAL_MS
    argv = _argv(wanted, interval_ms)
    while True:
        attempt = await machine.container.spawn(argv, env=machine.env, workdir=machine.workdir, main=False, output=Output())
        attempt.close_stdin()
        end = await attempt.exited
        if end.code == 0:
            break
        await asyncio.sleep(interval_ms / 1000)  # what a client waits for follows the system's time
    machine.sandbox.ready_at = clock.time()
    machine.ready.set()


def _argv(wanted: api_pb2.Probe, interval_ms: int) -> list[str]:
    if wanted.HasField("tcp_port"):
        return [TCP_PROBE, str(wanted.tcp_port), str(interval_ms)]
    return list(wanted.exec_command.argv)
