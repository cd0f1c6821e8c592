"""Waiting for a sandbox to be ready."""

from __future__ import annotations

from grpclib import Status
from modal_proto import task_command_router_pb2 as router_pb2

from modalflow.emulator.router.access import TaskService
from modalflow.emulator.wire import Call, fail, unary


class Readiness(TaskService):
    """SandboxWaitUntilReady."""

    @unary
    async def SandboxWaitUntilReady(
        self, request: router_pb2.SandboxWaitUntilReadyTcrRequest, call: Call
    ) -> router_pb2.SandboxWaitUntilReadyTcrResponse:
        """Return once the readiness probe has succeeded; DEADLINE_EXCEEDED after ``timeout`` seconds."""
        machine = self.machine(call, request.task_id)
        if not machine.definition.HasField("readiness_probe"):
            fail(Status.INVALID_ARGUMENT, "Sandbox has no readiness probe; give one to Sandbox.create (readiness_probe)")
        await machine.wait_ready(request.timeout)
        if not machine.sandbox.ready_at and machine.finished.is_set():
            fail(Status.FAILED_PRECONDITION, "Sandbox has terminated before it was ready")
        if not machine.sandbox.ready_at:
            fail(Status.DEADLINE_EXCEEDED, f"Sandbox was not ready within {request.timeout:g} s")
        return router_pb2.SandboxWaitUntilReadyTcrResponse(ready_at=machine.sandbox.ready_at)
