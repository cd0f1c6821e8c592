"""An emulator in a process of its own, and the least that can call it: what the emulator's benchmarks have in common.

The calls are those of the modal client 1.6.4, by its stubs, so that what is measured is the emulator.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

_SERVE = """
import json, os, resource, sys
from modalflow.emulator import EmulatorConfig, EmulatorThread
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
with EmulatorThread(EmulatorConfig(**json.loads(sys.argv[1]))) as emulator:
    print(json.dumps([os.getpid(), emulator.environment()]), flush=True)
    sys.stdin.read()
"""


@contextlib.contextmanager
def emulator_process(settings: Mapping[str, object]) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield the process id and the environment of an emulator. ``settings``: of ``EmulatorConfig``, as JSON can hold them."""
    server = subprocess.Popen(
        [sys.executable, "-c", _SERVE, json.dumps(settings)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert server.stdout is not None
    try:
        pid, environment = json.loads(server.stdout.readline())
        yield pid, environment
    finally:
        server.communicate(timeout=60)


@dataclass(frozen=True, kw_only=True)
class Created:
    """A sandbox, and how to reach its command router."""

    sandbox_id: str
    task_id: str
    jwt: str


class Client:
    """One connection, to the control plane and the command router behind the same port."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        """Connect on first use."""
        from grpclib.client import Channel
        from modal_proto.api_grpc import ModalClientStub
        from modal_proto.task_command_router_grpc import TaskCommandRouterStub

        host, _, port = environment["MODAL_SERVER_URL"].rpartition("/")[2].rpartition(":")
        self._metadata = {
            "x-modal-client-version": "1.6.4",
            "x-modal-client-type": "1",
            "x-modal-token-id": environment["MODAL_TOKEN_ID"],
            "x-modal-token-secret": environment["MODAL_TOKEN_SECRET"],
        }
        self._environment = environment
        self._channel = Channel(host, int(port))
        self._stub: Any = ModalClientStub(self._channel)
        self._router: Any = TaskCommandRouterStub(self._channel)

    def another(self) -> Client:
        """Return another client of the same emulator."""
        return Client(self._environment)

    async def call(self, method: str, request: Any) -> Any:
        """Make one unary call."""
        return await getattr(self._stub, method)(request, metadata=self._metadata)

    async def app(self) -> str:
        """Return the id of the App that the sandboxes belong to."""
        from modal_proto import api_pb2

        request = api_pb2.AppGetOrCreateRequest(
            app_name="bench", object_creation_type=api_pb2.OBJECT_CREATION_TYPE_CREATE_IF_MISSING
        )
        return str((await self.call("AppGetOrCreate", request)).app_id)

    async def create(self, app_id: str, argv: list[str]) -> Created:
        """Create a V2 sandbox."""
        from modal_proto import api_pb2

        definition = api_pb2.Sandbox(entrypoint_args=argv, timeout_secs=600)
        reply = await self.call("SandboxCreateV2", api_pb2.SandboxCreateV2Request(app_id=app_id, definition=definition))
        return Created(sandbox_id=reply.sandbox_id, task_id=reply.task_id, jwt=reply.command_router_access.jwt)

    async def wait(self, sandbox_id: str, *, poll_seconds: float = 10.0) -> int:
        """Wait for a sandbox to end, by long polls, and return its exit code."""
        from modal_proto import api_pb2

        request = api_pb2.SandboxWaitRequest(sandbox_id=sandbox_id, timeout=poll_seconds)
        while True:
            reply = await self.call("SandboxWaitV2", request)
            if reply.result.status:
                return int(reply.result.exitcode)

    async def terminate(self, sandbox_id: str) -> None:
        """End a sandbox."""
        from modal_proto import api_pb2

        await self.call("SandboxTerminateV2", api_pb2.SandboxTerminateRequest(sandbox_id=sandbox_id))

    async def running(self, app_id: str) -> list[str]:
        """Return the ids of up to a page of running sandboxes."""
        from modal_proto import api_pb2

        reply = await self.call("SandboxListV2", api_pb2.SandboxListRequest(app_id=app_id))
        return [one.id for one in reply.sandboxes]

    async def read_output(self, sandbox: Created) -> None:
        """Read the sandbox's stdout to its end."""
        from modal_proto import task_command_router_pb2 as router_pb2

        request = router_pb2.SandboxStdioReadV2Request(
            task_id=sandbox.task_id, file_descriptor=router_pb2.SANDBOX_STDIO_FILE_DESCRIPTOR_STDOUT
        )
        async with self._router.SandboxStdioReadV2.open(metadata=self._bearer(sandbox)) as stream:
            await stream.send_message(request, end=True)
            async for _ in stream:
                pass

    async def execute(self, sandbox: Created, exec_id: str, argv: list[str]) -> None:
        """Start a process in the sandbox and read its output to its end."""
        from modal_proto import task_command_router_pb2 as router_pb2

        start = router_pb2.TaskExecStartRequest(task_id=sandbox.task_id, exec_id=exec_id, command_args=argv)
        await self._router.TaskExecStart(start, metadata=self._bearer(sandbox))
        request = router_pb2.TaskExecStdioReadRequest(
            task_id=sandbox.task_id, exec_id=exec_id, file_descriptor=router_pb2.TASK_EXEC_STDIO_FILE_DESCRIPTOR_STDOUT
        )
        async with self._router.TaskExecStdioRead.open(metadata=self._bearer(sandbox)) as stream:
            await stream.send_message(request, end=True)
            async for _ in stream:
                pass

    @staticmethod
    def _bearer(sandbox: Created) -> dict[str, str]:
        return {"authorization": f"Bearer {sandbox.jwt}"}

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()
