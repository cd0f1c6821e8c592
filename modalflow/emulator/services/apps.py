"""Apps: looked up by name, ephemeral, listed, stopped."""

from __future__ import annotations

from google.protobuf.empty_pb2 import Empty
from grpclib import Status
from modal_proto import api_pb2

from modalflow.emulator.state.ids import new_id
from modalflow.emulator.state.store import App, Workspace
from modalflow.emulator.wire import Call, Service, create, fail, partial, unary


class Apps(Service):
    """App*, as far as apps without Functions need it."""

    @create
    async def AppGetOrCreate(self, request: api_pb2.AppGetOrCreateRequest, call: Call) -> api_pb2.AppGetOrCreateResponse:
        """Find a named App, or make it if asked to."""
        environment = call.environment(request.environment_name)
        app = call.workspace.app_named(environment, request.app_name)
        if app is None:
            if request.object_creation_type != api_pb2.OBJECT_CREATION_TYPE_CREATE_IF_MISSING:
                fail(Status.NOT_FOUND, f"App '{request.app_name}' not found in environment '{environment}'")
            app = _add_app(call.workspace, request.app_name, environment)
            self.core.state_changed(call.workspace, app)
        return api_pb2.AppGetOrCreateResponse(
            app_id=app.app_id,
            handle_metadata=api_pb2.AppHandleMetadata(
                app_id=app.app_id, description=app.name, environment_name=environment, lifecycle=_lifecycle(app)
            ),
        )

    @create
    async def AppCreate(self, request: api_pb2.AppCreateRequest, call: Call) -> api_pb2.AppCreateResponse:
        """Make an ephemeral App (``app.run``)."""
        app = _add_app(call.workspace, "", call.environment(request.environment_name))
        self.core.state_changed(call.workspace, app)
        return api_pb2.AppCreateResponse(app_id=app.app_id)

    @partial("Functions and Classes")
    @unary
    async def AppPublish(self, request: api_pb2.AppPublishRequest, call: Call) -> api_pb2.AppPublishResponse:
        """Start an ephemeral App, or deploy one that holds no Function."""
        app = _app(call.workspace, request.app_id)
        if request.function_ids:
            fail(Status.UNIMPLEMENTED, "AppPublish with Functions is not implemented by the modalflow emulator")
        if request.app_state == api_pb2.APP_STATE_DEPLOYED and request.name:
            app.name = request.name
            self.core.state_changed(call.workspace, app)
        return api_pb2.AppPublishResponse()

    @unary
    async def AppHeartbeat(self, request: api_pb2.AppHeartbeatRequest, call: Call) -> Empty:
        """Hear that an ephemeral App's client lives."""
        _app(call.workspace, request.app_id)
        return Empty()

    @unary
    async def AppClientDisconnect(self, request: api_pb2.AppClientDisconnectRequest, call: Call) -> Empty:
        """End an ephemeral App."""
        self._stop(call.workspace, _app(call.workspace, request.app_id))
        return Empty()

    @unary
    async def AppStop(self, request: api_pb2.AppStopRequest, call: Call) -> Empty:
        """Stop an App: its sandboxes are terminated and its name is free."""
        self._stop(call.workspace, _app(call.workspace, request.app_id))
        return Empty()

    @unary
    async def AppList(self, request: api_pb2.AppListRequest, call: Call) -> api_pb2.AppListResponse:
        """List an environment's Apps, the newest first."""
        environment = call.environment(request.environment_name)
        apps = [app for app in reversed(call.workspace.apps.values()) if app.environment == environment]
        return api_pb2.AppListResponse(
            apps=[
                api_pb2.AppListResponse.AppListItem(
                    app_id=app.app_id,
                    name=app.name,
                    description=app.name,
                    state=_state(app),
                    created_at=app.created_at,
                    stopped_at=app.stopped_at or 0.0,
                    n_running_tasks=sum(
                        one.app_id == app.app_id and one.result is None for one in call.workspace.sandboxes.values()
                    ),
                )
                for app in apps
            ]
        )

    @unary
    async def AppGetByDeploymentName(
        self, request: api_pb2.AppGetByDeploymentNameRequest, call: Call
    ) -> api_pb2.AppGetByDeploymentNameResponse:
        """Find a named App; an empty id means that there is none."""
        app = call.workspace.app_named(call.environment(request.environment_name), request.name)
        return api_pb2.AppGetByDeploymentNameResponse(app_id=app.app_id if app else "")

    @unary
    async def AppGetLifecycle(self, request: api_pb2.AppGetLifecycleRequest, call: Call) -> api_pb2.AppGetLifecycleResponse:
        """Tell an App's state."""
        return api_pb2.AppGetLifecycleResponse(lifecycle=_lifecycle(_app(call.workspace, request.app_id)))

    def _stop(self, workspace: Workspace, app: App) -> None:
        if app.stopped_at is None:
            app.stopped_at = self.core.clock.time()
            for sandbox in list(workspace.sandboxes.values()):
                if sandbox.app_id == app.app_id:
                    self.core.sandboxes.terminate(self.core.sandboxes.machine(sandbox))
            self.core.state_changed(workspace, app)


def _add_app(workspace: Workspace, name: str, environment: str) -> App:
    app = App(app_id=new_id("ap"), name=name, environment=environment, created_at=workspace.clock.time())
    workspace.apps[app.app_id] = app
    return app


def _app(workspace: Workspace, app_id: str) -> App:
    if app_id not in workspace.apps:
        fail(Status.NOT_FOUND, f"App '{app_id}' not found")
    return workspace.apps[app_id]


def _state(app: App) -> api_pb2.AppState.ValueType:
    if app.stopped_at is not None:
        return api_pb2.APP_STATE_STOPPED
    return api_pb2.APP_STATE_DEPLOYED if app.name else api_pb2.APP_STATE_EPHEMERAL


def _lifecycle(app: App) -> api_pb2.AppLifecycle:
    return api_pb2.AppLifecycle(app_state=_state(app), created_at=app.created_at, stopped_at=app.stopped_at or 0.0)
