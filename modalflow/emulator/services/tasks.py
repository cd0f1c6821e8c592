"""Tasks, which the client calls containers: here each is the one of a sandbox. And names that may have been meant."""

from __future__ import annotations

import difflib

from grpclib import Status
from modal_proto import api_pb2

from modalflow.emulator.state.store import Sandbox, Workspace
from modalflow.emulator.wire import Call, Service, fail, partial, unary

MOST_SUGGESTIONS = 10


class Tasks(Service):
    """Task*, ContainerStop, ObjectSuggest, CliCommandSuggest."""

    @unary
    async def TaskList(self, request: api_pb2.TaskListRequest, call: Call) -> api_pb2.TaskListResponse:
        """List the containers that run in an environment, or for one App; here all are those of sandboxes."""
        workspace = call.workspace
        if request.app_id:
            apps = {request.app_id} & set(workspace.apps)
        else:
            environment = call.environment(request.environment_name)
            apps = {app.app_id for app in workspace.apps.values() if app.environment == environment}
        return api_pb2.TaskListResponse(
            tasks=[
                api_pb2.TaskStats(
                    task_id=one.task_id,
                    app_id=one.app_id,
                    app_description=workspace.apps[one.app_id].title,
                    started_at=one.started_at,
                    enqueued_at=one.created_at,
                )
                for one in workspace.sandboxes.values()
                if one.app_id in apps and one.scheduled and one.result is None
            ]
        )

    @unary
    async def TaskGetInfo(self, request: api_pb2.TaskGetInfoRequest, call: Call) -> api_pb2.TaskGetInfoResponse:
        """Tell a container's App, times, GPU and end."""
        sandbox = _task(call.workspace, request.task_id)
        return api_pb2.TaskGetInfoResponse(
            app_id=sandbox.app_id,
            info=api_pb2.TaskInfo(
                id=sandbox.task_id,
                started_at=sandbox.started_at,
                finished_at=sandbox.finished_at,
                result=sandbox.result,
                enqueued_at=sandbox.created_at,
                gpu_type=sandbox.definition.resources.gpu_config.gpu_type,
                gpu_config=sandbox.definition.resources.gpu_config,
                sandbox_id=sandbox.sandbox_id,
            ),
        )

    @unary
    async def ContainerStop(self, request: api_pb2.ContainerStopRequest, call: Call) -> api_pb2.ContainerStopResponse:
        """Terminate the sandbox that a container belongs to; ``graceful`` makes no difference to a sandbox."""
        sandbox = _task(call.workspace, request.task_id)
        self.core.sandboxes.terminate(self.core.sandboxes.machine(sandbox))
        return api_pb2.ContainerStopResponse()

    @partial("Functions and Servers, which there are none of")
    @unary
    async def ObjectSuggest(self, request: api_pb2.ObjectSuggestRequest, call: Call) -> api_pb2.ObjectSuggestResponse:
        """Tell the Apps that may have been meant by a name."""
        if request.kind != api_pb2.ObjectSuggestRequest.OBJECT_SUGGEST_KIND_APP:
            return api_pb2.ObjectSuggestResponse()
        environment = call.environment(request.environment_name)
        names = {one.name for one in call.workspace.apps.values() if one.environment == environment and one.stopped_at is None}
        near = difflib.get_close_matches(request.query, names - {""}, min(request.limit or 3, MOST_SUGGESTIONS))
        return api_pb2.ObjectSuggestResponse(suggestions=[api_pb2.ObjectSuggestion(object_name=name) for name in near])

    @unary
    async def CliCommandSuggest(
        self, _request: api_pb2.CliCommandSuggestRequest, _call: Call
    ) -> api_pb2.CliCommandSuggestResponse:
        """Suggest nothing: modal 1.6.4 finds mistyped commands by itself."""
        return api_pb2.CliCommandSuggestResponse()


def _task(workspace: Workspace, task_id: str) -> Sandbox:
    if task_id not in workspace.tasks:
        fail(Status.NOT_FOUND, f"Container '{task_id}' not found")
    return workspace.tasks[task_id]
