"""Everything that is asked of a sandbox after its creation. V1 and V2 share their messages, and so their methods."""

from __future__ import annotations

from collections.abc import Iterator

from google.protobuf.empty_pb2 import Empty
from grpclib import Status
from modal_proto import api_pb2

from modalflow.emulator.auth import ROUTER_TOKEN_SECONDS
from modalflow.emulator.machines.processes import StdinClosedError
from modalflow.emulator.services.sandbox_checks import checked_tags
from modalflow.emulator.state.store import Sandbox, Workspace
from modalflow.emulator.wire import Call, Service, create, fail, unary

PAGE = 100
"""Sandboxes of one list answer. Modal's own number is not published; the client pages until an empty one."""
MAX_WAIT_SECONDS = 60.0


class SandboxCalls(Service):
    """Sandbox*: wait, terminate, list, names, tags, task ids, V1 stdin, command router access."""

    @unary
    async def SandboxGetTaskId(self, request: api_pb2.SandboxGetTaskIdRequest, call: Call) -> api_pb2.SandboxGetTaskIdResponse:
        """Tell the task id, which a V2 sandbox has at once: an empty answer means that a V1 sandbox waits for capacity."""
        sandbox = find(call.workspace, request.sandbox_id)
        return api_pb2.SandboxGetTaskIdResponse(
            task_id=sandbox.task_id if sandbox.scheduled or sandbox.v2 else None, task_result=sandbox.result
        )

    SandboxGetTaskIdV2 = SandboxGetTaskId

    @unary
    async def SandboxWait(self, request: api_pb2.SandboxWaitRequest, call: Call) -> api_pb2.SandboxWaitResponse:
        """Return the result, waiting for it at most ``timeout`` seconds; unset while the sandbox lives."""
        sandbox = find(call.workspace, request.sandbox_id)
        machine = self.core.sandboxes.machine(sandbox)
        result = await machine.wait(min(request.timeout, MAX_WAIT_SECONDS))
        return api_pb2.SandboxWaitResponse(result=result, metadata=_handle(sandbox))

    SandboxWaitV2 = SandboxWait

    @unary
    async def SandboxWaitUntilReady(
        self, request: api_pb2.SandboxWaitUntilReadyRequest, call: Call
    ) -> api_pb2.SandboxWaitUntilReadyResponse:
        """Tell when the readiness probe succeeded, waiting for it at most ``timeout`` seconds; 0 if it has not yet."""
        machine = self.core.sandboxes.machine(find(call.workspace, request.sandbox_id))
        if not machine.definition.HasField("readiness_probe"):
            fail(Status.INVALID_ARGUMENT, "Sandbox has no readiness probe; give one to Sandbox.create (readiness_probe)")
        await machine.wait_ready(min(request.timeout, MAX_WAIT_SECONDS))
        if machine.finished.is_set() and not machine.sandbox.ready_at:
            fail(Status.FAILED_PRECONDITION, "Sandbox has terminated before it was ready")
        return api_pb2.SandboxWaitUntilReadyResponse(ready_at=machine.sandbox.ready_at)

    @unary
    async def SandboxTerminate(self, request: api_pb2.SandboxTerminateRequest, call: Call) -> api_pb2.SandboxTerminateResponse:
        """End a sandbox, running or waiting; no error if it already ended."""
        sandbox = find(call.workspace, request.sandbox_id)
        existing = sandbox.result
        self.core.sandboxes.terminate(self.core.sandboxes.machine(sandbox))
        return api_pb2.SandboxTerminateResponse(existing_result=existing)

    SandboxTerminateV2 = SandboxTerminate

    @unary
    async def SandboxList(self, request: api_pb2.SandboxListRequest, call: Call) -> api_pb2.SandboxListResponse:
        """List V1 sandboxes, the newest first, those before ``before_timestamp``."""
        return _page(sandbox for sandbox in _matching(call, request) if not sandbox.v2)

    @unary
    async def SandboxListV2(self, request: api_pb2.SandboxListRequest, call: Call) -> api_pb2.SandboxListResponse:
        """List sandboxes of both kinds, the newest first, those before ``before_timestamp``."""
        return _page(_matching(call, request))

    @unary
    async def SandboxGetFromName(
        self, request: api_pb2.SandboxGetFromNameRequest, call: Call
    ) -> api_pb2.SandboxGetFromNameResponse:
        """Find a running V1 sandbox by name. An ended one can be reached by its id only."""
        return _named(call, request, v2=False)

    @unary
    async def SandboxGetFromNameV2(
        self, request: api_pb2.SandboxGetFromNameRequest, call: Call
    ) -> api_pb2.SandboxGetFromNameResponse:
        """Find a V2 sandbox by name: the running one, else with ``include_terminated`` the newest that ended."""
        return _named(call, request, v2=True)

    @create
    async def SandboxSetName(self, request: api_pb2.SandboxSetNameRequest, call: Call) -> api_pb2.SandboxSetNameResponse:
        """Name a running sandbox that has no name yet."""
        sandbox = find(call.workspace, request.sandbox_id)
        if sandbox.name or sandbox.result is not None:
            fail(Status.FAILED_PRECONDITION, f"Sandbox '{sandbox.sandbox_id}' already has a name, or has ended")
        if (sandbox.app_id, request.name) in call.workspace.running_names:
            fail(Status.ALREADY_EXISTS, f"A running sandbox named '{request.name}' already exists in this App")
        sandbox.name = request.name
        call.workspace.running_names[sandbox.app_id, sandbox.name] = sandbox
        self.core.state_changed(call.workspace, sandbox)
        return api_pb2.SandboxSetNameResponse()

    @unary
    async def SandboxTagsSet(self, request: api_pb2.SandboxTagsSetRequest, call: Call) -> Empty:
        """Replace all tags."""
        sandbox = find(call.workspace, request.sandbox_id)
        sandbox.tags = checked_tags(request.tags)
        self.core.state_changed(call.workspace, sandbox)
        return Empty()

    SandboxTagsSetV2 = SandboxTagsSet

    @unary
    async def SandboxTagsGet(self, request: api_pb2.SandboxTagsGetRequest, call: Call) -> api_pb2.SandboxTagsGetResponse:
        """Return the tags."""
        return api_pb2.SandboxTagsGetResponse(tags=_tags(find(call.workspace, request.sandbox_id)))

    SandboxTagsGetV2 = SandboxTagsGet

    @unary
    async def SandboxStdinWrite(self, request: api_pb2.SandboxStdinWriteRequest, call: Call) -> api_pb2.SandboxStdinWriteResponse:
        """Write to a V1 sandbox's stdin; a message whose ``index`` was seen before is a retry and is skipped."""
        machine = self.core.sandboxes.machine(find(call.workspace, request.sandbox_id))
        process = await machine.running_process()
        if process is None:
            fail(Status.FAILED_PRECONDITION, "Sandbox has already terminated")
        machine.activity.touch()
        if request.index > machine.stdin_index:
            machine.stdin_index = request.index
            try:
                await process.write_stdin(process.stdin_offset, request.input, eof=request.eof)
            except StdinClosedError as error:
                fail(Status.FAILED_PRECONDITION, f"Sandbox stdin cannot be written: {error}")
        return api_pb2.SandboxStdinWriteResponse()

    @unary
    async def TaskGetCommandRouterAccess(
        self, request: api_pb2.TaskGetCommandRouterAccessRequest, call: Call
    ) -> api_pb2.TaskGetCommandRouterAccessResponse:
        """Say where the command router of a task is, and give a token for it."""
        if request.task_id not in call.workspace.tasks:
            fail(Status.NOT_FOUND, f"Task '{request.task_id}' not found")
        url, jwt = self._router_access(call, request.task_id)
        return api_pb2.TaskGetCommandRouterAccessResponse(url=url, jwt=jwt)

    @unary
    async def SandboxGetCommandRouterAccess(
        self, request: api_pb2.SandboxGetCommandRouterAccessRequest, call: Call
    ) -> api_pb2.SandboxGetCommandRouterAccessResponse:
        """Say where the command router of a sandbox is, and give a token for it; also after its end, for its output."""
        task_id = request.task_id or find(call.workspace, request.sandbox_id).task_id
        if task_id not in call.workspace.tasks:
            fail(Status.NOT_FOUND, f"Task '{task_id}' not found")
        url, jwt = self._router_access(call, task_id)
        return api_pb2.SandboxGetCommandRouterAccessResponse(url=url, jwt=jwt)

    def _router_access(self, call: Call, task_id: str) -> tuple[str, str]:
        jwt = self.core.authority.mint(call.workspace.name, seconds=ROUTER_TOKEN_SECONDS, task=task_id)
        return self.core.router_url(javascript=call.is_javascript), jwt


