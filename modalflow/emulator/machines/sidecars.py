"""Sidecars: further containers of a sandbox, each with a root, processes and mounts of its own, that end with it.

Flows in: a name and a definition. Flows out: ``Sidecar`` records in their ``Machine``, kept after their end until the sandbox is
forgotten. ``sandboxes`` ends them before it cleans up; the wire in front: ``router.sidecars``, ``services.sandbox_sidecars``.
"""

from __future__ import annotations

import asyncio
import logging
import secrets as secrets_module
from collections.abc import Callable, Mapping, Sequence

from modal_proto import api_pb2

from modalflow.emulator.machines.containers import Launcher
from modalflow.emulator.machines.furnishing import Furnisher
from modalflow.emulator.machines.machine import SIDECAR_MARK, Machine, Sidecar
from modalflow.emulator.machines.output import EndedOutputs
from modalflow.emulator.machines.processes import Exit
from modalflow.emulator.machines.results import result_of
from modalflow.emulator.machines.starting import own_env, spec_of, start
from modalflow.emulator.state.volume_tree import VolumeConflictError

_log = logging.getLogger(__name__)

Status = api_pb2.GenericResult


class Sidecars:
    """Starts and ends the sidecars of one emulator."""

    def __init__(self, *, launcher: Launcher, furnisher: Furnisher, sign: Callable[[str], str], outputs: EndedOutputs) -> None:
        self._launcher = launcher
        self._outputs = outputs
        self._furnisher = furnisher
        self._sign = sign
        self._tasks: set[asyncio.Task[None]] = set()

    def create(self, machine: Machine, name: str, definition: api_pb2.Sandbox, secrets: Sequence[Mapping[str, str]]) -> Sidecar:
        """Take in a sidecar of a running sandbox and begin its life. Returns at once."""
        container_id = f"{machine.sandbox.sandbox_id}{SIDECAR_MARK}{secrets_module.token_hex(8)}"
        sidecar = Sidecar(
            workspace=machine.workspace,
            definition=definition,
            container=self._launcher.container(
                spec_of(container_id, definition, machine.network, self._furnisher.stack(machine.workspace, definition))
            ),
            secrets=secrets,
            activity=machine.activity,
            container_id=container_id,
            name=name,
        )
        machine.sidecars[container_id] = sidecar
        task = asyncio.create_task(self._live(machine, sidecar), name=f"sidecar {container_id}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return sidecar

    async def _live(self, machine: Machine, sidecar: Sidecar) -> None:
        try:
            process = await start(sidecar, self._furnisher, own_env(machine, sidecar, self._sign))
            end = await process.exited if process else Exit(137)
        except (OSError, VolumeConflictError) as error:
            end = Exit(1, error=f"the sidecar could not be set up: {error}")
            sidecar.condemn(Status.GENERIC_STATUS_INIT_FAILURE)
        except Exception as error:
            # A sidecar that never ends would hang its sandbox and its client: tell it, and the log, that the fault is ours.
            _log.exception("sidecar %s", sidecar.container_id)
            end = Exit(1, error=f"the emulator failed: {error!r}")
            sidecar.condemn(Status.GENERIC_STATUS_INTERNAL_FAILURE)
        finally:
            sidecar.secrets = ()
        sidecar.output.end()
        failure = await sidecar.commit_all()
        await sidecar.container.close()
        sidecar.mounts, sidecar.env = [], {}
        self._outputs.keep(sidecar.output)
        sidecar.result = result_of(sidecar.verdict, end, failure)
        sidecar.finished.set()
        sidecar.running.set()
