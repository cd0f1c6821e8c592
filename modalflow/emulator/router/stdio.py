"""Output and stdin of a V2 sandbox's main process."""

from __future__ import annotations

from collections.abc import AsyncIterator

from grpclib import Status
from modal_proto import task_command_router_pb2 as router_pb2

from modalflow.emulator.machines.output import STDERR, STDOUT
from modalflow.emulator.router.access import TaskService, write
from modalflow.emulator.wire import Call, fail, streaming, unary


class Stdio(TaskService):
    """SandboxStdioReadV2, SandboxStdinWriteV2."""

    @streaming
    async def SandboxStdioReadV2(
        self, request: router_pb2.SandboxStdioReadV2Request, call: Call
    ) -> AsyncIterator[router_pb2.SandboxStdioReadV2Response]:
        """Stream an output from ``offset`` on, until it ends; also after the sandbox did."""
        stderr = request.file_descriptor == router_pb2.SANDBOX_STDIO_FILE_DESCRIPTOR_STDERR
        stream = self.machine(call, request.task_id).output.streams[STDERR if stderr else STDOUT]
        async for chunk in stream.read(request.offset):
            yield router_pb2.SandboxStdioReadV2Response(data=chunk.data, starting_offset=chunk.offset)

    @unary
    async def SandboxStdinWriteV2(
        self, request: router_pb2.SandboxStdinWriteV2Request, call: Call
    ) -> router_pb2.SandboxStdinWriteV2Response:
        """Write to stdin at an offset; what is there already is skipped."""
        machine = self.machine(call, request.task_id)
        process = await machine.running_process()
        if process is None:
            fail(Status.FAILED_PRECONDITION, "Sandbox has already terminated")
        machine.activity.touch()
        await write(process, request.offset, request.data, eof=request.eof)
        return router_pb2.SandboxStdinWriteV2Response()
