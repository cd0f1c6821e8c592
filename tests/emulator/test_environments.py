"""Environments and the workspace: settings, names, members, prices, and what goes with an environment that is deleted."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import modal
import pytest
from google.protobuf.empty_pb2 import Empty
from google.protobuf.wrappers_pb2 import StringValue
from modal.exception import AlreadyExistsError, ConflictError, InvalidError, NotFoundError
from modal_proto import api_pb2

from modalflow.emulator import EmulatorThread
from tests.emulator.conftest import StartEmulator, connect, rpc


def names(client: modal.Client) -> list[str | None]:
    return [one.name for one in modal.Environment.objects.list(client=client)]


def update(client: modal.Client, current: str, **fields: object) -> api_pb2.EnvironmentListItem:
    request = api_pb2.EnvironmentUpdateRequest(current_name=current, **fields)  # type: ignore[arg-type]
    found: api_pb2.EnvironmentListItem = rpc(client, "EnvironmentUpdate", request)
    return found


def test_made_listed_and_deleted(workspace_client: modal.Client) -> None:
    assert names(workspace_client) == ["main"]
    modal.Environment.objects.create("dev", client=workspace_client)
    with pytest.raises(AlreadyExistsError, match="Environment 'dev' already exists"):
        modal.Environment.objects.create("dev", client=workspace_client)
    modal.Environment.from_name("made", create_if_missing=True, client=workspace_client).hydrate()
    assert names(workspace_client) == ["main", "dev", "made"]
    modal.Environment.objects.delete("dev", client=workspace_client)
    with pytest.raises(NotFoundError, match="Environment 'dev' not found"):
        modal.Environment.from_name("dev", client=workspace_client).hydrate()
    with pytest.raises(NotFoundError, match="Environment 'dev' not found"):
        modal.Environment.objects.delete("dev", client=workspace_client)


def test_objects_of_one_name_in_two_environments(workspace_client: modal.Client) -> None:
    modal.Environment.objects.create("dev", client=workspace_client)
    one, other = (
        modal.Dict.from_name("d", environment_name=name, create_if_missing=True, client=workspace_client)
        for name in ("main", "dev")
    )
    one["where"], other["where"] = "main", "dev"
    assert (one["where"], other["where"]) == ("main", "dev")
    with pytest.raises(NotFoundError, match="Environment 'nowhere' not found"):
        modal.Queue.from_name("q", environment_name="nowhere", create_if_missing=True, client=workspace_client).hydrate()


def test_an_environment_is_meant_by_its_id_too(workspace_client: modal.Client) -> None:
    found = rpc(workspace_client, "EnvironmentGetOrCreate", api_pb2.EnvironmentGetOrCreateRequest())
    modal.Dict.objects.create("d", client=workspace_client)
    listed = rpc(workspace_client, "DictList", api_pb2.DictListRequest(environment_name=found.environment_id))
    assert ([one.name for one in listed.dicts], listed.environment_name) == (["d"], "main")
    again = rpc(
        workspace_client, "EnvironmentGetOrCreate", api_pb2.EnvironmentGetOrCreateRequest(deployment_name=found.environment_id)
    )
    assert (again.environment_id, again.metadata.name) == (found.environment_id, "main")
    with pytest.raises(NotFoundError, match="Environment 'en-none' not found"):
        rpc(workspace_client, "DictList", api_pb2.DictListRequest(environment_name="en-none"))


def test_a_rename_takes_everything_along(workspace_client: modal.Client) -> None:
    modal.Environment.objects.create("dev", client=workspace_client)
    options: dict[str, Any] = {"environment_name": "dev", "client": workspace_client}
    modal.Secret.objects.create("s", {"KEY": "value"}, **options)
    modal.Volume.objects.create("v", **options)
    modal.Dict.objects.create("d", **options)
    modal.Queue.objects.create("q", **options)
    app = modal.App.lookup("a", create_if_missing=True, environment_name="dev", client=workspace_client)
    assert update(workspace_client, "dev", name=StringValue(value="stage")).name == "stage"
    options = {"environment_name": "stage", "client": workspace_client}
    assert modal.App.lookup("a", **options).app_id == app.app_id
    for kind in (modal.Secret, modal.Volume, modal.Dict, modal.Queue):
        assert [len(kind.objects.list(**options))] == [1]
    with pytest.raises(AlreadyExistsError, match="Environment 'main' already exists"):
        update(workspace_client, "stage", name=StringValue(value="main"))
    with pytest.raises(InvalidError, match="Invalid Environment name: 'en-x'"):
        update(workspace_client, "stage", name=StringValue(value="en-x"))


def test_deleting_one_deletes_what_is_in_it_and_ends_its_sandboxes(workspace_client: modal.Client) -> None:
    modal.Environment.objects.create("dev", client=workspace_client)
    options: dict[str, Any] = {"environment_name": "dev", "client": workspace_client}
    app = modal.App.lookup("a", create_if_missing=True, **options)
    image = modal.Image.debian_slim("3.11")
    sandbox = modal.Sandbox.create("cat", app=app, image=image, client=workspace_client)
    modal.Volume.objects.create("v", **options)
    modal.Dict.objects.create("d", **options)
    modal.Environment.objects.delete("dev", client=workspace_client)
    assert sandbox.wait(raise_on_termination=False) is None
    assert sandbox.returncode == 137
    modal.Environment.objects.create("dev", client=workspace_client)
    assert (modal.Volume.objects.list(**options), modal.Dict.objects.list(**options)) == ([], [])
    with pytest.raises(NotFoundError):
        modal.App.lookup("a", **options)


def test_the_default_environment_can_be_another_and_is_not_deleted(workspace_client: modal.Client) -> None:
    modal.Environment.objects.create("dev", client=workspace_client)
    workspace = modal.Workspace.from_context(client=workspace_client)
    workspace.settings.set("default-environment", "dev")
    assert workspace.settings.list().default_environment == "dev"
    modal.Dict.objects.create("d", client=workspace_client)
    assert [one.name for one in modal.Dict.objects.list(environment_name="dev", client=workspace_client)] == ["d"]
    with pytest.raises(ConflictError, match="Environment 'dev' is the default one and cannot be deleted"):
        modal.Environment.objects.delete("dev", client=workspace_client)
    modal.Environment.objects.delete("main", client=workspace_client)
    assert names(workspace_client) == ["dev"]
    with pytest.raises(NotFoundError):
        workspace.settings.set("default-environment", "main")


def test_image_builder_versions(workspace_client: modal.Client) -> None:
    workspace = modal.Workspace.from_context(client=workspace_client)
    workspace.settings.set("image-builder-version", "2024.10")
    assert workspace.settings.list().image_builder_version == "2024.10"
    request = api_pb2.EnvironmentGetOrCreateRequest()
    assert rpc(workspace_client, "EnvironmentGetOrCreate", request).metadata.settings.image_builder_version == "2024.10"
    update(workspace_client, "main", image_builder_version="2023.12", web_suffix=StringValue(value="x"))
    settings = rpc(workspace_client, "EnvironmentGetOrCreate", request).metadata.settings
    assert (settings.image_builder_version, settings.webhook_suffix) == ("2023.12", "x")
    with pytest.raises(InvalidError, match=r"Image builder version '1999\.01' does not exist; write one of 2023\.12"):
        update(workspace_client, "main", image_builder_version="1999.01")
    assert not update(workspace_client, "main", image_builder_version="").HasField("image_builder_version")


def test_who_and_where(workspace_client: modal.Client, shared_emulator: EmulatorThread) -> None:
    workspace = modal.Workspace.from_context(client=workspace_client).hydrate()
    token = rpc(workspace_client, "TokenInfoGet", api_pb2.TokenInfoGetRequest())
    assert token.token_id == token.workspace_name == workspace.name
    assert token.user_identity.username == "emulator"
    assert [(one.name, one.role) for one in workspace.members.list()] == [("emulator", "owner")]
    assert [one.token_id for one in workspace.member_tokens.list()] == [token.token_id]
    roles = modal.Environment.from_name("main", client=workspace_client).roles
    assert roles.list() == {"users": {"emulator": "contributor"}, "service_users": {}}
    assert roles.list(exclude_default=True) == {"users": {}, "service_users": {}}
    other = connect(shared_emulator, MODAL_TOKEN_ID="ak-other", MODAL_TOKEN_SECRET="as-other")
    assert modal.Workspace.from_context(client=other).hydrate().name == "ak-other"
    other.close()


def test_prices_are_told_and_nothing_is_billed(workspace_client: modal.Client) -> None:
    billing = modal.Workspace.from_context(client=workspace_client).billing
    rates = billing.rates()
    assert (rates["CPU"], rates["H100"]) == (Decimal("0.00003942"), Decimal("0.001097"))
    assert "the emulator bills nothing" in str(rates)
    start = datetime(2026, 12, 1, tzinfo=UTC)
    assert billing.report(start=start) == []
    summary = rpc(workspace_client, "WorkspaceBillingSummary", request := api_pb2.WorkspaceBillingSummaryRequest())
    assert (summary.metered_cost, summary.billed_cost) == ("0", "0")
    request.start_timestamp.FromDatetime(start)
    summary = rpc(workspace_client, "WorkspaceBillingSummary", request)
    assert summary.end_timestamp.ToDatetime(UTC) == datetime(2027, 1, 1, tzinfo=UTC)
    environment = modal.Environment.from_name("main", client=workspace_client)
    assert environment.billing.summary().metered_cost == 0
    assert environment.billing.report(start=start) == []


def test_default_is_marked_in_the_list(workspace_client: modal.Client) -> None:
    rpc(workspace_client, "EnvironmentCreate", api_pb2.EnvironmentCreateRequest(name="dev", is_managed=True))
    items = rpc(workspace_client, "EnvironmentList", Empty()).items
    assert [(one.name, one.default, one.is_managed) for one in items] == [("main", True, False), ("dev", False, True)]


def test_environments_settings_and_apps_outlive_the_emulator(start_emulator: StartEmulator, tmp_path: Path) -> None:
    emulator = start_emulator(state_dir=tmp_path)
    client = connect(emulator)
    modal.Environment.objects.create("dev", client=client)
    modal.Workspace.from_context(client=client).settings.set("default-environment", "dev")
    modal.Environment.objects.delete("main", client=client)
    update(client, "dev", name=StringValue(value="stage"))
    app = modal.App("kept", tags={"team": "a"})
    app.deploy(client=client, tag="first")
    client.close()
    emulator.stop()
    client = connect(start_emulator(state_dir=tmp_path))
    assert names(client) == ["stage"]
    found = modal.App.lookup("kept", client=client)
    assert (found.app_id, found.get_tags(client=client)) == (app.app_id, {"team": "a"})
    history = rpc(client, "AppDeploymentHistory", api_pb2.AppDeploymentHistoryRequest(app_id=str(found.app_id)))
    assert [one.tag for one in history.app_deployment_histories] == ["first"]
    client.close()
