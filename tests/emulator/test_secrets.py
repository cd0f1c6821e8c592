"""Secrets by name: made, updated, listed, deleted; their values are never told."""

from __future__ import annotations

from typing import Any

import modal
import pytest
from modal.exception import AlreadyExistsError, ConflictError, InvalidError, NotFoundError
from modal_proto import api_pb2

from modalflow.emulator import EmulatorThread
from tests.emulator.conftest import StartEmulator, connect, rpc


@pytest.fixture
def named(workspace_client: modal.Client) -> modal.Secret:
    modal.Secret.objects.create("a-secret", {"KEY": "value", "OTHER": "old"}, client=workspace_client)
    return modal.Secret.from_name("a-secret", client=workspace_client)


def printed(client: modal.Client, secret: modal.Secret, **options: Any) -> str:
    app = modal.App.lookup("an-app", create_if_missing=True, client=client)
    image = modal.Image.debian_slim("3.11")
    script = "echo $KEY $OTHER $NEW"
    sandbox = modal.Sandbox.create("sh", "-c", script, app=app, image=image, secrets=[secret], client=client, **options)
    sandbox.wait()
    return sandbox.stdout.read().strip()


def test_an_update_merges_and_sandboxes_see_it(named: modal.Secret, workspace_client: modal.Client) -> None:
    assert printed(workspace_client, named) == "value old"
    named.update({"OTHER": "new", "NEW": "1"})
    assert printed(workspace_client, named) == "value new 1"
    updates = [api_pb2.SecretUpdateRequest.Update(key="KEY")]
    rpc(workspace_client, "SecretUpdate", api_pb2.SecretUpdateRequest(secret_id=named.object_id, updates=updates))
    metadata = rpc(workspace_client, "SecretGetInfo", api_pb2.SecretGetInfoRequest(secret_id=named.object_id)).metadata
    assert (metadata.name, list(metadata.keys), metadata.environment_name) == ("a-secret", ["NEW", "OTHER"], "main")
    assert metadata.last_used_at > metadata.creation_info.created_at


def test_required_keys(named: modal.Secret, workspace_client: modal.Client) -> None:
    modal.Secret.from_name("a-secret", required_keys=["KEY"], client=workspace_client).hydrate()
    with pytest.raises(ConflictError, match=r"Secret is missing key\(s\): A, B \(Secret 'a-secret'\)"):
        modal.Secret.from_name("a-secret", required_keys=["A", "KEY", "B"], client=workspace_client).hydrate()


def test_made_once_and_deleted(named: modal.Secret, workspace_client: modal.Client) -> None:
    objects = modal.Secret.objects
    with pytest.raises(AlreadyExistsError, match="Secret 'a-secret' already exists in environment 'main'"):
        objects.create("a-secret", {"KEY": "x"}, client=workspace_client)
    objects.create("a-secret", {"KEY": "x"}, allow_existing=True, client=workspace_client)
    assert printed(workspace_client, named) == "value old"
    info = named.info()
    assert (info.name, info.created_by) == ("a-secret", "emulator")
    objects.delete("a-secret", client=workspace_client)
    with pytest.raises(NotFoundError, match="Secret 'a-secret' not found in environment 'main'"):
        objects.delete("a-secret", client=workspace_client)
    with pytest.raises(NotFoundError, match=r"Secret 'st-\w+' not found"):
        named.update({"KEY": "y"})


def test_a_list_is_paged_newest_first_and_without_unnamed_ones(workspace_client: modal.Client) -> None:
    names = [f"secret-{number}" for number in range(103)]
    for name in names:
        modal.Secret.objects.create(name, {"KEY": "hidden-value"}, client=workspace_client)
    rpc(
        workspace_client,
        "SecretGetOrCreate",
        api_pb2.SecretGetOrCreateRequest(object_creation_type=api_pb2.OBJECT_CREATION_TYPE_EPHEMERAL, env_dict={"A": "1"}),
    )
    assert [one.name for one in modal.Secret.objects.list(client=workspace_client)] == names[::-1]
    assert b"hidden-value" not in rpc(workspace_client, "SecretList", api_pb2.SecretListRequest()).SerializeToString()


@pytest.mark.parametrize("key", ["", "A=B", "A\0B"])
def test_keys_that_no_environment_can_hold(named: modal.Secret, workspace_client: modal.Client, key: str) -> None:
    with pytest.raises(InvalidError, match="no environment can hold it"):
        modal.Secret.objects.create("another", {key: "value"}, client=workspace_client)
    with pytest.raises(InvalidError, match="no environment can hold it"):
        named.update({key: "value"})


def test_a_secret_of_an_app_ends_with_it(workspace_client: modal.Client, shared_emulator: EmulatorThread) -> None:
    app = modal.App.lookup("an-app", create_if_missing=True, client=workspace_client)
    request = api_pb2.SecretGetOrCreateRequest(
        object_creation_type=api_pb2.OBJECT_CREATION_TYPE_ANONYMOUS_OWNED_BY_APP, env_dict={"A": "1"}, app_id=str(app.app_id)
    )
    secret_id = rpc(workspace_client, "SecretGetOrCreate", request).secret_id
    app.stop(client=workspace_client)
    with pytest.raises(NotFoundError):
        rpc(workspace_client, "SecretGetInfo", api_pb2.SecretGetInfoRequest(secret_id=secret_id))


def test_workspaces_do_not_see_each_others_secrets(named: modal.Secret, shared_emulator: EmulatorThread) -> None:
    named.hydrate()
    other = connect(shared_emulator, MODAL_TOKEN_ID="ak-other", MODAL_TOKEN_SECRET="as-other")
    for method, request in (
        ("SecretGetInfo", api_pb2.SecretGetInfoRequest(secret_id=named.object_id)),
        ("SecretDelete", api_pb2.SecretDeleteRequest(secret_id=named.object_id)),
    ):
        with pytest.raises(NotFoundError):
            rpc(other, method, request)
    other.close()


def test_an_update_outlives_the_emulator(start_emulator: StartEmulator, tmp_path: Any) -> None:
    emulator = start_emulator(state_dir=tmp_path)
    client = connect(emulator)
    modal.Secret.objects.create("a-secret", {"KEY": "value"}, client=client)
    modal.Secret.from_name("a-secret", client=client).update({"OTHER": "new"})
    client.close()
    emulator.stop()
    client = connect(start_emulator(state_dir=tmp_path))
    modal.Secret.from_name("a-secret", required_keys=["KEY", "OTHER"], client=client).hydrate()
    client.close()
