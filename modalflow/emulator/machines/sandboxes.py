"""The life of a sandbox: queue for what it requests, mount, start, end, commit, clean up.

Flows in: a checked ``Sandbox`` with its secrets, terminations, timeouts. Flows out: the sandbox's state in the store, its
processes, and Volumes committed before the end is told. The protocol in front of it is ``services.sandbox_create`` and
``services.sandbox_calls``.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence

from modal_proto import api_pb2

from modalflow.emulator.clock import Clock
from modalflow.emulator.machines.activity import Activity
from modalflow.emulator.machines.containers import Launcher
from modalflow.emulator.machines.execs import Execs
from modalflow.emulator.machines.furnishing import Furnisher
from modalflow.emulator.machines.ingress import Ingress
from modalflow.emulator.machines.machine import Machine
from modalflow.emulator.machines.networks import Networks, access_of
from modalflow.emulator.machines.output import EndedOutputs
from modalflow.emulator.machines.probes import probe
from modalflow.emulator.machines.processes import Exit, Process
from modalflow.emulator.machines.results import result_of
from modalflow.emulator.machines.scheduling import Scheduler
from modalflow.emulator.machines.starting import own_env, spec_of, start
from modalflow.emulator.state.conditions import Weather
from modalflow.emulator.state.gpus import GpuRequest
from modalflow.emulator.state.store import Sandbox, Workspace
from modalflow.emulator.state.volume_tree import VolumeConflictError

_log = logging.getLogger(__name__)

Status = api_pb2.GenericResult

_LOST = Status(
    status=Status.GENERIC_STATUS_TERMINATED, exitcode=137, exception="Sandbox was terminated: the emulator that ran it has ended"
)


class Sandboxes:
    """All machines of one emulator."""

    def __init__(
        self,
        *,
        launcher: Launcher,
        networks: Networks,
        ingress: Ingress,
        furnisher: Furnisher,
        execs: Execs,
        sign: Callable[[str], str],
        clock: Clock,
        changed: Callable[..., None],
        weather: Weather,
        outputs: EndedOutputs,
    ) -> None:
        self._launcher = launcher
        self._networks = networks
        self._ingress = ingress
        self._furnisher = furnisher
        self._execs = execs
        self._changed = changed
        self._outputs = outputs
        self._sign = sign
        self.clock = clock
        self.scheduler = Scheduler(clock, weather, self.sentence)
        self._machines: dict[str, Machine] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def machine(self, sandbox: Sandbox) -> Machine:
        """Return the machine of a sandbox that is in the store."""
        return self._machines[sandbox.sandbox_id]

    # -- start

    def launch(
        self, workspace: Workspace, sandbox: Sandbox, secrets: Sequence[Mapping[str, str]], gpu: GpuRequest | None
    ) -> Machine:
        """Take a sandbox in and begin its life. Returns at once."""
        machine = self._machine_for(workspace, sandbox, secrets, gpu)
        workspace.add_sandbox(sandbox)
        self.scheduler.enter(machine)
        task = asyncio.create_task(self._live(machine), name=f"sandbox {sandbox.sandbox_id}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            self._changed(workspace, sandbox)
        except OSError:  # the client will not hear of it, so nobody would end it
            self.terminate(machine)
            raise
        return machine

    def recall(self, workspace: Workspace) -> None:
        """Take in the sandboxes of an earlier emulator, whose state was read back. Those that ran then were ended with it."""
        for sandbox in list(workspace.sandboxes.values()):
            machine = self._machine_for(workspace, sandbox, (), None)
            machine.output.end()
            for event in (machine.left_queue, machine.running, machine.finished, machine.ready):
                event.set()
            machine.result = sandbox.result or _LOST
            if sandbox.result is None:
                workspace.finish_sandbox(sandbox, _LOST)
                self._changed(workspace, sandbox)

    def _machine_for(
        self, workspace: Workspace, sandbox: Sandbox, secrets: Sequence[Mapping[str, str]], gpu: GpuRequest | None
    ) -> Machine:
        network = self._networks.network(access_of(sandbox.definition))
        machine = Machine(
            container_id=sandbox.task_id,
            workspace=workspace,
            definition=sandbox.definition,
            container=self._launcher.container(
                spec_of(sandbox.task_id, sandbox.definition, network, self._furnisher.stack(workspace, sandbox.definition))
            ),
            secrets=secrets,
            activity=Activity(self.clock),
            sandbox=sandbox,
            gpu=gpu,
            network=network,
        )
        self._machines[sandbox.sandbox_id] = machine
        return machine

    async def _live(self, machine: Machine) -> None:
        try:
            await machine.left_queue.wait()
            end = Exit(137) if machine.condemned() else await self._run(machine)
        except (OSError, VolumeConflictError) as error:
            end = Exit(1, error=f"the sandbox could not be set up: {error}")
            machine.condemn(Status.GENERIC_STATUS_INIT_FAILURE)
        except Exception as error:
            # A sandbox that never ends would hang its client: tell it, and the log, that the fault is ours.
            _log.exception("sandbox %s", machine.sandbox.sandbox_id)
            end = Exit(1, error=f"the emulator failed: {error!r}")
            machine.condemn(Status.GENERIC_STATUS_INTERNAL_FAILURE)
        finally:
            machine.secrets = ()
        await self._finish(machine, end)

    async def _run(self, machine: Machine) -> Exit:
        sandbox = machine.sandbox
        sandbox.started_at = self.clock.time()
        await machine.network.open()
        process = await start(machine, self._furnisher, own_env(machine, machine, self._sign))
        if process is None:  # terminated while it was being furnished
            return Exit(137)
        return await self._until_end(machine, process)

    async def _until_end(self, machine: Machine, process: Process) -> Exit:
        """Return the main process's end; bring it about when the sandbox's time is over or it has been idle too long."""
        machine.activity.touch()
        companions = []
        if seconds := machine.definition.idle_timeout_secs:
            companions.append(asyncio.create_task(_end_when_idle(machine, seconds), name=f"idle {machine.sandbox.sandbox_id}"))
        if machine.definition.HasField("readiness_probe"):
            companions.append(asyncio.create_task(probe(machine, self.clock), name=f"probe {machine.sandbox.sandbox_id}"))
        try:
            limit = machine.definition.timeout_secs
            if not await self.clock.done_by(process.exited, machine.scheduled_at + limit if limit else None):
                machine.end(Status.GENERIC_STATUS_TIMEOUT)
            return await process.exited
        finally:
            for companion in companions:
                companion.cancel()
            for failure in await asyncio.gather(*companions, return_exceptions=True):
                if isinstance(failure, Exception):
                    _log.error("sandbox %s", machine.sandbox.sandbox_id, exc_info=failure)

    # -- end

    def terminate(self, machine: Machine) -> None:
        """End a sandbox now, wherever in its life it is. No effect on a finished one."""
        machine.end(Status.GENERIC_STATUS_TERMINATED)
        machine.left_queue.set()

    def sentence(self, machine: Machine, result: api_pb2.GenericResult) -> None:
        """End a sandbox now, wherever in its life it is, with that result. No effect on a finished one."""
        if machine.process is not None and machine.process.exited.done():
            return
        machine.sentence = machine.sentence or result
        machine.end(result.status)
        machine.left_queue.set()

    async def _finish(self, machine: Machine, end: Exit) -> None:
        sandbox = machine.sandbox
        machine.output.end()
        await machine.end_sidecars()
        failure = await machine.commit_all()
        await self._ingress.close(sandbox.task_id)
        machine.used = machine.container.usage()
        await machine.container.close()
        await machine.network.close()
        machine.mounts, machine.env = [], {}
        self.scheduler.leave(machine)
        machine.result = machine.sentence or result_of(machine.verdict, end, failure)
        machine.workspace.finish_sandbox(sandbox, machine.result)
        forgotten = machine.workspace.forgettable()
        for old in forgotten:
            machine.workspace.forget_sandbox(old)
            del self._machines[old.sandbox_id]
        try:
            self._changed(machine.workspace, sandbox, *forgotten)
        except OSError:  # it has ended all the same, and whoever waits is to hear of it
            _log.exception("sandbox %s: its end could not be kept", sandbox.sandbox_id)
        machine.finished.set()
        machine.running.set()
        machine.ready.set()
        self._outputs.keep(machine.output)

    def forget(self, workspace: Workspace) -> None:
        """Drop the machines of a workspace whose sandboxes have all ended."""
        for sandbox in workspace.sandboxes.values():
            machine = self._machines.pop(sandbox.sandbox_id)
            for output in (
                machine.output,
                *(sidecar.output for sidecar in machine.sidecars.values()),
                *(process.output for process in machine.execs.values()),
            ):
                self._outputs.forget(output)

    async def stop(self) -> None:
        """End every sandbox and return when all is committed and cleaned up."""
        for machine in self._machines.values():
            self.terminate(machine)
        if self._tasks:
            await asyncio.wait(self._tasks)
        await self._execs.stop()


async def _end_when_idle(machine: Machine, seconds: float) -> None:
    await machine.activity.idle(seconds)
    machine.end(Status.GENERIC_STATUS_IDLE_TIMEOUT)
