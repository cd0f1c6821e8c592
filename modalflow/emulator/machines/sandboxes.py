"""The life of a sandbox: queue for a GPU, mount, start, end, commit, clean up.

Flows in: a checked ``Sandbox`` with its secrets, terminations, timeouts. Flows out: the sandbox's state in the store, its
processes, and Volumes committed before the end is told. The protocol in front of it is
``services.sandbox_create`` and ``services.sandbox_calls``.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import posixpath
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from modal_proto import api_pb2

from modalflow.emulator.clock import Clock
from modalflow.emulator.machines.buckets import Buckets
from modalflow.emulator.machines.containers import Container, ContainerSpec, Launcher
from modalflow.emulator.machines.environment import Toolbox, command_of, compose_env
from modalflow.emulator.machines.identity import identity_token
from modalflow.emulator.machines.mounts import Mount
from modalflow.emulator.machines.output import Output
from modalflow.emulator.machines.processes import Exit, Process
from modalflow.emulator.state.blobs import BlobStore
from modalflow.emulator.state.gpus import GpuRequest
from modalflow.emulator.state.image_layers import ImageSettings
from modalflow.emulator.state.store import Sandbox, Workspace
from modalflow.emulator.state.volume_tree import VolumeConflictError

_log = logging.getLogger(__name__)

Status = api_pb2.GenericResult

ENDED_OUTPUT_BYTES = 256 * 1024 * 1024
"""Output that is kept of all ended sandboxes together."""

REGION = "local"
CLOUD_PROVIDER = "CLOUD_PROVIDER_LOCAL"


@dataclass(eq=False)
class Machine:
    """The running side of one sandbox."""

    workspace: Workspace
    sandbox: Sandbox
    container: Container
    secrets: Sequence[Mapping[str, str]]
    gpu: GpuRequest | None
    mounts: list[Mount] = field(default_factory=list)
    env: dict[str, str] = field(default_factory=dict)
    output: Output = field(default_factory=Output)
    process: Process | None = None
    execs: dict[str, Process] = field(default_factory=dict)
    stdin_index: int = 0
    """Number of the last V1 stdin message."""
    verdict: api_pb2.GenericResult.GenericStatus.ValueType | None = None
    """Why we ended it, if we did."""
    scheduled_at: float = 0.0
    """When its time began to run (``Clock.monotonic``)."""
    left_queue: asyncio.Event = field(default_factory=asyncio.Event)
    """It has its GPU, or needs none, or was ended while it waited."""
    running: asyncio.Event = field(default_factory=asyncio.Event)
    """The main process was asked for, or never will be."""
    finished: asyncio.Event = field(default_factory=asyncio.Event)
    exec_lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    def condemn(self, verdict: api_pb2.GenericResult.GenericStatus.ValueType) -> None:
        """Say why it is being ended; the first reason stays."""
        if self.verdict is None:
            self.verdict = verdict

    def condemned(self) -> bool:
        """Whether it is being ended by us."""
        return self.verdict is not None

    async def wait(self, seconds: float) -> api_pb2.GenericResult | None:
        """Return the result, or ``None`` if it has not ended within that time."""
        if seconds > 0 and not self.finished.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self.finished.wait()
        return self.sandbox.result


class Sandboxes:
    """All machines of one emulator."""

    def __init__(
        self,
        *,
        launcher: Launcher,
        blobs: BlobStore,
        toolbox: Toolbox,
        volume_changed: Callable[[], None],
        sign: Callable[[str], str],
        buckets: Buckets,
        clock: Clock,
    ) -> None:
        self._launcher = launcher
        self._blobs = blobs
        self.toolbox = toolbox
        self._volume_changed = volume_changed
        self._sign = sign
        self._buckets = buckets
        self.clock = clock
        self._machines: dict[str, Machine] = {}
        self._by_task: dict[str, Machine] = {}
        self._ended_with_output: deque[Machine] = deque()
        self._ended_bytes = 0
        self._tasks: set[asyncio.Task[None]] = set()

    def machine(self, sandbox: Sandbox) -> Machine:
        """Return the machine of a sandbox that is in the store."""
        return self._machines[sandbox.sandbox_id]

    def machine_of_task(self, task_id: str) -> Machine | None:
        """Return the machine by task id, whatever its workspace: for ``sync``, which has no token."""
        return self._by_task.get(task_id)

    # -- start

    def launch(
        self, workspace: Workspace, sandbox: Sandbox, secrets: Sequence[Mapping[str, str]], gpu: GpuRequest | None
    ) -> Machine:
        """Take a sandbox in and begin its life. Returns at once."""
        container = self._launcher.container(_spec(sandbox))
        machine = Machine(workspace, sandbox, container, secrets, gpu)
        self._machines[sandbox.sandbox_id] = self._by_task[sandbox.task_id] = machine
        workspace.add_sandbox(sandbox)
        if gpu is None or workspace.gpus.acquire(sandbox.sandbox_id, gpu):
            self._schedule(machine)
        task = asyncio.create_task(self._live(machine), name=f"sandbox {sandbox.sandbox_id}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
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
        await self._furnish(machine)
        image = self._image(machine)
        if machine.condemned():  # terminated while it was being furnished
            return Exit(137)
        process = await machine.container.spawn(
            command_of(image, sandbox.definition.entrypoint_args),
            env=machine.env,
            workdir=sandbox.definition.workdir or image.workdir,
            main=True,
            output=machine.output,
        )
        machine.process = process
        machine.running.set()
        if machine.condemned():
            process.kill()
        limit = sandbox.definition.timeout_secs
        if not await self.clock.done_by(process.exited, machine.scheduled_at + limit if limit else None):
            machine.condemn(Status.GENERIC_STATUS_TIMEOUT)
            process.kill()
        return await process.exited

    def _image(self, machine: Machine) -> ImageSettings:
        image = machine.workspace.images.get(machine.sandbox.definition.image_id)
        return image.settings if image else ImageSettings()

    async def _furnish(self, machine: Machine) -> None:
        """Mount Volumes and buckets, open the container, compose the environment."""
        definition, container = machine.sandbox.definition, machine.container
        machine.mounts = [self._mount(machine, mount) for mount in definition.volume_mounts]
        buckets = {container.place(mount.mount_path): mount for mount in definition.cloud_bucket_mounts}
        folders = frozenset((*(mount.folder for mount in machine.mounts), *buckets))
        for mount in sorted(machine.mounts, key=lambda one: len(one.mount_path)):
            mount.nested = frozenset(one for one in folders if one != mount.folder and one.is_relative_to(mount.folder))
            await mount.materialise()
        for bucket in buckets.values():
            await asyncio.to_thread(self._buckets.mount, bucket, container)
        await container.open()
        machine.env = compose_env(
            image=self._image(machine),
            secrets=machine.secrets,
            own=self._own_env(machine),
            container=container,
            toolbox=self.toolbox,
        )

    def _mount(self, machine: Machine, wanted: api_pb2.VolumeMount) -> Mount:
        volume = machine.workspace.volumes[wanted.volume_id]
        return Mount(
            volume_id=wanted.volume_id,
            mount_path=posixpath.normpath(wanted.mount_path),
            folder=machine.container.mount_folder(wanted.mount_path),
            tree=volume.tree,
            base=wanted.sub_path,
            read_only=wanted.read_only,
            syncs=volume.version == api_pb2.VOLUME_FS_VERSION_V2,
            blobs=self._blobs,
            committed=self._volume_changed,
        )

    def _own_env(self, machine: Machine) -> dict[str, str]:
        sandbox = machine.sandbox
        own = {
            "MODAL_SANDBOX_ID": sandbox.sandbox_id,
            "MODAL_TASK_ID": sandbox.task_id,
            "MODAL_REGION": REGION,
            "MODAL_CLOUD_PROVIDER": CLOUD_PROVIDER,
            "MODAL_IMAGE_ID": sandbox.definition.image_id,
            "MODAL_ENVIRONMENT": machine.workspace.apps[sandbox.app_id].environment,
        }
        if sandbox.definition.include_oidc_identity_token:
            own["MODAL_IDENTITY_TOKEN"] = identity_token(machine.workspace, sandbox, self._sign)
        if machine.gpu:
            own["MODAL_EMULATOR_GPU"] = f"{machine.gpu.label}:{machine.gpu.count}"
        return own

    # -- end

    def terminate(self, machine: Machine) -> None:
        """End a sandbox now, wherever in its life it is. No effect on a finished one."""
        if machine.process is not None and machine.process.exited.done():
            return
        machine.condemn(Status.GENERIC_STATUS_TERMINATED)
        machine.left_queue.set()
        if machine.process is not None:
            machine.process.kill()

    async def _finish(self, machine: Machine, end: Exit) -> None:
        sandbox = machine.sandbox
        machine.output.end()
        failure = await self._commit_all(machine)
        await machine.container.close()
        machine.env = {}
        for starting in machine.workspace.gpus.release(sandbox.sandbox_id):
            self._schedule(self._machines[starting])
        machine.workspace.finish_sandbox(sandbox, self._result(machine, end, failure))
        machine.finished.set()
        machine.running.set()
        for old in machine.workspace.forgettable():
            machine.workspace.forget_sandbox(old)
            del self._machines[old.sandbox_id], self._by_task[old.task_id]
        self._bound_output(machine)

    def _bound_output(self, machine: Machine) -> None:
        """Keep the output of ended sandboxes within bounds: the oldest goes first."""
        kept = machine.output.kept
        if kept:
            self._ended_with_output.append(machine)
            self._ended_bytes += kept
        while self._ended_bytes > ENDED_OUTPUT_BYTES and len(self._ended_with_output) > 1:
            oldest = self._ended_with_output.popleft()
            self._ended_bytes -= oldest.output.kept
            oldest.output.drop()

    def _schedule(self, machine: Machine) -> None:
        machine.sandbox.scheduled = True
        machine.scheduled_at = self.clock.monotonic()
        machine.left_queue.set()

    @staticmethod
    async def _commit_all(machine: Machine) -> str:
        """Commit every mount; return what went wrong, if anything did."""
        problems = []
        for mount in machine.mounts:
            try:
                await mount.commit()
            except OSError as error:
                problems.append(f"Volume at {mount.mount_path} could not be committed: {error}")
        return "; ".join(problems)

    @staticmethod
    def _result(machine: Machine, end: Exit, failure: str) -> api_pb2.GenericResult:
        if machine.verdict == Status.GENERIC_STATUS_TIMEOUT:
            return Status(status=machine.verdict, exitcode=124, exception="Sandbox timed out")
        if machine.verdict == Status.GENERIC_STATUS_TERMINATED:
            return Status(status=machine.verdict, exitcode=137, exception="Sandbox was terminated")
        if machine.verdict is not None:
            return Status(status=machine.verdict, exitcode=end.code, exception=end.error)
        if failure:
            return Status(status=Status.GENERIC_STATUS_INTERNAL_FAILURE, exitcode=end.code, exception=failure)
        status = Status.GENERIC_STATUS_FAILURE if end.code else Status.GENERIC_STATUS_SUCCESS
        return Status(status=status, exitcode=end.code, exception=end.error)

    # -- while it runs

    async def running_process(self, machine: Machine) -> Process | None:
        """Return the main process once it was asked for; ``None`` if the sandbox ended without one."""
        await machine.running.wait()
        return machine.process

    async def execute(
        self,
        machine: Machine,
        exec_id: str,
        argv: Sequence[str],
        *,
        secrets: Sequence[Mapping[str, str]],
        workdir: str,
        seconds: float | None,
    ) -> Process:
        """Start a further process in a running sandbox; the same ``exec_id`` is started once and killed after ``seconds``."""
        async with machine.exec_lock:
            if exec_id not in machine.execs:
                process = await self._start_exec(machine, argv, secrets, workdir)
                machine.execs[exec_id] = process
                if seconds:
                    task = asyncio.create_task(self._limit(process, seconds), name=f"exec {exec_id}")
                    self._tasks.add(task)
                    task.add_done_callback(self._tasks.discard)
            return machine.execs[exec_id]

    async def _start_exec(
        self, machine: Machine, argv: Sequence[str], secrets: Sequence[Mapping[str, str]], workdir: str
    ) -> Process:
        env = dict(machine.env)
        for secret in secrets:
            env.update({name: machine.container.text(value) for name, value in secret.items()})
        folder = workdir or machine.sandbox.definition.workdir or self._image(machine).workdir
        return await machine.container.spawn(argv, env=env, workdir=folder, main=False, output=Output())

    async def _limit(self, process: Process, seconds: float) -> None:
        if not await self.clock.done_by(process.exited, self.clock.monotonic() + seconds):
            process.kill()

    async def sync(self, machine: Machine, paths: Sequence[str]) -> bool:
        """Commit the version 2 Volumes at or around ``paths`` (all if there are none); whether there was one."""
        chosen = [mount for mount in machine.mounts if mount.syncs and self._concerns(machine, mount, paths)]
        for mount in chosen:
            await mount.commit()
        return bool(chosen)

    @staticmethod
    def _concerns(machine: Machine, mount: Mount, paths: Sequence[str]) -> bool:
        for path in paths:
            inside = machine.container.inside(path)
            if inside.is_relative_to(mount.folder) or mount.folder.is_relative_to(inside):
                return True
        return not paths

    async def stop(self) -> None:
        """End every sandbox and return when all is committed and cleaned up."""
        for machine in self._machines.values():
            self.terminate(machine)
        if self._tasks:
            await asyncio.wait(self._tasks)


def _spec(sandbox: Sandbox) -> ContainerSpec:
    resources = sandbox.definition.resources
    return ContainerSpec(
        container_id=sandbox.task_id,
        milli_cpu=resources.milli_cpu_max or resources.milli_cpu,
        memory_mb=resources.memory_mb_max,
    )
