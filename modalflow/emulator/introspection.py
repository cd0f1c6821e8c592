"""What clients asked for, in plain data: the record that tests and the demo read.

Flows in: an emulator of this process. Flows out: one ``SandboxRecord`` per sandbox, ended ones included.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

from modalflow.emulator.state.store import Sandbox, Workspace


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
    )


def sandbox_records(emulator: HasWorkspace) -> list[SandboxRecord]:
    """Return every sandbox that was created, the oldest first."""
    workspace = emulator.workspace
    return [_record(workspace, sandbox) for sandbox in list(workspace.sandboxes.values())]
