"""The task command router: V2 stdio, exec with its stdio, Volume reload. It runs on the control plane's port.

Flows in: requests with the bearer token that the control plane minted. Flows out: bytes of ``output``, processes of
``sandboxes``.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from grpclib import Status
from modal_proto import task_command_router_pb2 as router_pb2
from modal_proto.task_command_router_grpc import TaskCommandRouterBase

from modalflow.emulator.machines.output import STDERR, STDOUT
from modalflow.emulator.machines.processes import Process, StdinClosedError, StdinOffsetError
from modalflow.emulator.machines.sandboxes import Machine
from modalflow.emulator.services.sandbox_create import secrets_from
from modalflow.emulator.wire import Call, Service, Stream, complete, fail, partial, streaming, unary

LONG_POLL_SECONDS = 55.0


class CommandRouter(Service):
    """SandboxStdioReadV2, SandboxStdinWriteV2, TaskExec*, TaskReloadVolumes."""

    def _machine(self, call: Call, task_id: str) -> Machine:
        sandbox = call.workspace.tasks.get(task_id)
        if sandbox is None:
            fail(Status.NOT_FOUND, f"Task '{task_id}' not found")
        return self.core.sandboxes.machine(sandbox)

    def _exec(self, call: Call, task_id: str, exec_id: str) -> Process:
        machine = self._machine(call, task_id)
        if exec_id not in machine.execs:
            fail(Status.NOT_FOUND, f"Exec '{exec_id}' not found")
        return machine.execs[exec_id]

    # -- the main process

    @streaming
    async def SandboxStdioReadV2(
        self, request: router_pb2.SandboxStdioReadV2Request, call: Call
    ) -> AsyncIterator[router_pb2.SandboxStdioReadV2Response]:
        """Stream an output from ``offset`` on, until it ends; also after the sandbox did."""
        stderr = request.file_descriptor == router_pb2.SANDBOX_STDIO_FILE_DESCRIPTOR_STDERR
        stream = self._machine(call, request.task_id).output.streams[STDERR if stderr else STDOUT]
        async for chunk in stream.read(request.offset):
            yield router_pb2.SandboxStdioReadV2Response(data=chunk.data, starting_offset=chunk.offset)

    @unary
    async def SandboxStdinWriteV2(
        self, request: router_pb2.SandboxStdinWriteV2Request, call: Call
    ) -> router_pb2.SandboxStdinWriteV2Response:
        """Write to stdin at an offset; what is there already is skipped."""
        process = await self.core.sandboxes.running_process(self._machine(call, request.task_id))
        if process is None:
            fail(Status.FAILED_PRECONDITION, "Sandbox has already terminated")
        await _write(process, request.offset, request.data, eof=request.eof)
        return router_pb2.SandboxStdinWriteV2Response()

    # -- exec

    @partial("a PTY, sidecars")
    @unary
    async def TaskExecStart(self, request: router_pb2.TaskExecStartRequest, call: Call) -> router_pb2.TaskExecStartResponse:
        """Start a process beside the main one; the same ``exec_id`` only once."""
        if request.container_id:
            fail(Status.UNIMPLEMENTED, "TaskExecStart in a sidecar is not implemented by the modalflow emulator")
        machine = self._machine(call, request.task_id)
        if await self.core.sandboxes.running_process(machine) is None or machine.finished.is_set():
            fail(Status.FAILED_PRECONDITION, "Sandbox has already terminated")
        named = [dict(call.workspace.secrets[one].values) for one in request.secret_ids if one in call.workspace.secrets]
        await self.core.sandboxes.execute(
            machine,
            request.exec_id,
            list(request.command_args),
            secrets=[*named, *secrets_from(call.workspace, request.secret_sources), dict(request.env)],
            workdir=request.workdir,
            seconds=request.timeout_secs or None,
        )
        return router_pb2.TaskExecStartResponse()

    @streaming
    async def TaskExecStdioRead(
        self, request: router_pb2.TaskExecStdioReadRequest, call: Call
    ) -> AsyncIterator[router_pb2.TaskExecStdioReadResponse]:
        """Stream an output of an exec from ``offset`` on."""
        stderr = request.file_descriptor == router_pb2.TASK_EXEC_STDIO_FILE_DESCRIPTOR_STDERR
        process = self._exec(call, request.task_id, request.exec_id)
        async for chunk in process.output.streams[STDERR if stderr else STDOUT].read(request.offset):
            yield router_pb2.TaskExecStdioReadResponse(data=chunk.data)

    @unary
    async def TaskExecStdinWrite(
        self, request: router_pb2.TaskExecStdinWriteRequest, call: Call
    ) -> router_pb2.TaskExecStdinWriteResponse:
        """Write to an exec's stdin at an offset."""
        process = self._exec(call, request.task_id, request.exec_id)
        await _write(process, request.offset, request.data, eof=request.eof)
        return router_pb2.TaskExecStdinWriteResponse()

    async def TaskExecStdinWriteStream(self, stream: Stream) -> None:
        """Write to an exec's stdin by a stream of messages: start, data, end."""
        call = self.call_of(stream)
        process: Process | None = None
        offset = 0
        async for message in stream:
            kind = message.WhichOneof("payload")
            if kind == "start":
                process = self._exec(call, message.start.task_id, message.start.exec_id)
                offset = message.start.offset
            elif process is None:
                fail(Status.INVALID_ARGUMENT, "TaskExecStdinWriteStream must begin with a start message")
            elif kind == "data":
                await _write(process, offset, message.data, eof=False)
                offset += len(message.data)
            else:
                await _write(process, offset, b"", eof=True)
        await stream.send_message(router_pb2.TaskExecStdinWriteStreamResponse())

    @unary
    async def TaskExecStdinStatus(
        self, request: router_pb2.TaskExecStdinStatusRequest, call: Call
    ) -> router_pb2.TaskExecStdinStatusResponse:
        """Tell how much of stdin has arrived, for a client that resumes."""
        process = self._exec(call, request.task_id, request.exec_id)
        return router_pb2.TaskExecStdinStatusResponse(num_bytes_written=process.stdin_offset, closed=process.stdin_closed)

    @unary
    async def TaskExecWait(self, request: router_pb2.TaskExecWaitRequest, call: Call) -> router_pb2.TaskExecWaitResponse:
        """Return how an exec ended; DEADLINE_EXCEEDED after a while, upon which the client asks again."""
        process = self._exec(call, request.task_id, request.exec_id)
        done, _ = await asyncio.wait([process.exited], timeout=LONG_POLL_SECONDS)
        if not done:
            fail(Status.DEADLINE_EXCEEDED, "the exec is still running")
        end = process.exited.result()
        if end.signal:
            return router_pb2.TaskExecWaitResponse(signal=end.signal)
        return router_pb2.TaskExecWaitResponse(code=end.code)

    @unary
    async def TaskExecPoll(self, request: router_pb2.TaskExecPollRequest, call: Call) -> router_pb2.TaskExecPollResponse:
        """Return how an exec ended, or nothing while it runs."""
        process = self._exec(call, request.task_id, request.exec_id)
        if not process.exited.done():
            return router_pb2.TaskExecPollResponse()
        end = process.exited.result()
        if end.signal:
            return router_pb2.TaskExecPollResponse(signal=end.signal)
        return router_pb2.TaskExecPollResponse(code=end.code)

    # -- volumes

    @unary
    async def TaskReloadVolumes(
        self, request: router_pb2.TaskReloadVolumesRequest, call: Call
    ) -> router_pb2.TaskReloadVolumesResponse:
        """Show the sandbox what others have committed to its Volumes; its own changes are committed first."""
        machine = self._machine(call, request.task_id)
        if machine.finished.is_set():
            fail(Status.FAILED_PRECONDITION, "Sandbox has already terminated")
        await self.core.sandboxes.running_process(machine)
        for mount in machine.mounts:
            await mount.reload()
        return router_pb2.TaskReloadVolumesResponse()


async def _write(process: Process, offset: int, data: bytes, *, eof: bool) -> None:
    try:
        await process.write_stdin(offset, data, eof=eof)
    except (StdinClosedError, StdinOffsetError) as error:
        fail(Status.FAILED_PRECONDITION, f"stdin cannot be written: {error}")


CommandRouterService = complete(CommandRouter, TaskCommandRouterBase)
"""``CommandRouter`` with every other RPC answering UNIMPLEMENTED."""
