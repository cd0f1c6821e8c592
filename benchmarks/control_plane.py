"""A control plane that starts no processes: what an executor costs by itself, at sizes that no machine could run.

A stub of Modal's gRPC service, built on the installed protocol (modal 1.6.4), in a process of its own: a sandbox is a record that
runs until it is told to end. Run as ``python -m benchmarks.control_plane '{"latency": 0.05}'`` it prints its process id and the
environment of its clients, and takes commands as JSON lines on stdin (``Commands``); ``ControlPlaneProcess`` does all that. For
what sandboxes really do there is the emulator. A handler is a coroutine named as its RPC: subclasses add theirs.
"""

from __future__ import annotations

import asyncio
import bisect
import json
import os
import random
import resource
import subprocess
import sys
import time
import uuid
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self, TypedDict

TOKEN = {"MODAL_TOKEN_ID": "ak-model", "MODAL_TOKEN_SECRET": "as-model"}
EVERYBODY_KNOWS = 10.0
"""Seconds after which a long poll answers that the sandbox still runs, at the latest."""
BEAT = 0.02
"""Seconds between two looks at how many sandboxes are due to end."""
OLDEST_KEPT = 100_000
"""Ended sandboxes whose results are kept."""
TOKEN_LIFE = 86_400
COMPACTION = 1_000
"""Ended sandboxes in the order of creation after which they are taken out of it."""


class Settings(TypedDict, total=False):
    """``latency``: seconds before each answer. ``page``: sandboxes a page of a listing. ``lifetime``: seconds a sandbox runs."""

    latency: float
    page: int
    lifetime: float


class Commands(TypedDict, total=False):
    """What may stand in a line on stdin; one line of JSON answers.

    ``end_per_second``: end that many running sandboxes a second from now on, drawn at random. ``end_all``: end all that run.
    ``create``: that many sandboxes run from now on, as if an earlier scheduler had launched them: ``launch_of`` names them.
    """

    create: int

    end_per_second: float
    end_all: bool


@dataclass(slots=True)
class Record:
    """One sandbox."""

    sandbox_id: str
    created_at: float
    request: Any
    ended: bool = False
    waiting: list[asyncio.Future[None]] = field(default_factory=list)


