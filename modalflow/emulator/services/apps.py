"""Apps: looked up by name, ephemeral, deployed without Functions, listed, stopped."""

from __future__ import annotations

import re

from google.protobuf.empty_pb2 import Empty
from google.protobuf.json_format import MessageToDict, ParseDict
from grpclib import Status
from modal_proto import api_pb2

from modalflow.emulator.services.app_views import app_item, find_app, handle_of, lifecycle_of
from modalflow.emulator.services.naming import check_name
from modalflow.emulator.state.apps import App, AppPhase, Deployment, listed
from modalflow.emulator.state.ids import new_id
from modalflow.emulator.state.store import Workspace
from modalflow.emulator.wire import Call, Service, create, fail, partial, unary

_TAG = re.compile(r"[a-zA-Z0-9\-_.]{1,63}")
_PHASES: dict[int, AppPhase] = {
    api_pb2.APP_STATE_UNSPECIFIED: "initializing",
    api_pb2.APP_STATE_INITIALIZING: "initializing",
    api_pb2.APP_STATE_EPHEMERAL: "ephemeral",
    api_pb2.APP_STATE_DETACHED: "detached",
}


class Apps(Service):
    """App*, as far as apps without Functions need it."""

    # -- made and found

    @create
    async def AppGetOrCreate(self, request: api_pb2.AppGetOrCreateRequest, call: Call) -> api_pb2.AppGetOrCreateResponse:
        """Find a named App, or make it if asked to."""
        environment = call.environment(request.environment_name)
        check_name("App", request.app_name)
        app = call.workspace.app_named(environment, request.app_name)
        if app is None:
            if request.object_creation_type != api_pb2.OBJECT_CREATION_TYPE_CREATE_IF_MISSING:
                fail(Status.NOT_FOUND, f"App '{request.app_name}' not found in environment '{environment}'")
            app = self._add_app(call.workspace, environment, name=request.app_name)
        return api_pb2.AppGetOrCreateResponse(app_id=app.app_id, handle_metadata=handle_of(call.workspace, app))

    @unary
    async def AppLookup(self, request: api_pb2.AppLookupRequest, call: Call) -> api_pb2.AppLookupResponse:
        """Find a named App (clients before ``AppGetOrCreate``)."""
        environment = call.environment(request.environment_name)
        app = call.workspace.app_named(environment, request.app_name)
        if app is None:
            fail(Status.NOT_FOUND, f"App '{request.app_name}' not found in environment '{environment}'")
        return api_pb2.AppLookupResponse(app_id=app.app_id)

    @create
    async def AppCreate(self, request: api_pb2.AppCreateRequest, call: Call) -> api_pb2.AppCreateResponse:
        """Make an App that ends with its client (``app.run``), or that is about to be deployed."""
        environment = call.environment(request.environment_name)
        phase = _PHASES.get(request.app_state)
        if phase is None:
            fail(Status.INVALID_ARGUMENT, f"app_state: {request.app_state} is no state that an App is made in")
        app = self._add_app(call.workspace, environment, description=request.description, phase=phase, tags=dict(request.tags))
        self.core.app_lives.heard(call.workspace, app)
        url = self.core.app_url(app.app_id)
        return api_pb2.AppCreateResponse(app_id=app.app_id, app_page_url=url, app_logs_url=url)

    def _add_app(
        self,
        workspace: Workspace,
        environment: str,
        *,
        name: str = "",
        description: str = "",
        phase: AppPhase = "deployed",
        tags: dict[str, str] | None = None,
    ) -> App:
        app = App(
            app_id=new_id("ap"),
            name=name,
            environment=environment,
            created_at=workspace.next_created_at(),
            description=description,
            phase=phase,
            tags=_checked(tags or {}),
        )
        workspace.apps[app.app_id] = app
        self.core.state_changed(workspace, app)
        return app

    @unary
    async def AppGetByDeploymentName(
        self, request: api_pb2.AppGetByDeploymentNameRequest, call: Call
    ) -> api_pb2.AppGetByDeploymentNameResponse:
        """Find a deployed App by name, else the one of that name that was stopped last; empty ids if there is none."""
        environment = call.environment(request.environment_name)
        app = call.workspace.app_named(environment, request.name)
        if app is not None:
            return api_pb2.AppGetByDeploymentNameResponse(
                app_id=app.app_id, environment_name=environment, lifecycle=lifecycle_of(call.workspace, app)
            )
        gone = [one for one in call.workspace.apps.values() if (one.environment, one.name) == (environment, request.name)]
        last = max(gone, key=lambda one: one.stopped_at or 0.0, default=None)
        return api_pb2.AppGetByDeploymentNameResponse(
            previous_app_id=last.app_id if last else "",
            environment_name=environment,
            lifecycle=lifecycle_of(call.workspace, last) if last else None,
        )

    # -- started and deployed

    @partial("Functions, Classes and staged deployments")
    @create
    async def AppPublish(self, request: api_pb2.AppPublishRequest, call: Call) -> api_pb2.AppPublishResponse:
        """Start an ephemeral App, or deploy one that holds no Function."""
        app = _live(call.workspace, request.app_id)
        if request.function_ids or request.class_ids:
            fail(Status.UNIMPLEMENTED, "AppPublish with Functions is not implemented by the modalflow emulator")
        if request.staged:
            fail(Status.UNIMPLEMENTED, "AppPublish of a staged deployment is not implemented by the modalflow emulator")
        tags = _checked(dict(request.tags))
        if request.app_state == api_pb2.APP_STATE_DEPLOYED:
            commit = MessageToDict(request.commit_info, preserving_proto_field_name=True)
            self._deploy(call, app, request.name, tag=request.deployment_tag, commit=commit)
        elif request.app_state in (api_pb2.APP_STATE_EPHEMERAL, api_pb2.APP_STATE_DETACHED):
            app.phase = _PHASES[request.app_state]
        app.tags = tags
        self.core.state_changed(call.workspace, app)
        return api_pb2.AppPublishResponse(
            url=self.core.app_url(app.app_id), deployed_at=app.deployments[-1].deployed_at if app.deployments else 0.0
        )

    @create
    async def AppDeploy(self, request: api_pb2.AppDeployRequest, call: Call) -> api_pb2.AppDeployResponse:
        """Deploy an App that holds no Function (clients before ``AppPublish``)."""
        app = _live(call.workspace, request.app_id)
        self._deploy(call, app, request.name, tag=request.tag, commit={})
        self.core.state_changed(call.workspace, app)
        return api_pb2.AppDeployResponse(url=self.core.app_url(app.app_id))

    def _deploy(self, call: Call, app: App, name: str, *, tag: str, commit: dict[str, object]) -> None:
        name = name or app.name
        check_name("App", name)
        if call.workspace.app_named(app.environment, name) not in (None, app):
            fail(Status.ALREADY_EXISTS, f"App '{name}' already exists in environment '{app.environment}'")
        app.name = name
        app.phase = "deployed"
        app.deployments.append(
            Deployment(
                version=app.version + 1,
                deployed_at=self.core.clock.time(),
                client_version=str(call.metadata.get("x-modal-client-version", "")),
                tag=tag,
                commit=commit,
            )
        )
        self.core.app_lives.heard(call.workspace, app)

    @unary
    async def AppDeploymentHistory(
        self, request: api_pb2.AppDeploymentHistoryRequest, call: Call
    ) -> api_pb2.AppDeploymentHistoryResponse:
        """List an App's deployments, the newest first."""
        app = find_app(call.workspace, request.app_id)
        return api_pb2.AppDeploymentHistoryResponse(
            app_deployment_histories=[
                api_pb2.AppDeploymentHistory(
                    app_id=app.app_id,
                    version=one.version,
                    client_version=one.client_version,
                    deployed_at=one.deployed_at,
                    deployed_by=call.workspace.username,
                    tag=one.tag,
                    commit_info=ParseDict(one.commit, api_pb2.CommitInfo()),
                    deployment_type=api_pb2.DEPLOYMENT_TYPE_STANDARD,
                )
                for one in reversed(app.deployments)
            ],
            production_app_version=app.version,
        )

    # -- alive and ended

    @unary
    async def AppHeartbeat(self, request: api_pb2.AppHeartbeatRequest, call: Call) -> Empty:
        """Hear that an ephemeral App's client lives; it ends 60 s after the last one."""
        self.core.app_lives.heard(call.workspace, find_app(call.workspace, request.app_id))
        return Empty()

    @unary
    async def AppClientDisconnect(self, request: api_pb2.AppClientDisconnectRequest, call: Call) -> Empty:
        """End an ephemeral App; a detached one goes on as long as its sandboxes run, a deployed one always."""
        self.core.app_lives.left(call.workspace, find_app(call.workspace, request.app_id))
        return Empty()

    @unary
    async def AppStop(self, request: api_pb2.AppStopRequest, call: Call) -> Empty:
        """Stop an App: its sandboxes are terminated and its name is free."""
        self.core.app_lives.stop(call.workspace, find_app(call.workspace, request.app_id), by=call.workspace.username)
        return Empty()

    # -- looked at

    @unary
    async def AppList(self, request: api_pb2.AppListRequest, call: Call) -> api_pb2.AppListResponse:
        """List an environment's Apps, the newest first: those that live and the last 100 that were stopped."""
        workspace = call.workspace
        apps = listed(workspace.apps.values(), call.environment(request.environment_name))
        running = [one.app_id for one in workspace.sandboxes.values() if one.result is None]
        return api_pb2.AppListResponse(apps=[app_item(workspace, app, running.count(app.app_id)) for app in apps])

    @unary
    async def AppGetInfo(self, request: api_pb2.AppGetInfoRequest, call: Call) -> api_pb2.AppGetInfoResponse:
        """Tell an App's name, state and history; it has no Functions and no Servers."""
        return api_pb2.AppGetInfoResponse(info=handle_of(call.workspace, find_app(call.workspace, request.app_id)))

    @unary
    async def AppGetLifecycle(self, request: api_pb2.AppGetLifecycleRequest, call: Call) -> api_pb2.AppGetLifecycleResponse:
        """Tell an App's state."""
        app = find_app(call.workspace, request.app_id)
        return api_pb2.AppGetLifecycleResponse(lifecycle=lifecycle_of(call.workspace, app))

    @unary
    async def AppGetLayout(self, request: api_pb2.AppGetLayoutRequest, call: Call) -> api_pb2.AppGetLayoutResponse:
        """Tell that an App holds no Functions and no Classes."""
        find_app(call.workspace, request.app_id)
        return api_pb2.AppGetLayoutResponse(app_layout=api_pb2.AppLayout())

    @unary
    async def AppGetObjects(self, request: api_pb2.AppGetObjectsRequest, call: Call) -> api_pb2.AppGetObjectsResponse:
        """Tell that an App holds no objects."""
        find_app(call.workspace, request.app_id)
        return api_pb2.AppGetObjectsResponse()

    @partial("Functions and Servers, which there are none of")
    @unary
    async def AppGetTimeRangeStats(
        self, request: api_pb2.AppGetTimeRangeStatsRequest, call: Call
    ) -> api_pb2.AppGetTimeRangeStatsResponse:
        """Count the sandboxes that finished in a time range, and those that ran at its end."""
        app = find_app(call.workspace, request.app_id)
        low, high = request.since.ToNanoseconds() / 1e9, request.until.ToNanoseconds() / 1e9
        mine = [one for one in call.workspace.sandboxes.values() if one.app_id == app.app_id and one.created_at < high]
        finished = sum(low <= one.finished_at < high for one in mine)
        live = sum(one.result is None or one.finished_at >= high for one in mine)
        return api_pb2.AppGetTimeRangeStatsResponse(
            since=request.since,
            until=request.until,
            sandboxes=api_pb2.AppSandboxCounts(total=finished + live, finished=finished, live=live),
            lifecycle=lifecycle_of(call.workspace, app),
            deployment_count=sum(low <= one.deployed_at < high for one in app.deployments),
        )

    @unary
    async def AppSetTags(self, request: api_pb2.AppSetTagsRequest, call: Call) -> Empty:
        """Replace all tags."""
        app = find_app(call.workspace, request.app_id)
        app.tags = _checked(dict(request.tags))
        self.core.state_changed(call.workspace, app)
        return Empty()

    @unary
    async def AppGetTags(self, request: api_pb2.AppGetTagsRequest, call: Call) -> api_pb2.AppGetTagsResponse:
        """Return the tags."""
        return api_pb2.AppGetTagsResponse(tags=find_app(call.workspace, request.app_id).tags)


def _live(workspace: Workspace, app_id: str) -> App:
    app = find_app(workspace, app_id)
    if app.stopped_at is not None:
        fail(Status.FAILED_PRECONDITION, f"App '{app_id}' was stopped")
    return app


def _checked(tags: dict[str, str]) -> dict[str, str]:
    for name, value in tags.items():
        if not _TAG.fullmatch(name) or not _TAG.fullmatch(value):
            fail(
                Status.INVALID_ARGUMENT,
                f"App tag {name!r}={value!r}: write 1 to 63 letters, digits, dashes, periods or underscores in both",
            )
    return tags
