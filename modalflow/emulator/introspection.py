"""What clients asked for, in plain data: the record that tests and the demo read.

Flows in: an emulator of this process. Flows out: one ``SandboxRecord`` per sandbox, ended ones included.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal, Protocol

from modal_proto import api_pb2

from modalflow.emulator.machines.output import STDERR, STDOUT
from modalflow.emulator.state.store import Sandbox, Workspace

if TYPE_CHECKING:
    from modalflow.emulator.core import Core


class HasWorkspace(Protocol):
    """``Emulator`` and ``EmulatorThread``."""

    @property
    def workspace(self) -> Workspace:
        """The state of the emulator's own token."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class SandboxRecord:
    """One create call.

    ``gpu`` is ``TYPE:count`` as sent, ``None`` on CPU; ``image`` the base image's reference; ``timeout`` in seconds.
    ``argv``: as sent; ``env_names``: of the variables that its Secrets set; ``volumes``: names of Volumes (ids of unnamed ones)
    by mount path;
    ``status``: ``waiting`` (for capacity), ``running``, or how it ended (``success``, ``failure``, ``timeout``, ``terminated``);
    ``exit_code``: ``None`` before the end; ``stdout`` and ``stderr``: what is kept of them so far.
    """

    sandbox_id: str
    name: str
    backend: Literal["V1", "V2"]
    gpu: str | None
    milli_cpu: int
    milli_cpu_max: int
    memory_mb: int
    memory_mb_max: int
    image: str
    timeout: int
    tags: Mapping[str, str]
    created_at: float
    ended: bool
    app: str = ""
    argv: tuple[str, ...] = ()
    workdir: str = ""
    env_names: tuple[str, ...] = ()
    volumes: Mapping[str, str] = field(default_factory=dict)
    regions: tuple[str, ...] = ()
    status: str = ""
    exit_code: int | None = None
    stdout: str = field(default="", repr=False)
    stderr: str = field(default="", repr=False)


def _base_image(workspace: Workspace, image_id: str) -> str:
    """Follow an image's layers down to its ``FROM``."""
    image = workspace.images.get(image_id)
    while image is not None and image.definition.base_images:
        image = workspace.images.get(image.definition.base_images[0].image_id)
    if image is None:
        return "unknown"
    first = next((line for line in image.definition.dockerfile_commands if line.upper().startswith("FROM ")), "")
    return first[5:].strip() or "unknown"


def _record(workspace: Workspace, sandbox: Sandbox) -> SandboxRecord:
    definition = sandbox.definition
    resources = definition.resources
    gpu = resources.gpu_config
    return SandboxRecord(
        sandbox_id=sandbox.sandbox_id,
        name=sandbox.name,
        backend="V2" if sandbox.v2 else "V1",
        gpu=f"{gpu.gpu_type}:{gpu.count}" if gpu.count else None,
        milli_cpu=resources.milli_cpu,
        milli_cpu_max=resources.milli_cpu_max,
        memory_mb=resources.memory_mb,
        memory_mb_max=resources.memory_mb_max,
        image=_base_image(workspace, definition.image_id),
        timeout=definition.timeout_secs,
        tags=dict(sandbox.tags),
        created_at=sandbox.created_at,
        ended=sandbox.result is not None,
        app=workspace.apps[sandbox.app_id].name if sandbox.app_id in workspace.apps else "",
        argv=tuple(definition.entrypoint_args),
        workdir=definition.workdir,
        env_names=sandbox.env_names,
        volumes={mount.mount_path: _volume_name(workspace, mount.volume_id) for mount in definition.volume_mounts},
        regions=tuple(definition.scheduler_placement.regions),
        status=_status(sandbox),
        exit_code=None if sandbox.result is None else sandbox.result.exitcode,
    )


def _volume_name(workspace: Workspace, volume_id: str) -> str:
    volume = workspace.volumes.get(volume_id)
    return volume.name if volume is not None and volume.name else volume_id


def _status(sandbox: Sandbox) -> str:
    if sandbox.result is None:
        return "running" if sandbox.scheduled else "waiting"
    name = api_pb2.GenericResult.GenericStatus.Name(sandbox.result.status)
    return name.removeprefix("GENERIC_STATUS_").lower()


def records_of(core: Core, workspace: Workspace) -> list[SandboxRecord]:
    """Return every sandbox of a workspace with its output, the oldest first. In the emulator's loop."""
    return [_with_output(core, workspace, sandbox) for sandbox in workspace.sandboxes.values()]


def _with_output(core: Core, workspace: Workspace, sandbox: Sandbox) -> SandboxRecord:
    streams = core.sandboxes.machine(sandbox).output.streams
    stdout, stderr = (
        b"".join(chunk.data for chunk in streams[fd].available(0)).decode(errors="replace") for fd in (STDOUT, STDERR)
    )
    return replace(_record(workspace, sandbox), stdout=stdout, stderr=stderr)


def sandbox_records(emulator: HasWorkspace) -> list[SandboxRecord]:
    """Return every sandbox that was created, the oldest first."""
    workspace = emulator.workspace
    return [_record(workspace, sandbox) for sandbox in list(workspace.sandboxes.values())]