class ControlPlane:
    """State and handlers. Everything is answered with success."""

    def __init__(self, settings: Settings) -> None:
        """Start with nothing."""
        from modal_proto import api_pb2

        self.pb: Any = api_pb2
        self.counts: Counter[str] = Counter()
        self.latency = settings.get("latency", 0.0)
        self.page = settings.get("page", 100)
        self.lifetime = settings.get("lifetime")
        self.records: dict[str, Record] = {}
        self.by_name: dict[str, Record] = {}
        self.order: list[Record] = []
        self.running: list[Record] = []
        self.places: dict[str, int] = {}
        self.gone: deque[Record] = deque()
        self.ended_in_order = 0
        self.end_rate = 0.0
        self.due = 0.0
        self.draw = random.Random(6)
        self.number = 0
        self.last_created = 0.0

    def __mapping__(self) -> dict[str, Any]:
        """Return grpclib's handlers: of each RPC of the service that this class has a method for."""
        from google.protobuf.message_factory import GetMessageClass
        from grpclib.const import Cardinality, Handler

        handlers = {}
        for method in self.pb.DESCRIPTOR.services_by_name["ModalClient"].methods:
            answer = getattr(self, method.name, None)
            if answer is not None:
                kinds = GetMessageClass(method.input_type), GetMessageClass(method.output_type)
                handlers[f"/modal.client.ModalClient/{method.name}"] = Handler(
                    self._unary(method.name, answer), Cardinality.UNARY_UNARY, *kinds
                )
        return handlers

    def _unary(self, name: str, answer: Callable[[Any], Awaitable[Any]]) -> Callable[[Any], Awaitable[None]]:
        async def serve(stream: Any) -> None:
            self.counts[name] += 1
            request = await stream.recv_message()
            if self.latency:
                await asyncio.sleep(self.latency)
            await stream.send_message(await answer(request))

        return serve

    # What a client asks before its first sandbox

    async def ClientHello(self, _: Any) -> Any:
        """Greet."""
        return self.pb.ClientHelloResponse()

    async def AuthTokenGet(self, _: Any) -> Any:
        """Give a token that nobody checks; its expiry is what the client reads."""
        return self.pb.AuthTokenGetResponse(token=_unsigned_token(time.time() + TOKEN_LIFE))

    async def AppGetOrCreate(self, request: Any) -> Any:
        """One App a name."""
        return self.pb.AppGetOrCreateResponse(app_id=f"ap-{request.app_name}")

    async def EnvironmentGetOrCreate(self, _: Any) -> Any:
        """One environment."""
        settings = self.pb.EnvironmentSettings(image_builder_version="2025.06")
        metadata = self.pb.EnvironmentMetadata(name="main", settings=settings)
        return self.pb.EnvironmentGetOrCreateResponse(environment_id="en-1", metadata=metadata)

    async def ImageGetOrCreate(self, _: Any) -> Any:
        """Every image is built already."""
        result = self.pb.GenericResult(status=self.pb.GenericResult.GENERIC_STATUS_SUCCESS)
        return self.pb.ImageGetOrCreateResponse(image_id="im-1", result=result, metadata=self.pb.ImageMetadata())

    async def VolumeGetOrCreate(self, request: Any) -> Any:
        """One Volume a name."""
        return self.pb.VolumeGetOrCreateResponse(volume_id=f"vo-{request.deployment_name}", version=request.version)

    async def SecretGetOrCreate(self, request: Any) -> Any:
        """One Secret a name."""
        return self.pb.SecretGetOrCreateResponse(secret_id=f"st-{request.deployment_name}")

    # Sandboxes

    async def SandboxCreateV2(self, request: Any) -> Any:
        """Make a record; ALREADY_EXISTS if a running one has the name."""
        from grpclib import GRPCError, Status

        if request.definition.name in self.by_name:
            raise GRPCError(Status.ALREADY_EXISTS, f"a sandbox named {request.definition.name!r} runs")
        record = self.make(request)
        return self.pb.SandboxCreateV2Response(sandbox_id=record.sandbox_id, task_id=f"ta-{self.number:021d}V")

    def make(self, request: Any) -> Record:
        """Have a sandbox run."""
        name = request.definition.name
        self.number += 1
        self.last_created = max(time.time(), self.last_created + 1e-5)  # a listing pages by it: no two alike
        del request.secret_sources[:]
        record = Record(f"sb-{self.number:026d}", self.last_created, request)
        self.records[record.sandbox_id] = record
        if name:
            self.by_name[name] = record
        self.order.append(record)
        self.places[record.sandbox_id] = len(self.running)
        self.running.append(record)
        if self.lifetime is not None:
            asyncio.get_running_loop().call_later(self.lifetime, self.end, record)
        return record

    async def SandboxWaitV2(self, request: Any) -> Any:
        """Answer when the sandbox has ended, or after the time asked for."""
        record = self._record(request.sandbox_id)
        if not record.ended and request.timeout:
            over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            record.waiting.append(over)
            await asyncio.wait([over], timeout=min(request.timeout, EVERYBODY_KNOWS))
            if not record.ended:
                record.waiting.remove(over)
        metadata = self.pb.SandboxHandleMetadata(app_id=record.request.app_id)
        return self.pb.SandboxWaitResponse(result=self._result(record), metadata=metadata)

    async def SandboxListV2(self, request: Any) -> Any:
        """One page, the newest first."""
        wanted = {tag.tag_name: tag.tag_value for tag in request.tags}
        before = request.before_timestamp or float("inf")
        at = bisect.bisect_left(self.order, before, key=lambda record: record.created_at)
        page: list[Any] = []
        while at > 0 and len(page) < self.page:
            at -= 1
            record = self.order[at]
            asked = record.request
            if record.ended or asked.app_id != request.app_id:
                continue
            if wanted and not wanted.items() <= {tag.tag_name: tag.tag_value for tag in asked.tags}.items():
                continue
            page.append(self._info(record))
        return self.pb.SandboxListResponse(sandboxes=page)

    async def SandboxGetFromNameV2(self, request: Any) -> Any:
        """Find a running sandbox by name."""
        from grpclib import GRPCError, Status

        record = self.by_name.get(request.sandbox_name)
        if record is None:
            raise GRPCError(Status.NOT_FOUND, f"no sandbox named {request.sandbox_name!r}")
        metadata = self.pb.SandboxHandleMetadata(app_id=record.request.app_id)
        return self.pb.SandboxGetFromNameResponse(sandbox_id=record.sandbox_id, metadata=metadata)

    async def SandboxTagsGetV2(self, request: Any) -> Any:
        """The tags."""
        return self.pb.SandboxTagsGetResponse(tags=self._record(request.sandbox_id).request.tags)

    async def SandboxTerminateV2(self, request: Any) -> Any:
        """End a sandbox."""
        self.end(self._record(request.sandbox_id))
        return self.pb.SandboxTerminateResponse()

    def _record(self, sandbox_id: str) -> Record:
        from grpclib import GRPCError, Status

        record = self.records.get(sandbox_id)
        if record is None:
            raise GRPCError(Status.NOT_FOUND, f"no sandbox {sandbox_id!r}")
        return record

    def _result(self, record: Record) -> Any:
        return self.pb.GenericResult(status=self.pb.GenericResult.GENERIC_STATUS_SUCCESS) if record.ended else None

    def _info(self, record: Record) -> Any:
        asked = record.request
        return self.pb.SandboxInfo(
            id=record.sandbox_id,
            created_at=record.created_at,
            app_id=asked.app_id,
            name=asked.definition.name,
            tags=asked.tags,
            task_info=self.pb.TaskInfo(id=f"ta-{record.sandbox_id}", started_at=record.created_at),
            metadata=self.pb.SandboxHandleMetadata(app_id=asked.app_id),
            image_id=asked.definition.image_id,
            timeout_secs=asked.definition.timeout_secs,
        )

    # How they end

    def end(self, record: Record) -> None:
        """End a sandbox that runs, and tell who waits for it."""
        if record.ended:
            return
        record.ended = True
        for over in record.waiting:
            if not over.done():
                over.set_result(None)
        record.waiting.clear()
        self.by_name.pop(record.request.definition.name, None)
        place, last = self.places.pop(record.sandbox_id), self.running.pop()
        if last is not record:
            self.running[place] = last
            self.places[last.sandbox_id] = place
        self.gone.append(record)
        if len(self.gone) > OLDEST_KEPT:
            del self.records[self.gone.popleft().sandbox_id]
        self.ended_in_order += 1
        if self.ended_in_order >= max(COMPACTION, len(self.order) // 2):
            self.order = [record for record in self.order if not record.ended]
            self.ended_in_order = 0

    async def end_at_rate(self) -> None:
        """End sandboxes at the rate asked for, for ever."""
        last = time.monotonic()
        while True:
            await asyncio.sleep(BEAT)
            now = time.monotonic()
            self.due += (now - last) * self.end_rate
            last = now
            while self.due >= 1 and self.running:
                self.due -= 1
                self.end(self.draw.choice(self.running))

    def obey(self, commands: Commands) -> dict[str, Any]:
        """Do what a line asks for, and say how things stand."""
        self.end_rate = commands.get("end_per_second", self.end_rate)
        for _ in range(commands.get("create", 0)):
            launch_id, _ = launch_of(self.number + 1)
            tags = {"deployment": "airflow", "launch": launch_id}
            self.make(
                self.pb.SandboxCreateV2Request(
                    app_id="ap-modalflow",
                    definition=self.pb.Sandbox(name=launch_id),
                    tags=[self.pb.SandboxTag(tag_name=name, tag_value=value) for name, value in tags.items()],
                )
            )
        if commands.get("end_all"):
            for record in list(self.running):
                self.end(record)
        return {
            "running": len(self.running),
            "created": self.number,
            "ended": self.number - len(self.running),
            "rpcs": self.counts,
        }


def launch_of(number: int) -> tuple[str, str]:
    """Return launch id and sandbox id of the ``number``-th sandbox, from 1, where all before it were made by ``create``."""
    return str(uuid.UUID(int=number)), f"sb-{number:026d}"


def _unsigned_token(expiry: float) -> str:
    import base64

    part = base64.urlsafe_b64encode(json.dumps({"exp": int(expiry)}).encode()).decode().rstrip("=")
    return f"e30.{part}.e30"


async def serve(settings: Settings, make: Callable[[Settings], ControlPlane] = ControlPlane) -> None:
    """Serve on a free port of loopback until stdin ends."""
    from grpclib.server import Server

    plane = make(settings)
    server = Server([plane])
    await server.start("127.0.0.1", 0)
    inner: Any = server
    port = inner._server.sockets[0].getsockname()[1]  # grpclib does not tell otherwise
    ending = asyncio.create_task(plane.end_at_rate())
    print(json.dumps([os.getpid(), {"MODAL_SERVER_URL": f"http://127.0.0.1:{port}", **TOKEN}]), flush=True)
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        print(json.dumps(plane.obey(json.loads(line))), flush=True)
    ending.cancel()
    server.close()


class ControlPlaneProcess:
    """The control plane in a process of its own; a context manager. ``module`` is run, for subclasses with handlers of theirs."""

    def __init__(self, settings: Settings, *, module: str = "benchmarks.control_plane") -> None:
        """Keep the arguments."""
        self._command = [sys.executable, "-m", module, json.dumps(settings)]
        self.pid = 0
        self.environment: Mapping[str, str] = {}

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.pid, self.environment = json.loads(self._process.stdout.readline())
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate(timeout=60)

    def tell(self, **commands: Any) -> dict[str, Any]:
        """Send commands, and return how things stand: ``running``, ``created``, ``ended``, and ``rpcs`` by name."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(commands) + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer


def raise_descriptor_limit() -> None:
    """Allow this process as many descriptors as the machine allows it: each client's connection is one."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


if __name__ == "__main__":
    raise_descriptor_limit()
    asyncio.run(serve(json.loads(sys.argv[1])))
