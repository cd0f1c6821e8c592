"""Parameters of a sandbox beyond its hardware, on the wire and seen from inside a sandbox of the emulator."""

from __future__ import annotations

import asyncio
import base64
import json
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import modal
import pytest
from modal_proto import api_pb2

from modalflow.launch.gateway import GatewayError, InvalidRequest, NotFound
from modalflow.modal_gateway import ModalGateway
from modalflow.translation.plan import MODALFLOWS, Bucket, BucketPlan, Home, ImagePlan, SandboxPlan, SecretPlan, VolumePlan
from tests.contract.conftest import SETTINGS, WithGateway

if TYPE_CHECKING:
    from modalflow.emulator import EmulatorThread

pytestmark = pytest.mark.emulated

PLAN = SandboxPlan(image=ImagePlan(reference=None, python_version="3.11"), timeout=600)


async def printed(gateway: ModalGateway, plan: SandboxPlan, *argv: str, gpu: str | None = None) -> str:
    """Run a command in a sandbox and return what it printed."""
    sandbox_id = await gateway.create(plan, name=str(uuid.uuid4()), gpu=gpu, argv=argv, secret_env={})
    await gateway.wait(sandbox_id)
    return await gateway.output_tail(sandbox_id, max_bytes=10_000)


@pytest.mark.parametrize("gpu", [None, "A10G"])
def test_the_identity_token_is_in_the_sandbox(
    modal_emulator: EmulatorThread, with_gateway: WithGateway[str], gpu: str | None
) -> None:
    plan = replace(PLAN, oidc=True, gpu_candidates=(gpu,) if gpu else ())
    token = with_gateway(lambda gateway: printed(gateway, plan, "sh", "-c", "echo $MODAL_IDENTITY_TOKEN", gpu=gpu)).strip()
    claims: dict[str, Any] = json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "=="))
    assert claims["iss"] == "https://oidc.modal.com"
    assert claims["aud"] == "oidc.modal.com"
    assert claims["exp"] > claims["iat"]
    assert (claims["environment_name"], claims["app_name"]) == ("main", "modalflow")
    workspace = modal_emulator.workspace
    assert claims["workspace_id"] == workspace.workspace_id
    assert claims["environment_id"] == workspace.environments["main"].environment_id
    assert claims["sub"] == (
        f"modal:workspace_id:{claims['workspace_id']}:environment_name:main:app_name:modalflow:container_id:{claims['container_id']}"
    )


def test_there_is_no_identity_token_unless_it_is_asked_for(
    modal_emulator: EmulatorThread, with_gateway: WithGateway[str]
) -> None:
    assert with_gateway(lambda gateway: printed(gateway, PLAN, "sh", "-c", "echo token:$MODAL_IDENTITY_TOKEN")) == "token:\n"
    (call,) = modal_emulator.calls("SandboxCreateV2")
    assert isinstance(call, api_pb2.SandboxCreateV2Request)
    assert not call.definition.include_oidc_identity_token


def bucket_plan(path: str, **bucket: Any) -> SandboxPlan:
    return replace(PLAN, buckets=(BucketPlan(mount_path=path, bucket=Bucket(**bucket)),))


