"""The first steps of any container with a main process, of a sandbox or a sidecar: what it is to be, its variables, its start.

Flows in: a ``Workload`` just made. Flows out: its main process. ``sandboxes`` and ``sidecars`` go on from there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from modal_proto import api_pb2

from modalflow.emulator.machines.containers import ContainerSpec
from modalflow.emulator.machines.environment import command_of
from modalflow.emulator.machines.furnishing import Furnisher
from modalflow.emulator.machines.identity import identity_token
from modalflow.emulator.machines.machine import Machine
from modalflow.emulator.machines.networks import Network
from modalflow.emulator.machines.processes import Process
from modalflow.emulator.machines.terminals import terminal_of
from modalflow.emulator.machines.workloads import Workload

REGION = "local"
CLOUD_PROVIDER = "CLOUD_PROVIDER_LOCAL"


def spec_of(container_id: str, definition: api_pb2.Sandbox, network: Network, layers: Sequence[Path] = ()) -> ContainerSpec:
    """Return what is wanted of the container."""
    resources = definition.resources
    return ContainerSpec(
        container_id=container_id,
        network=network,
        layers=layers,
        milli_cpu=resources.milli_cpu_max,
        cpu_request=resources.milli_cpu,
        memory_mb=resources.memory_mb_max,
    )


def own_env(machine: Machine, workload: Workload, sign: Callable[[str], str]) -> dict[str, str]:
    """Return the variables that Modal itself sets in a container of a sandbox."""
    sandbox = machine.sandbox
    own = {
        "MODAL_SANDBOX_ID": sandbox.sandbox_id,
        "MODAL_TASK_ID": workload.container_id,
        "MODAL_REGION": REGION,
        "MODAL_CLOUD_PROVIDER": CLOUD_PROVIDER,
        "MODAL_IMAGE_ID": workload.definition.image_id,
        "MODAL_ENVIRONMENT": machine.workspace.apps[sandbox.app_id].environment,
    }
    if workload.definition.include_oidc_identity_token:
        own["MODAL_IDENTITY_TOKEN"] = identity_token(machine.workspace, sandbox, sign)
    if machine.gpu and workload is machine:
        own["MODAL_EMULATOR_GPU"] = f"{machine.gpu.label}:{machine.gpu.count}"
    return own


async def start(workload: Workload, furnisher: Furnisher, own: dict[str, str]) -> Process | None:
    """Furnish the container and start its main process; ``None`` if it was ended meanwhile. ``OSError`` if it cannot be."""
    await furnisher.furnish(workload, own)
    if workload.condemned():
        return None
    process = workload.process = await workload.container.spawn(
        command_of(workload.image, workload.definition.entrypoint_args),
        env=workload.env,
        workdir=workload.workdir,
        main=True,
        output=workload.output,
        terminal=terminal_of(workload.definition.pty_info),
    )
    workload.running.set()
    if workload.condemned():
        process.kill()
    return process
