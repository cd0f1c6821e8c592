"""How the command router finds what a request is about: the sandbox by task id, one of its processes by exec id."""

from __future__ import annotations

from grpclib import Status

from modalflow.emulator.machines.machine import Machine
from modalflow.emulator.machines.processes import Process, StdinClosedError, StdinOffsetError
from modalflow.emulator.machines.workloads import Workload
from modalflow.emulator.wire import Call, Service, fail


class TaskService(Service):
    """Base of every mixin of the router."""

    def machine(self, call: Call, task_id: str) -> Machine:
        """Return the sandbox of a task; NOT_FOUND if there is none in this workspace, or the token is for another."""
        sandbox = call.workspace.tasks.get(task_id) if task_id == call.task_id else None
        if sandbox is None:
            fail(Status.NOT_FOUND, f"Task '{task_id}' not found")
        return self.core.sandboxes.machine(sandbox)

    async def running(self, call: Call, task_id: str, container_id: str = "") -> Workload:
        """Return a container of a task once it runs; NOT_FOUND if there is none or it has ended, as the client expects."""
        machine = self.machine(call, task_id)
        workload: Workload = machine
        if container_id not in ("", machine.container_id):
            if container_id not in machine.sidecars:
                fail(Status.NOT_FOUND, f"Container '{container_id}' not found")
            workload = machine.sidecars[container_id]
        if await workload.running_process() is None or workload.over:
            fail(Status.NOT_FOUND, f"{'Sandbox' if workload is machine else 'Container'} has already terminated")
        return workload

    def process(self, call: Call, task_id: str, exec_id: str) -> Process:
        """Return an exec of any container of a task; NOT_FOUND if there is none."""
        machine = self.machine(call, task_id)
        found = (one.execs[exec_id] for one in (machine, *machine.sidecars.values()) if exec_id in one.execs)
        process = next(found, None)
        if process is None:
            fail(Status.NOT_FOUND, f"Exec '{exec_id}' not found")
        return process


async def write(process: Process, offset: int, data: bytes, *, eof: bool) -> None:
    """Write to a process's stdin; FAILED_PRECONDITION if it does not read any more or bytes are missing in between."""
    try:
        await process.write_stdin(offset, data, eof=eof)
    except (StdinClosedError, StdinOffsetError) as error:
        fail(Status.FAILED_PRECONDITION, f"stdin cannot be written: {error}")
