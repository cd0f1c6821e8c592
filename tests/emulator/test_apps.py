"""Apps: looked up, run, deployed without Functions, stopped, and ended because nobody is there any more; their containers."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import modal
import pytest
from grpclib import Status
from modal.exception import ConflictError, InvalidError, NotFoundError
from modal_proto import api_pb2

from modalflow.emulator import EmulatorThread
from modalflow.emulator.machines.app_lives import SILENT_SECONDS
from modalflow.emulator.state import apps as state
from tests.emulator.conftest import Eventually, StartEmulator, connect, rpc


@pytest.fixture
def app(workspace_client: modal.Client) -> modal.App:
    return modal.App.lookup("an-app", create_if_missing=True, client=workspace_client)


def id_of(app: modal.App) -> str:
    assert app.app_id is not None
    return app.app_id


def sandbox_in(app: modal.App, client: modal.Client, *args: str) -> modal.Sandbox:
    return modal.Sandbox.create(*(args or ("cat",)), app=app, client=client, image=modal.Image.debian_slim("3.11"), timeout=60)


def listed(client: modal.Client) -> dict[str, api_pb2.AppListResponse.AppListItem]:
    return {one.app_id: one for one in rpc(client, "AppList", api_pb2.AppListRequest()).apps}


def lifecycle(client: modal.Client, app_id: str) -> api_pb2.AppLifecycle:
    found: api_pb2.AppGetLifecycleResponse = rpc(client, "AppGetLifecycle", api_pb2.AppGetLifecycleRequest(app_id=app_id))
    return found.lifecycle


def create(client: modal.Client, state: int = api_pb2.APP_STATE_EPHEMERAL) -> str:
    request = api_pb2.AppCreateRequest(description="script.py", app_state=state)  # type: ignore[arg-type]
    return str(rpc(client, "AppCreate", request).app_id)


def test_a_stopped_app_ends_its_sandboxes_and_frees_its_name(app: modal.App, workspace_client: modal.Client) -> None:
    sandbox = sandbox_in(app, workspace_client)
    assert listed(workspace_client)[id_of(app)].n_running_tasks == 1
    app.stop(client=workspace_client)
    sandbox.wait(raise_on_termination=False)
    assert sandbox.returncode == 137
    with pytest.raises(NotFoundError, match="App 'an-app' not found in environment 'main'"):
        modal.App.lookup("an-app", client=workspace_client)
    item = listed(workspace_client)[id_of(app)]
    assert (item.state, item.n_running_tasks, item.description) == (api_pb2.APP_STATE_STOPPED, 0, "an-app")
    assert item.metadata.lifecycle.stopped_by == "emulator"
    found = rpc(workspace_client, "AppGetByDeploymentName", api_pb2.AppGetByDeploymentNameRequest(name="an-app"))
    assert (found.app_id, found.previous_app_id, found.environment_name) == ("", app.app_id, "main")
    again = modal.App.lookup("an-app", create_if_missing=True, client=workspace_client)
    assert again.app_id != app.app_id


def test_tags(app: modal.App, workspace_client: modal.Client) -> None:
    app.set_tags({"team": "a", "x": "1"}, client=workspace_client)
    app.set_tags({"team": "b"}, client=workspace_client)
    assert app.get_tags(client=workspace_client) == {"team": "b"}
    with pytest.raises(InvalidError, match="App tag 'team'='with space'"):
        rpc(workspace_client, "AppSetTags", api_pb2.AppSetTagsRequest(app_id=id_of(app), tags={"team": "with space"}))


def test_an_app_that_runs_ends_with_its_block(workspace_client: modal.Client) -> None:
    app = modal.App(tags={"team": "a"})
    with app.run(client=workspace_client):
        assert lifecycle(workspace_client, id_of(app)).app_state == api_pb2.APP_STATE_EPHEMERAL
        assert app.get_tags(client=workspace_client) == {"team": "a"}
        sandbox = sandbox_in(app, workspace_client)
        assert app.info().lifecycle.state.value == "ephemeral"
        app_id = id_of(app)
    sandbox.wait(raise_on_termination=False)
    assert sandbox.returncode == 137
    end = lifecycle(workspace_client, app_id)
    assert (end.app_state, end.stopped_by) == (api_pb2.APP_STATE_STOPPED, "")


def test_an_ephemeral_app_ends_when_its_client_is_silent(workspace_client: modal.Client, shared_emulator: EmulatorThread) -> None:
    silent, heard, deployed = (create(workspace_client), create(workspace_client), create(workspace_client))
    app = modal.App.lookup("an-app", create_if_missing=True, client=workspace_client)
    publish = api_pb2.AppPublishRequest(app_id=deployed, name="deployed", app_state=api_pb2.APP_STATE_DEPLOYED)
    rpc(workspace_client, "AppPublish", publish)
    shared_emulator.clock.advance(SILENT_SECONDS - 1)
    rpc(workspace_client, "AppHeartbeat", api_pb2.AppHeartbeatRequest(app_id=heard))
    shared_emulator.clock.advance(2)
    states = [lifecycle(workspace_client, one).app_state for one in (silent, heard, deployed, id_of(app))]
    assert states == [
        api_pb2.APP_STATE_STOPPED,
        api_pb2.APP_STATE_EPHEMERAL,
        api_pb2.APP_STATE_DEPLOYED,
        api_pb2.APP_STATE_DEPLOYED,
    ]


def test_a_detached_app_goes_on_as_long_as_its_sandboxes(
    workspace_client: modal.Client, shared_emulator: EmulatorThread, eventually: Eventually
) -> None:
    app_id = create(workspace_client, api_pb2.APP_STATE_DETACHED)
    request = api_pb2.SandboxCreateRequest(app_id=app_id, definition=api_pb2.Sandbox(entrypoint_args=["cat"], timeout_secs=60))
    image = modal.Image.debian_slim("3.11")
    image.build(modal.App.lookup("an-app", create_if_missing=True, client=workspace_client))
    request.definition.image_id = image.object_id
    sandbox_id = rpc(workspace_client, "SandboxCreate", request).sandbox_id
    rpc(workspace_client, "AppClientDisconnect", api_pb2.AppClientDisconnectRequest(app_id=app_id))
    shared_emulator.clock.advance(SILENT_SECONDS * 0.9)
    assert lifecycle(workspace_client, app_id).app_state == api_pb2.APP_STATE_DETACHED_DISCONNECTED
    rpc(workspace_client, "SandboxTerminate", api_pb2.SandboxTerminateRequest(sandbox_id=sandbox_id))
    eventually(lambda: lifecycle(workspace_client, app_id).app_state == api_pb2.APP_STATE_STOPPED)


def test_deployments_of_an_app_without_functions(workspace_client: modal.Client) -> None:
    app = modal.App("deployed", tags={"team": "a"})
    app.deploy(client=workspace_client, tag="first")
    app_id = id_of(app)
    modal.App("deployed").deploy(client=workspace_client)
    found = modal.App.lookup("deployed", client=workspace_client)
    assert found.app_id == app_id
    history = rpc(workspace_client, "AppDeploymentHistory", api_pb2.AppDeploymentHistoryRequest(app_id=app_id))
    assert [(one.version, one.tag, one.deployed_by) for one in history.app_deployment_histories] == [
        (2, "", "emulator"),
        (1, "first", "emulator"),
    ]
    assert found.info().lifecycle.version == 2
    app.stop(client=workspace_client)
    with pytest.raises(ConflictError, match=r"App 'ap-\w+' was stopped"):
        rpc(workspace_client, "AppPublish", api_pb2.AppPublishRequest(app_id=app_id))


@pytest.mark.parametrize("kind", [modal.Dict, modal.Queue, modal.Volume, modal.Secret])
def test_a_delete_whose_answer_was_lost_is_not_told_that_nothing_is_there(
    workspace_client: modal.Client, shared_emulator: EmulatorThread, kind: Any
) -> None:
    content = ({"KEY": "value"},) if kind is modal.Secret else ()
    kind.objects.create("one", *content, client=workspace_client)
    shared_emulator.faults.add(f"{kind.__name__}Delete", status=Status.UNAVAILABLE, after_handler=True)
    kind.objects.delete("one", client=workspace_client)
    assert kind.objects.list(client=workspace_client) == []


def test_a_deployment_whose_answer_was_lost_is_made_once(workspace_client: modal.Client, shared_emulator: EmulatorThread) -> None:
    shared_emulator.faults.add("AppPublish", status=Status.UNAVAILABLE, after_handler=True)
    app = modal.App("once")
    app.deploy(client=workspace_client)
    assert modal.App.lookup("once", client=workspace_client).info().lifecycle.version == 1


def test_an_app_with_a_function_is_refused_by_name(workspace_client: modal.Client) -> None:
    app = modal.App("with-a-function")

    @app.function(serialized=True)
    def function() -> None: ...

    with pytest.raises(modal.exception.UnimplementedError, match=r"Function\w+ is not implemented by the modalflow emulator"):
        app.deploy(client=workspace_client)


def test_stats_count_sandboxes(app: modal.App, workspace_client: modal.Client) -> None:
    sandbox_in(app, workspace_client)
    done = sandbox_in(app, workspace_client, "true")
    done.wait()
    now = datetime.now(UTC)
    stats = app.stats(since=now - timedelta(hours=1), until=now + timedelta(days=1))
    assert (stats.sandboxes.live, stats.sandboxes.finished) == (1, 1)


def test_logs_of_an_app_end_when_it_is_stopped(app: modal.App, workspace_client: modal.Client) -> None:
    done = sandbox_in(app, workspace_client, "echo", "hello")
    done.wait()
    app.stop(client=workspace_client)

    async def follow() -> list[str]:
        return [entry.message async for entry in app.logs.stream.aio()]

    assert "".join(asyncio.run(asyncio.wait_for(follow(), 20))) == "hello\n"


def test_containers(app: modal.App, workspace_client: modal.Client) -> None:
    sandbox = sandbox_in(app, workspace_client)
    tasks = rpc(workspace_client, "TaskList", api_pb2.TaskListRequest()).tasks
    assert [(one.app_id, one.app_description) for one in tasks] == [(app.app_id, "an-app")]
    info = rpc(workspace_client, "TaskGetInfo", api_pb2.TaskGetInfoRequest(task_id=tasks[0].task_id))
    assert (info.app_id, info.info.sandbox_id, info.info.finished_at) == (app.app_id, sandbox.object_id, 0.0)
    assert rpc(workspace_client, "TaskList", api_pb2.TaskListRequest(app_id="ap-none")).tasks == []
    rpc(workspace_client, "ContainerStop", api_pb2.ContainerStopRequest(task_id=tasks[0].task_id))
    sandbox.wait(raise_on_termination=False)
    assert sandbox.returncode == 137
    assert rpc(workspace_client, "TaskList", api_pb2.TaskListRequest(app_id=id_of(app))).tasks == []
    with pytest.raises(NotFoundError, match="Container 'ta-none' not found"):
        rpc(workspace_client, "TaskGetInfo", api_pb2.TaskGetInfoRequest(task_id="ta-none"))


@pytest.mark.parametrize(
    ("method", "request_"),
    [
        ("AppStop", api_pb2.AppStopRequest),
        ("AppGetInfo", api_pb2.AppGetInfoRequest),
        ("AppSetTags", api_pb2.AppSetTagsRequest),
        ("AppHeartbeat", api_pb2.AppHeartbeatRequest),
        ("AppClientDisconnect", api_pb2.AppClientDisconnectRequest),
        ("AppDeploymentHistory", api_pb2.AppDeploymentHistoryRequest),
        ("AppFetchLogs", api_pb2.AppFetchLogsRequest),
    ],
)
def test_apps_of_another_workspace_are_not_found(
    app: modal.App, shared_emulator: EmulatorThread, workspace_client: modal.Client, method: str, request_: type[Any]
) -> None:
    other = connect(shared_emulator, MODAL_TOKEN_ID="ak-other", MODAL_TOKEN_SECRET="as-other")
    with pytest.raises(NotFoundError, match=f"App '{app.app_id}' not found"):
        rpc(other, method, request_(app_id=id_of(app)))
    assert rpc(other, "TaskList", api_pb2.TaskListRequest(app_id=id_of(app))).tasks == []
    other.close()
    assert lifecycle(workspace_client, id_of(app)).app_state == api_pb2.APP_STATE_DEPLOYED


def test_an_ephemeral_app_of_an_earlier_emulator_ends_too(start_emulator: StartEmulator, tmp_path: Path) -> None:
    emulator = start_emulator(state_dir=tmp_path)
    client = connect(emulator)
    app_id = create(client)
    client.close()
    emulator.stop()
    emulator = start_emulator(state_dir=tmp_path)
    client = connect(emulator)
    assert lifecycle(client, app_id).app_state == api_pb2.APP_STATE_EPHEMERAL
    emulator.clock.advance(SILENT_SECONDS + 1)
    assert lifecycle(client, app_id).app_state == api_pb2.APP_STATE_STOPPED
    client.close()


def test_names_that_may_have_been_meant(app: modal.App, workspace_client: modal.Client) -> None:
    request = api_pb2.ObjectSuggestRequest(kind=api_pb2.ObjectSuggestRequest.OBJECT_SUGGEST_KIND_APP, query="an-ap", limit=3)
    assert [one.object_name for one in rpc(workspace_client, "ObjectSuggest", request).suggestions] == ["an-app"]
    request.kind = api_pb2.ObjectSuggestRequest.OBJECT_SUGGEST_KIND_FUNCTION
    assert rpc(workspace_client, "ObjectSuggest", request).suggestions == []


def test_clients_before_publish(workspace_client: modal.Client) -> None:
    app_id = create(workspace_client, api_pb2.APP_STATE_INITIALIZING)
    rpc(workspace_client, "AppDeploy", api_pb2.AppDeployRequest(app_id=app_id, name="old"))
    assert rpc(workspace_client, "AppLookup", api_pb2.AppLookupRequest(app_name="old")).app_id == app_id
    layout = rpc(workspace_client, "AppGetLayout", api_pb2.AppGetLayoutRequest(app_id=app_id)).app_layout
    assert (dict(layout.function_ids), dict(layout.class_ids)) == ({}, {})


def test_a_list_shows_the_last_that_were_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "STOPPED_LISTED", 2)
    apps = [
        state.App(app_id=f"ap-{number}", name="", environment="main", created_at=number, stopped_at=stopped)
        for number, stopped in enumerate([10.0, 40.0, None, 30.0, 20.0])
    ]
    assert [app.app_id for app in state.listed(apps, "main")] == ["ap-3", "ap-2", "ap-1"]
