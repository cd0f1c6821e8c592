"""How handlers meet gRPC: one request object in, one answer (or several) out, errors by name.

Flows in: grpclib streams. Flows out: calls of plain methods with the request and a ``Call``. Every RPC of a service that no
mixin serves answers UNIMPLEMENTED with its name. ``services`` and ``router`` are written with this.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar
from urllib.parse import quote

import grpclib.server
from google.protobuf.message import Message
from grpclib import GRPCError, Status
from grpclib.encoding.base import StatusDetailsCodecBase
from modal_proto import api_pb2
from multidict import MultiDict

from modalflow.emulator.state.state_folder import StateError
from modalflow.emulator.state.volume_tree import VolumeConflictError, VolumeNotFoundError, VolumePathError

if TYPE_CHECKING:
    from modalflow.emulator.core import Core
    from modalflow.emulator.state.store import Workspace

Request = TypeVar("Request", bound=Message)
Stream = grpclib.server.Stream[Any, Any]
GrpcHandler = Callable[[Any, Stream], Awaitable[None]]

WORKSPACE_KEY = "x-emulator-workspace"
"""Where ``server`` puts the workspace of an authenticated call; a client's own value is thrown away."""
TASK_KEY = "x-emulator-task"
"""Likewise the task id that a token of the command router is for."""
WARNING_KEY = "x-modal-warning"
"""Trailing metadata that the client prints as a warning, percent-encoded (modal 1.6.4, ``grpc_utils``)."""

CLIENT_TYPE_JAVASCRIPT = str(api_pb2.CLIENT_TYPE_LIBMODAL_JS)


@dataclass(frozen=True, slots=True)
class Call:
    """Who calls, and with what metadata. ``method`` is the RPC's bare name."""

    workspace: Workspace
    method: str
    metadata: Mapping[str, Any]
    warnings: list[str] = field(default_factory=list)
    """What the client shall print; it goes out with the answer of a unary call."""

    @property
    def idempotency_key(self) -> str:
        """The same for every retry of one call; empty if the client sent none."""
        return str(self.metadata.get("x-idempotency-key") or "")

    @property
    def task_id(self) -> str:
        """The one task that a call of the command router may be about; empty on the control plane."""
        return str(self.metadata.get(TASK_KEY) or "")

    def environment(self, name: str) -> str:
        """Return the name of the environment that a request means, by name, by id or, saying nothing, the default one.

        NOT_FOUND if there is no such.
        """
        known = self.workspace.environments
        name = name or self.workspace.settings.default_environment
        if name not in known:
            by_id = next((one.name for one in known.values() if one.environment_id == name), None)
            if by_id is None:
                fail(Status.NOT_FOUND, f"Environment '{name}' not found")
            return by_id
        return name

    @property
    def is_javascript(self) -> bool:
        """Whether the JavaScript client calls, which wants another URL scheme for the command router."""
        return self.metadata.get("x-modal-client-type") == CLIENT_TYPE_JAVASCRIPT


@dataclass(frozen=True, slots=True)
class RecordedCall:
    """One request as the client put it on the wire."""

    method: str
    request: Message
    workspace: str


@dataclass(slots=True)
class Recorder:
    """The requests of the past, if recording is on. Kept in memory only; they may hold secrets."""

    enabled: bool
    calls: deque[RecordedCall] = field(default_factory=lambda: deque(maxlen=100_000))

    def note(self, method: str, request: Message, workspace: str) -> None:
        """Keep one request."""
        if self.enabled:
            self.calls.append(RecordedCall(method, request, workspace))

    def requests(self, method: str, workspace: str | None) -> list[Message]:
        """Return the requests of an RPC so far, of one workspace or of all (``None``). From any thread."""
        calls = self.calls.copy()
        return [call.request for call in calls if call.method == method and workspace in (None, call.workspace)]

    def forget(self, workspace: str) -> None:
        """Drop what a workspace asked."""
        kept = [call for call in self.calls if call.workspace != workspace]
        self.calls.clear()
        self.calls.extend(kept)


def fail(status: Status, message: str, details: Sequence[Message] | None = None) -> NoReturn:
    """End the call with that status."""
    raise GRPCError(status, message, details)


_STATUS_OF: Mapping[type[Exception], Status] = {
    VolumePathError: Status.INVALID_ARGUMENT,
    VolumeNotFoundError: Status.NOT_FOUND,
    VolumeConflictError: Status.FAILED_PRECONDITION,
    StateError: Status.INTERNAL,
}


async def received(service: Service, stream: Stream) -> tuple[Any, Call]:
    """Return the request of a stream and who calls: for handlers that write to the stream themselves."""
    request = await stream.recv_message()
    if request is None:
        fail(Status.INVALID_ARGUMENT, "the call carried no request")
    call = service.call_of(stream)
    service.core.recorder.note(call.method, request, call.workspace.name)
    return request, call