def find(workspace: Workspace, sandbox_id: str) -> Sandbox:
    """Return a sandbox by id; NOT_FOUND if there is none."""
    if sandbox_id not in workspace.sandboxes:
        fail(Status.NOT_FOUND, f"Sandbox '{sandbox_id}' not found")
    return workspace.sandboxes[sandbox_id]


def _handle(sandbox: Sandbox) -> api_pb2.SandboxHandleMetadata:
    return api_pb2.SandboxHandleMetadata(app_id=sandbox.app_id, result=sandbox.result)


def _tags(sandbox: Sandbox) -> list[api_pb2.SandboxTag]:
    return [api_pb2.SandboxTag(tag_name=name, tag_value=value) for name, value in sandbox.tags.items()]


def _matching(call: Call, request: api_pb2.SandboxListRequest) -> Iterator[Sandbox]:
    workspace = call.workspace
    tags = {tag.tag_name: tag.tag_value for tag in request.tags}
    environment = call.environment(request.environment_name)
    for sandbox in workspace.newest_first():
        if request.before_timestamp and sandbox.created_at >= request.before_timestamp:
            continue
        if sandbox.result is not None and not request.include_finished:
            continue
        if request.app_id:
            if sandbox.app_id != request.app_id:
                continue
        elif workspace.apps[sandbox.app_id].environment != environment:
            continue
        if tags.items() <= sandbox.tags.items():
            yield sandbox