class TestBuckets:
    @pytest.mark.parametrize("gpu", [None, "A10G"])
    def test_a_bucket_is_a_folder_of_the_sandbox(
        self, modal_emulator: EmulatorThread, with_gateway: WithGateway[str], gpu: str | None
    ) -> None:
        folder = modal_emulator.bucket("raw")
        (folder / "2026").mkdir()
        (folder / "2026" / "in.csv").write_text("a,b")
        (folder / "other").write_text("not below the prefix")
        plan = replace(bucket_plan("/data", name="raw", prefix="2026/"), gpu_candidates=(gpu,) if gpu else ())
        script = 'ls "$1"; cat "$1/in.csv"; echo 1 > "$1/out.csv"'
        told = with_gateway(lambda gateway: printed(gateway, plan, "sh", "-c", script, "sh", "/data", gpu=gpu))
        assert told == "in.csv\na,b"
        assert (folder / "2026" / "out.csv").read_text() == "1\n"

    def test_what_is_written_to_a_read_only_bucket_is_not_in_it(
        self, modal_emulator: EmulatorThread, with_gateway: WithGateway[str]
    ) -> None:
        folder = modal_emulator.bucket("raw")
        (folder / "in.csv").write_text("a,b")
        plan = bucket_plan("/data", name="raw", read_only=True)
        script = 'cat "$1/in.csv"; echo 1 > "$1/out.csv"'
        assert with_gateway(lambda gateway: printed(gateway, plan, "sh", "-c", script, "sh", "/data")) == "a,b"
        assert [path.name for path in folder.iterdir()] == ["in.csv"]

    def test_everything_of_a_bucket_is_on_the_wire_but_its_keys(
        self, modal_emulator: EmulatorThread, with_gateway: WithGateway[str]
    ) -> None:
        keys = ("GOOGLE_ACCESS_KEY_ID", "GOOGLE_ACCESS_KEY_SECRET")
        plan = bucket_plan(
            "/data",
            name="models",
            prefix="v2/",
            endpoint="https://storage.googleapis.com",
            secret=SecretPlan(name="gcs", required_keys=keys),
            read_only=True,
            requester_pays=True,
            path_style=True,
        )

        async def scene(gateway: ModalGateway) -> str:
            client = await modal.Client.from_env.aio()
            await modal.Secret.objects.create.aio("gcs", dict.fromkeys(keys, "hunter2"), client=client)
            await client.close.aio()
            return await printed(gateway, plan, "sh", "-c", "env")

        assert "hunter2" not in with_gateway(scene), "the keys open the bucket and are no variables of the task"
        (call,) = modal_emulator.calls("SandboxCreateV2")
        assert isinstance(call, api_pb2.SandboxCreateV2Request)
        (mount,) = call.definition.cloud_bucket_mounts
        assert mount.credentials_secret_id.startswith("st-")
        assert "hunter2" not in str(call)
        assert (mount.bucket_name, mount.mount_path, mount.key_prefix) == ("models", "/data", "v2/")
        assert (mount.bucket_endpoint_url, mount.bucket_type) == (
            "https://storage.googleapis.com",
            api_pb2.CloudBucketMount.BucketType.GCP,
        )
        assert (mount.read_only, mount.requester_pays, mount.force_path_style) == (True, True, True)

    def test_a_role_instead_of_keys(self, modal_emulator: EmulatorThread, with_gateway: WithGateway[str]) -> None:
        role = "arn:aws:iam::123456789012:role/reader"
        with_gateway(lambda gateway: printed(gateway, bucket_plan("/data", name="raw", role_arn=role), "true"))
        (call,) = modal_emulator.calls("SandboxCreateV2")
        assert isinstance(call, api_pb2.SandboxCreateV2Request)
        assert call.definition.cloud_bucket_mounts[0].oidc_auth_role_arn == role

    def test_a_secret_without_the_keys_is_told_before_the_launch(self, with_gateway: WithGateway[str]) -> None:
        plan = bucket_plan("/data", name="raw", secret=SecretPlan(name="aws", required_keys=("AWS_ACCESS_KEY_ID",)))

        async def scene(gateway: ModalGateway) -> str:
            client = await modal.Client.from_env.aio()
            await modal.Secret.objects.create.aio("aws", {"AWS_KEY": "x"}, client=client)
            await client.close.aio()
            return await printed(gateway, plan, "true")

        with pytest.raises(InvalidRequest, match=r"Secret is missing key\(s\): AWS_ACCESS_KEY_ID \(Secret 'aws'\)"):
            with_gateway(scene)

    def test_what_the_emulator_does_not_mount(self, with_gateway: WithGateway[str]) -> None:
        inner = VolumePlan(mount_path="/data/inner", name="models", create_if_missing=True)
        plan = replace(bucket_plan("/data", name="raw"), volumes=(inner,))
        with pytest.raises(GatewayError, match="This emulator mounts nothing below the bucket at '/data'"):
            with_gateway(lambda gateway: printed(gateway, plan, "true"))

    def test_a_bucket_inside_a_volume_is_not_committed_to_it(
        self, modal_emulator: EmulatorThread, with_gateway: WithGateway[str]
    ) -> None:
        outer = VolumePlan(mount_path="/v", name="models", create_if_missing=True)
        plan = replace(bucket_plan("/v/b", name="raw"), volumes=(outer,))
        with_gateway(lambda gateway: printed(gateway, plan, "sh", "-c", 'touch "$1/a" "$1/b/c"', "sh", "/v"))
        (volume,) = modal_emulator.workspace.volumes.values()
        assert list(volume.tree.root.entries) == ["a"]
        assert [path.name for path in modal_emulator.bucket("raw").iterdir()] == ["c"]


