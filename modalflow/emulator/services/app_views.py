"""What is told of an App, and of the task that a sandbox runs as.

Flows in: state. Flows out: messages that ``apps``, ``tasks`` and others put into their answers.
"""

from __future__ import annotations

from grpclib import Status
from modal_proto import api_pb2

from modalflow.emulator.state.apps import App
from modalflow.emulator.state.store import Workspace
from modalflow.emulator.wire import fail

_STATES = {
    "initializing": api_pb2.APP_STATE_INITIALIZING,
    "ephemeral": api_pb2.APP_STATE_EPHEMERAL,
    "detached": api_pb2.APP_STATE_DETACHED,
    "detached_disconnected": api_pb2.APP_STATE_DETACHED_DISCONNECTED,
    "deployed": api_pb2.APP_STATE_DEPLOYED,
}


def find_app(workspace: Workspace, app_id: str) -> App:
    """Return the App of that id; NOT_FOUND if there is none."""
    if app_id not in workspace.apps:
        fail(Status.NOT_FOUND, f"App '{app_id}' not found")
    return workspace.apps[app_id]


def state_of(app: App) -> api_pb2.AppState.ValueType:
    """Return an App's state."""
    return api_pb2.APP_STATE_STOPPED if app.stopped_at is not None else _STATES[app.phase]


def lifecycle_of(workspace: Workspace, app: App) -> api_pb2.AppLifecycle:
    """Return an App's state and its times."""
    last = app.deployments[-1] if app.deployments else None
    return api_pb2.AppLifecycle(
        app_state=state_of(app),
        created_at=app.created_at,
        created_by=workspace.username,
        deployed_at=last.deployed_at if last else 0.0,
        deployed_by=workspace.username if last else "",
        version=app.version,
        stopped_at=app.stopped_at or 0.0,
        stopped_by=app.stopped_by,
    )


def handle_of(workspace: Workspace, app: App) -> api_pb2.AppHandleMetadata:
    """Return what a client keeps of an App."""
    return api_pb2.AppHandleMetadata(
        app_id=app.app_id,
        description=app.title,
        environment_name=app.environment,
        lifecycle=lifecycle_of(workspace, app),
    )


def app_item(workspace: Workspace, app: App, running: int) -> api_pb2.AppListResponse.AppListItem:
    """Return an App's line of a list; ``running``: its containers."""
    return api_pb2.AppListResponse.AppListItem(
        app_id=app.app_id,
        name=app.name,
        description=app.title,
        state=state_of(app),
        created_at=app.created_at,
        stopped_at=app.stopped_at or 0.0,
        n_running_tasks=running,
        metadata=handle_of(workspace, app),
    )