def _page(sandboxes: Iterator[Sandbox]) -> api_pb2.SandboxListResponse:
    return api_pb2.SandboxListResponse(sandboxes=[_info(sandbox) for sandbox, _ in zip(sandboxes, range(PAGE), strict=False)])


def _info(sandbox: Sandbox) -> api_pb2.SandboxInfo:
    definition = sandbox.definition
    return api_pb2.SandboxInfo(
        id=sandbox.sandbox_id,
        created_at=sandbox.created_at,
        app_id=sandbox.app_id,
        name=sandbox.name,
        tags=_tags(sandbox),
        image_id=definition.image_id,
        timeout_secs=definition.timeout_secs,
        idle_timeout_secs=definition.idle_timeout_secs,
        ready_at=sandbox.ready_at,
        readiness_probe=definition.readiness_probe if definition.HasField("readiness_probe") else None,
        resource_info=_resources(definition.resources),
        regions=list(definition.scheduler_placement.regions),
        metadata=_handle(sandbox),
        task_info=api_pb2.TaskInfo(
            id=sandbox.task_id if sandbox.scheduled else "",
            sandbox_id=sandbox.sandbox_id,
            enqueued_at=sandbox.created_at,
            started_at=sandbox.started_at,
            finished_at=sandbox.finished_at,
            result=sandbox.result,
            gpu_config=definition.resources.gpu_config,
        ),
    )


def _resources(resources: api_pb2.Resources) -> api_pb2.ResourceInfo:
    return api_pb2.ResourceInfo(
        memory_mb=api_pb2.ResourceInfo.ResourceValue(value=resources.memory_mb, is_default=not resources.memory_mb),
        milli_cpu=api_pb2.ResourceInfo.ResourceValue(value=resources.milli_cpu, is_default=not resources.milli_cpu),
        gpu_type=resources.gpu_config.gpu_type,
        memory_mb_max=resources.memory_mb_max,
        milli_cpu_max=resources.milli_cpu_max,
        ephemeral_disk_mb=resources.ephemeral_disk_mb,
    )


def _named(call: Call, request: api_pb2.SandboxGetFromNameRequest, *, v2: bool) -> api_pb2.SandboxGetFromNameResponse:
    workspace = call.workspace
    app = workspace.app_named(call.environment(request.environment_name), request.app_name)
    if app is None:
        fail(Status.NOT_FOUND, f"App '{request.app_name}' not found")
    found = workspace.running_names.get((app.app_id, request.sandbox_name))
    if found is None and v2 and request.include_terminated:
        found = next(
            (one for one in workspace.newest_first() if (one.app_id, one.name) == (app.app_id, request.sandbox_name) and one.v2),
            None,
        )
    if found is None or found.v2 != v2:
        fail(Status.NOT_FOUND, f"No sandbox named '{request.sandbox_name}' in App '{request.app_name}'")
    return api_pb2.SandboxGetFromNameResponse(sandbox_id=found.sandbox_id, metadata=_handle(found))