@pytest.mark.parametrize("runtime", ["gvisor", "vm"])
def test_the_runtime_is_on_the_wire(
    modal_emulator: EmulatorThread, with_gateway: WithGateway[str], runtime: Literal["gvisor", "vm"]
) -> None:
    with_gateway(lambda gateway: printed(gateway, replace(PLAN, runtime=runtime), "true"))
    (call,) = modal_emulator.calls("SandboxCreateV2")
    assert isinstance(call, api_pb2.SandboxCreateV2Request)
    assert call.definition.runtime == runtime


PROD = Home(environment="prod", app="ml-tasks")


def in_homes(scene: Callable[[ModalGateway, modal.Client], Awaitable[None]], *homes: Home) -> None:
    """Run a scene with a gateway that knows of these homes, beside modalflow's own, and with an environment "prod"."""

    async def main() -> None:
        settings = replace(SETTINGS, homes=(MODALFLOWS, *homes))
        async with await modal.Client.from_env.aio() as client, ModalGateway(settings, client=client) as gateway:
            await modal.Environment.objects.create.aio("prod", client=client)
            await scene(gateway, client)

    asyncio.run(main())


class TestNamespaces:
    def test_a_sandbox_and_what_it_names_are_in_its_environment_but_modalflows_volumes(
        self, modal_emulator: EmulatorThread
    ) -> None:
        theirs = VolumePlan(mount_path="/models", name="models")
        ours = VolumePlan(mount_path="/logs", name="logs", create_if_missing=True, is_ours=True)
        plan = replace(PLAN, home=PROD, secrets=(SecretPlan(name="db"),), volumes=(theirs, ours))

        async def scene(gateway: ModalGateway, client: modal.Client) -> None:
            await modal.Secret.objects.create.aio("db", {"PASSWORD": "main"}, client=client)
            await modal.Secret.objects.create.aio("db", {"PASSWORD": "prod"}, environment_name="prod", client=client)
            await modal.Volume.objects.create.aio("models", environment_name="prod", client=client)
            told = await printed(gateway, plan, "sh", "-c", "echo $PASSWORD $MODAL_ENVIRONMENT")
            assert told == "prod prod\n"
            assert await printed(gateway, replace(PLAN, secrets=plan.secrets), "sh", "-c", "echo $PASSWORD") == "main\n"

        in_homes(scene, PROD)
        volumes = {volume.name: volume.environment for volume in modal_emulator.workspace.volumes.values()}
        assert volumes == {"models": "prod", "logs": "main"}

    @pytest.mark.parametrize("gpu", [None, "A10G"])
    def test_no_running_sandbox_is_lost(self, modal_emulator: EmulatorThread, gpu: str | None) -> None:
        plan = replace(PLAN, tags={"deployment": "airflow"}, gpu_candidates=(gpu,) if gpu else ())

        async def scene(gateway: ModalGateway, client: modal.Client) -> None:
            names = {}
            for home in (MODALFLOWS, PROD, Home(app="etl")):
                names[str(uuid.uuid4())] = home
            ids = {
                await gateway.create(replace(plan, home=home), name=name, gpu=gpu, argv=("sleep", "60"), secret_env={})
                for name, home in names.items()
            }
            listed = await gateway.list_running({"deployment": "airflow"})
            assert {status.sandbox_id for status in listed} == ids
            found = [await gateway.find(name) for name in names]
            assert {status.sandbox_id for status in found if status is not None} == ids
            for sandbox_id in ids:
                await gateway.terminate(sandbox_id)

        in_homes(scene, PROD, Home(app="etl"))
        assert {(app.name, app.environment) for app in modal_emulator.workspace.apps.values()} == {
            ("modalflow", "main"),
            ("ml-tasks", "prod"),
            ("etl", "main"),
        }

    def test_apps_are_looked_up_once(self, modal_emulator: EmulatorThread) -> None:
        async def scene(gateway: ModalGateway, client: modal.Client) -> None:
            for _ in range(3):
                await printed(gateway, replace(PLAN, home=PROD), "true")

        in_homes(scene, PROD)
        assert len(modal_emulator.calls("AppGetOrCreate")) == 1

    def test_an_environment_that_does_not_exist(self, modal_emulator: EmulatorThread) -> None:
        gone = Home(environment="gone", app="x")

        async def scene(gateway: ModalGateway, client: modal.Client) -> None:
            with pytest.raises(
                NotFound,
                match=r"^could not look up the App: Modal does not know it: Environment 'gone' not found; "
                r"create it with `modal environment create gone`, or correct \[modal_executor\] namespaces$",
            ):
                await gateway.prepare(replace(PLAN, home=gone))
            assert await gateway.list_running({"deployment": "airflow"}) == []
            assert await gateway.find("nobody") is None

        in_homes(scene, gone)


