"""Further processes in a sandbox: started, fed, read, waited for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from grpclib import Status
from modal_proto import task_command_router_pb2 as router_pb2

from modalflow.emulator.machines.execs import ExecOrder
from modalflow.emulator.machines.output import STDERR, STDOUT
from modalflow.emulator.machines.processes import Process
from modalflow.emulator.machines.terminals import terminal_of
from modalflow.emulator.router.access import TaskService, write
from modalflow.emulator.services.sandbox_checks import secrets_from
from modalflow.emulator.wire import Call, Stream, fail, streaming, unary

LONG_POLL_SECONDS = 55.0
OVERDUE_SECONDS = 1.0
"""How long the end of an exec that ran out of time is kept back. Its client's own deadline, set a moment after ours, passes
meanwhile, and with it ``wait`` and ``poll`` say -1 (modal 1.6.4, ``container_process.py``)."""


class Execs(TaskService):
    """TaskExec*."""

    @unary
    async def TaskExecStart(self, request: router_pb2.TaskExecStartRequest, call: Call) -> router_pb2.TaskExecStartResponse:
        """Start a process beside the main one; the same ``exec_id`` only once."""
        if not request.command_args:
            fail(Status.INVALID_ARGUMENT, "An exec needs a command: Sandbox.exec('echo', 'hi')")
        workload = await self.running(call, request.task_id, request.container_id)
        named = [dict(call.workspace.secrets[one].values) for one in request.secret_ids if one in call.workspace.secrets]
        order = ExecOrder(
            exec_id=request.exec_id,
            argv=list(request.command_args),
            secrets=[*named, *secrets_from(call.workspace, request.secret_sources), dict(request.env)],
            workdir=request.workdir,
            seconds=request.timeout_secs or None,
            terminal=terminal_of(request.pty_info),
            muted=_muted(request),
        )
        await self.core.execs.execute(workload, order)
        return router_pb2.TaskExecStartResponse()

    @streaming
    async def TaskExecStdioRead(
        self, request: router_pb2.TaskExecStdioReadRequest, call: Call
    ) -> AsyncIterator[router_pb2.TaskExecStdioReadResponse]:
        """Stream an output of an exec from ``offset`` on."""
        stderr = request.file_descriptor == router_pb2.TASK_EXEC_STDIO_FILE_DESCRIPTOR_STDERR
        process = self.process(call, request.task_id, request.exec_id)
        async for chunk in process.output.streams[STDERR if stderr else STDOUT].read(request.offset):
            yield router_pb2.TaskExecStdioReadResponse(data=chunk.data)

    @unary
    async def TaskExecStdinWrite(
        self, request: router_pb2.TaskExecStdinWriteRequest, call: Call
    ) -> router_pb2.TaskExecStdinWriteResponse:
        """Write to an exec's stdin at an offset."""
        process = self.process(call, request.task_id, request.exec_id)
        await write(process, request.offset, request.data, eof=request.eof)
        return router_pb2.TaskExecStdinWriteResponse()

    async def TaskExecStdinWriteStream(self, stream: Stream) -> None:
        """Write to an exec's stdin by a stream of messages: start, data, end."""
        call = self.call_of(stream)
        process: Process | None = None
        offset = 0
        async for message in stream:
            kind = message.WhichOneof("payload")
            if kind == "start":
                process = self.process(call, message.start.task_id, message.start.exec_id)
                offset = message.start.offset
            elif process is None:
                fail(Status.INVALID_ARGUMENT, "TaskExecStdinWriteStream must begin with a start message")
            elif kind == "data":
                await write(process, offset, message.data, eof=False)
                offset += len(message.data)
            else:
                await write(process, offset, b"", eof=True)
        await stream.send_message(router_pb2.TaskExecStdinWriteStreamResponse())

    @unary
    async def TaskExecStdinStatus(
        self, request: router_pb2.TaskExecStdinStatusRequest, call: Call
    ) -> router_pb2.TaskExecStdinStatusResponse:
        """Tell how much of stdin has arrived, for a client that resumes."""
        process = self.process(call, request.task_id, request.exec_id)
        return router_pb2.TaskExecStdinStatusResponse(num_bytes_written=process.stdin_offset, closed=process.stdin_closed)

    @unary
    async def TaskExecWait(self, request: router_pb2.TaskExecWaitRequest, call: Call) -> router_pb2.TaskExecWaitResponse:
        """Return how an exec ended; DEADLINE_EXCEEDED after a while, upon which the client asks again."""
        process = self.process(call, request.task_id, request.exec_id)
        done, _ = await asyncio.wait([process.exited], timeout=LONG_POLL_SECONDS)
        if not done:
            fail(Status.DEADLINE_EXCEEDED, "the exec is still running")
        await asyncio.sleep(_kept_back(process))
        end = process.exited.result()
        if end.signal:
            return router_pb2.TaskExecWaitResponse(signal=end.signal)
        return router_pb2.TaskExecWaitResponse(code=end.code)

    @unary
    async def TaskExecPoll(self, request: router_pb2.TaskExecPollRequest, call: Call) -> router_pb2.TaskExecPollResponse:
        """Return how an exec ended, or nothing while it runs."""
        process = self.process(call, request.task_id, request.exec_id)
        if not process.exited.done() or _kept_back(process):
            return router_pb2.TaskExecPollResponse()
        end = process.exited.result()
        if end.signal:
            return router_pb2.TaskExecPollResponse(signal=end.signal)
        return router_pb2.TaskExecPollResponse(code=end.code)


def _muted(request: router_pb2.TaskExecStartRequest) -> list[int]:
    """Return the outputs that the client does not want. It always says so; DEVNULL is also what a missing field reads as."""
    found = [STDOUT] if request.stdout_config == router_pb2.TASK_EXEC_STDOUT_CONFIG_DEVNULL else []
    return found + ([STDERR] if request.stderr_config == router_pb2.TASK_EXEC_STDERR_CONFIG_DEVNULL else [])


def _kept_back(process: Process) -> float:
    """Return for how many seconds more the end of the process is not told."""
    if process.overdue_at is None:
        return 0.0
    return max(0.0, process.overdue_at + OVERDUE_SECONDS - asyncio.get_running_loop().time())