def unary(method: Callable[[Any, Any, Call], Awaitable[Message]]) -> GrpcHandler:
    """Make a handler of ``async def Name(self, request, call) -> reply``."""

    async def handler(self: Service, stream: Stream) -> None:
        request, call = await received(self, stream)
        try:
            reply = await method(self, request, call)
        except tuple(_STATUS_OF) as error:
            fail(_STATUS_OF[type(error)], str(error))
        await stream.send_message(reply)
        if call.warnings:
            await stream.send_trailing_metadata(metadata=MultiDict((WARNING_KEY, quote(text)) for text in call.warnings))

    handler.__doc__ = method.__doc__
    return handler


def create(method: Callable[[Any, Any, Call], Awaitable[Message]]) -> GrpcHandler:
    """Like ``unary``, but a retry with the same idempotency key gets the first one's answer and makes nothing."""

    async def once(self: Service, request: Message, call: Call) -> Message:
        if not call.idempotency_key:
            return await method(self, request, call)
        key = f"{call.method} {call.idempotency_key}"
        known = call.workspace.answers.get(key)
        if known is not None:
            return known
        # A task of its own: a caller that hangs up does not stop the creation, and a retry that overtakes joins it.
        pending = self.core.pending_creates
        task = pending.get((call.workspace.name, key))
        if task is None:
            task = pending[call.workspace.name, key] = asyncio.ensure_future(method(self, request, call))

            def done(task: asyncio.Future[Message]) -> None:
                del pending[call.workspace.name, key]
                if not task.cancelled() and task.exception() is None:
                    call.workspace.remember(key, task.result())

            task.add_done_callback(done)
        return await asyncio.shield(task)

    once.__doc__ = method.__doc__
    return unary(once)


def streaming(method: Callable[[Any, Any, Call], AsyncIterator[Message]]) -> GrpcHandler:
    """Make a handler of an async generator ``Name(self, request, call)``."""

    async def handler(self: Service, stream: Stream) -> None:
        request, call = await received(self, stream)
        try:
            async for reply in method(self, request, call):
                await stream.send_message(reply)
        except tuple(_STATUS_OF) as error:
            fail(_STATUS_OF[type(error)], str(error))
        if not stream._send_initial_metadata_done:  # an empty stream must still end with headers
            await stream.send_initial_metadata()

    handler.__doc__ = method.__doc__
    return handler


def partial(missing: str) -> Callable[[GrpcHandler], GrpcHandler]:
    """Mark an RPC as partly served: ``missing`` says in a few words what is not. Stands above ``unary`` and its kin.

    It changes nothing of the handler; the coverage page shows it.
    """

    def mark(handler: GrpcHandler) -> GrpcHandler:
        handler.missing = missing  # type: ignore[attr-defined]
        return handler

    return mark


def missing_from(handler: object) -> str:
    """Return what ``partial`` said of a handler; empty if all of the RPC is served."""
    return str(getattr(handler, "missing", ""))


def bare_name(path: str) -> str:
    """``/modal.client.ModalClient/AppList`` -> ``AppList``."""
    return path.rpartition("/")[2]


class Service:
    """Base of every mixin: the shared parts, and how a call finds its workspace."""

    def __init__(self, core: Core) -> None:
        self.core = core

    def call_of(self, stream: Stream) -> Call:
        """Return the ``Call`` of a stream that ``server`` has let in."""
        metadata = stream.metadata
        if metadata is None:
            fail(Status.UNAUTHENTICATED, "the call carried no metadata")
        return Call(self.core.store.workspace(str(metadata[WORKSPACE_KEY])), bare_name(stream._method_name), metadata)


def complete(mixin: type, base: type) -> type:
    """Return ``mixin`` as a concrete class of the generated ``base``; what the mixin lacks answers UNIMPLEMENTED by name."""

    def missing(name: str) -> GrpcHandler:
        async def handler(_self: object, stream: Stream) -> None:
            await stream.recv_message()
            fail(Status.UNIMPLEMENTED, f"{name} is not implemented by the modalflow emulator")

        return handler

    names = set(base.__abstractmethods__)  # type: ignore[attr-defined]
    lacking = {name: missing(name) for name in names if not hasattr(mixin, name)}
    return type(f"Complete{mixin.__name__}", (mixin, base), lacking)


class DetailsCodec(StatusDetailsCodecBase):
    """Status details as Modal encodes them: ``RPCStatus`` holding ``Any`` values under ``type.modal.com/``."""

    def encode(self, status: Status, message: str | None, details: Sequence[Message] | None) -> bytes:
        """Return the bytes of the ``grpc-status-details-bin`` trailer."""
        encoded = api_pb2.RPCStatus(code=status.value, message=message or "")
        for detail in details or ():
            modal = detail.DESCRIPTOR.full_name.startswith("modal.")
            encoded.details.add().Pack(detail, type_url_prefix="type.modal.com/" if modal else "type.googleapis.com/")
        return encoded.SerializeToString()

    def decode(self, status: Status, message: str | None, data: bytes) -> object:  # noqa: ARG002 -- the codec's signature
        """Return the details as they are; a server is never sent any."""
        return data