class TestImages:
    def test_an_image_is_built_anew_for_each_launch_if_that_is_asked(
        self, modal_emulator: EmulatorThread, with_gateway: WithGateway[None]
    ) -> None:
        async def scene(gateway: ModalGateway) -> None:
            for image in (ImagePlan(reference="me/train:1", force_build=True), ImagePlan(reference="me/train:2")):
                for _ in range(2):
                    await gateway.prepare(replace(PLAN, image=image))
                    await printed(gateway, replace(PLAN, image=image), "true")

        with_gateway(scene)
        calls = [call for call in modal_emulator.calls("ImageGetOrCreate") if isinstance(call, api_pb2.ImageGetOrCreateRequest)]
        assert [(call.image.dockerfile_commands[0], call.force_build) for call in calls] == [
            ("FROM me/train:1", True),
            ("FROM me/train:1", True),
            ("FROM me/train:2", False),
        ]

    @pytest.mark.parametrize(
        ("reference", "kind"),
        [
            ("123456789012.dkr.ecr.us-east-1.amazonaws.com/train:v1", api_pb2.REGISTRY_AUTH_TYPE_AWS),
            ("europe-docker.pkg.dev/project/repository/train:v1", api_pb2.REGISTRY_AUTH_TYPE_GCP),
            ("eu.gcr.io/project/train:v1", api_pb2.REGISTRY_AUTH_TYPE_GCP),
            ("ghcr.io/me/train:v1", api_pb2.REGISTRY_AUTH_TYPE_STATIC_CREDS),
        ],
    )
    def test_a_registry_of_a_cloud_takes_the_keys_of_that_cloud(
        self, modal_emulator: EmulatorThread, with_gateway: WithGateway[None], reference: str, kind: int
    ) -> None:
        async def scene(gateway: ModalGateway) -> None:
            client = await modal.Client.from_env.aio()
            await modal.Secret.objects.create.aio("pull", {"REGISTRY_USERNAME": "me", "REGISTRY_PASSWORD": "x"}, client=client)
            await client.close.aio()
            await gateway.prepare(replace(PLAN, image=ImagePlan(reference=reference, registry_secret="pull")))

        with_gateway(scene)
        (call,) = modal_emulator.calls("ImageGetOrCreate")
        assert isinstance(call, api_pb2.ImageGetOrCreateRequest)
        assert call.image.dockerfile_commands[0] == f"FROM {reference}"
        assert call.image.image_registry_config.registry_auth_type == kind
        (secret,) = modal_emulator.workspace.secrets
        assert call.image.image_registry_config.secret_id == secret
