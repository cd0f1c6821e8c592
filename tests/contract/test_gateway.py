"""The gateway against a server that speaks Modal's protocol, through the unmodified client.

Each behaviour is confirmed on the emulator only; what the cloud does is in the sources that the gateway's docstrings name.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import modal
import pytest
from grpclib import Status
from modal_proto import api_pb2

from modalflow.launch.gateway import (
    EndKind,
    InvalidRequest,
    NameTaken,
    NotFound,
    RateLimited,
    SandboxEnd,
    Unavailable,
)
from modalflow.modal_gateway import ModalGateway
from modalflow.settings import LaunchSettings
from modalflow.translation.plan import ImagePlan, SandboxPlan, SecretPlan, VolumePlan
from tests.contract.conftest import SETTINGS, WithGateway

if TYPE_CHECKING:
    from modalflow.emulator import EmulatorThread

pytestmark = pytest.mark.emulated

IMAGE = ImagePlan(reference=None, python_version="3.11", packages=("apache-airflow-core==3.3.2",))
CPU = SandboxPlan(image=IMAGE, cpu=0.5, memory=512, timeout=3600, tags={"deployment": "airflow", "launch": "L"})
GPU = SandboxPlan(image=IMAGE, gpu_candidates=("A10G",), env={"A": "1"})
CANARY = "eyJhbGciOiJIUzUxMiJ9.canary.c2ln"


def name() -> str:
    return str(uuid.uuid4())


async def create(gateway: ModalGateway, plan: SandboxPlan = CPU, *argv: str, **changes: Any) -> str:
    arguments: dict[str, Any] = {"name": name(), "gpu": None, "argv": argv or ("sleep", "60"), "secret_env": {}}
    return await gateway.create(plan, **(arguments | changes))


class TestOnTheWire:
    def test_a_gpu_plan_is_a_v1_sandbox_with_that_gpu_and_the_launch_id_as_its_name(
        self, modal_emulator: EmulatorThread, with_gateway: WithGateway[str]
    ) -> None:
        launch_id = name()
        with_gateway(lambda gateway: create(gateway, GPU, name=launch_id, gpu="A10G"))
        assert modal_emulator.calls("SandboxCreateV2") == []
        (call,) = modal_emulator.calls("SandboxCreate")
        assert isinstance(call, api_pb2.SandboxCreateRequest)
        gpu = call.definition.resources.gpu_config
        assert (gpu.gpu_type, gpu.count) == ("A10G", 1)
        assert call.definition.name == launch_id

    def test_a_cpu_plan_is_a_v2_sandbox_with_everything_the_plan_says(
        self, modal_emulator: EmulatorThread, with_gateway: WithGateway[str]
    ) -> None:
        plan = replace(CPU, cpu=(0.5, 2.0), memory=(512, 1024), region=("us-east",), cloud="aws", workdir="/opt", env={"A": "1"})
        with_gateway(lambda gateway: create(gateway, plan, "python", "-c", "pass"))
        (call,) = modal_emulator.calls("SandboxCreateV2")
        assert isinstance(call, api_pb2.SandboxCreateV2Request)
        definition = call.definition
        assert list(definition.entrypoint_args) == ["python", "-c", "pass"]
        resources = definition.resources
        assert (resources.milli_cpu, resources.milli_cpu_max, resources.memory_mb, resources.memory_mb_max) == (
            500,
            2000,
            512,
            1024,
        )
        assert list(definition.scheduler_placement.regions) == ["us-east"]
        assert (definition.cloud_provider_str, definition.workdir, definition.timeout_secs) == ("aws", "/opt", 3600)
        assert {tag.tag_name: tag.tag_value for tag in call.tags} == {
            "deployment": "airflow",
            "launch": "L",
            "usd_hour": "0.1452",
        }
        assert [dict(source.env.contents) for source in call.secret_sources] == [{"A": "1"}]

    def test_the_workload_is_in_the_secret_of_the_create_call_and_nowhere_else(
        self, modal_emulator: EmulatorThread, with_gateway: WithGateway[str]
    ) -> None:
        with_gateway(lambda gateway: create(gateway, CPU, secret_env={"MODALFLOW_WORKLOAD": CANARY}))
        (call,) = modal_emulator.calls("SandboxCreateV2")
        assert isinstance(call, api_pb2.SandboxCreateV2Request)
        assert [dict(source.env.contents) for source in call.secret_sources] == [{"MODALFLOW_WORKLOAD": CANARY}]
        assert CANARY not in str(call.definition)
        assert CANARY not in str(call.tags)

    def test_a_launch_is_one_call_once_its_image_is_known(
        self, modal_emulator: EmulatorThread, with_gateway: WithGateway[None]
    ) -> None:
        async def scene(gateway: ModalGateway) -> None:
            await gateway.prepare(CPU)
            await asyncio.gather(*(create(gateway) for _ in range(5)))

        with_gateway(scene)
        assert len(modal_emulator.calls("AppGetOrCreate")) == 1
        assert len(modal_emulator.calls("ImageGetOrCreate")) == 2, "the base and the packages, once"
        assert len(modal_emulator.calls("SandboxCreateV2")) == 5

    def test_an_image_by_name_keeps_or_replaces_its_entrypoint(
        self, modal_emulator: EmulatorThread, with_gateway: WithGateway[None]
    ) -> None:
        async def scene(gateway: ModalGateway) -> None:
            await gateway.prepare(replace(CPU, image=ImagePlan(reference="apache/airflow:3.3.2")))
            await gateway.prepare(replace(CPU, image=ImagePlan(reference="apache/airflow:3.3.2", entrypoint=("/tini", "--"))))

        with_gateway(scene)
        commands = [
            list(call.image.dockerfile_commands)
            for call in modal_emulator.calls("ImageGetOrCreate")
            if isinstance(call, api_pb2.ImageGetOrCreateRequest)
        ]
        assert commands[0][0] == "FROM apache/airflow:3.3.2"
        assert [line for lines in commands for line in lines if "ENTRYPOINT" in line] == ['ENTRYPOINT ["/tini", "--"]']


class TestMountsAndSecrets:
    def test_a_volume_is_mounted_as_the_plan_says_and_ours_is_created(
        self, modal_emulator: EmulatorThread, with_gateway: WithGateway[None]
    ) -> None:
        mounts = (
            VolumePlan(mount_path="/logs", name="logs", sub_path="dag_id=d", version=2, create_if_missing=True),
            VolumePlan(mount_path="/more", name="more", read_only=True, create_if_missing=True),
        )

        async def scene(gateway: ModalGateway) -> None:
            await create(gateway, replace(CPU, volumes=mounts))
            await create(gateway, replace(CPU, volumes=mounts))

        with_gateway(scene)
        call = modal_emulator.calls("SandboxCreateV2")[0]
        assert isinstance(call, api_pb2.SandboxCreateV2Request)
        assert [(m.mount_path, m.sub_path.strip("/"), m.read_only) for m in call.definition.volume_mounts] == [
            ("/logs", "dag_id=d", False),
            ("/more", "", True),
        ]
        lookups = [
            call for call in modal_emulator.calls("VolumeGetOrCreate") if isinstance(call, api_pb2.VolumeGetOrCreateRequest)
        ]
        assert [(call.deployment_name, call.version) for call in lookups] == [("logs", 2), ("more", 0)], "each looked up once"

    def test_a_volume_that_is_missing_is_named(self, with_gateway: WithGateway[str]) -> None:
        plan = replace(CPU, volumes=(VolumePlan(mount_path="/m", name="models"),))
        with pytest.raises(
            NotFound,
            match=r"^could not create the sandbox: Modal does not know it: .*models.*; "
            r"create it with `modal volume create models`, or correct the name$",
        ):
            with_gateway(lambda gateway: create(gateway, plan))

    def test_a_secret_that_is_missing_is_named(self, with_gateway: WithGateway[str]) -> None:
        with pytest.raises(
            NotFound,
            match=r"^could not create the sandbox: Modal does not know it: .*huggingface.*; "
            r"create it with `modal secret create huggingface KEY=VALUE`, or correct the name$",
        ):
            with_gateway(lambda gateway: create(gateway, replace(CPU, secrets=(SecretPlan(name="huggingface"),))))

    def test_a_secret_of_the_users_cannot_replace_the_workload(self, with_gateway: WithGateway[str]) -> None:
        async def scene(gateway: ModalGateway) -> str:
            client = await modal.Client.from_env.aio()
            await modal.Secret.objects.create.aio("bad", {"MODALFLOW_WORKLOAD": "theirs"}, client=client)
            await client.close.aio()
            plan = replace(CPU, secrets=(SecretPlan(name="bad"),))
            sandbox_id = await create(
                gateway, plan, "sh", "-c", "echo $MODALFLOW_WORKLOAD", secret_env={"MODALFLOW_WORKLOAD": "ours"}
            )
            await gateway.wait(sandbox_id)
            return await gateway.output_tail(sandbox_id, max_bytes=100)

        assert with_gateway(scene) == "ours\n"


class TestLookingUp:
    def test_by_name_running_and_ended(self, with_gateway: WithGateway[None]) -> None:
        async def scene(gateway: ModalGateway) -> None:
            mine = name()
            sandbox_id = await create(gateway, CPU, "cat", name=mine)
            found = await gateway.find(mine)
            assert found is not None
            assert (found.sandbox_id, found.name, found.end) == (sandbox_id, mine, None)
            await gateway.hand_over(sandbox_id, b"x")
            await gateway.wait(sandbox_id)
            found = await gateway.find(mine)
            assert found is not None
            assert found.end == SandboxEnd(kind=EndKind.SUCCESS, exit_code=0)
            assert await gateway.find(name()) is None

        with_gateway(scene)

    def test_a_gpu_sandbox_by_name_while_it_runs_and_by_id_after(self, with_gateway: WithGateway[None]) -> None:
        async def scene(gateway: ModalGateway) -> None:
            mine = name()
            sandbox_id = await create(gateway, GPU, "sh", "-c", "read x; exit 4", name=mine, gpu="A10G")
            found = await gateway.find(mine)
            assert found is not None
            assert found.sandbox_id == sandbox_id
            await gateway.hand_over(sandbox_id, b"go\n")
            await gateway.wait(sandbox_id)
            assert await gateway.find(mine) is None
            status = await gateway.status(sandbox_id)
            assert status is not None
            assert status.end == SandboxEnd(kind=EndKind.FAILURE, exit_code=4)

        with_gateway(scene)

    def test_an_unknown_id(self, with_gateway: WithGateway[object]) -> None:
        assert with_gateway(lambda gateway: gateway.status("sb-01ARZ3NDEKTSV4RRFFQ69G5FAV")) is None

    def test_listing_by_tags(self, with_gateway: WithGateway[None]) -> None:
        async def scene(gateway: ModalGateway) -> None:
            v2 = await create(gateway, replace(CPU, tags={"deployment": "a", "launch": "1"}))
            v1 = await create(gateway, replace(GPU, tags={"deployment": "a", "launch": "2"}), gpu="A10G")
            await create(gateway, replace(CPU, tags={"deployment": "b", "launch": "3"}))
            done = await create(gateway, replace(CPU, tags={"deployment": "a", "launch": "4"}), "true")
            await gateway.wait(done)
            found = await gateway.list_running({"deployment": "a"})
            assert {(s.sandbox_id, s.tags["launch"]) for s in found} == {(v2, "1"), (v1, "2")}
            assert await gateway.list_running({"deployment": "c"}) == []

        with_gateway(scene)


class TestEnds:
    @pytest.mark.parametrize(
        ("plan", "argv", "end"),
        [
            (CPU, ("true",), (EndKind.SUCCESS, 0)),
            (CPU, ("sh", "-c", "exit 66"), (EndKind.FAILURE, 66)),
            (replace(CPU, timeout=1), ("sleep", "60"), (EndKind.TIMEOUT, 124)),
            (CPU, ("sh", "-c", "kill -9 $$"), (EndKind.FAILURE, 137)),
        ],
        ids=["success", "failure", "timeout", "killed"],
    )
    def test_kind_and_code(
        self, with_gateway: WithGateway[SandboxEnd], plan: SandboxPlan, argv: tuple[str, ...], end: tuple[EndKind, int]
    ) -> None:
        async def scene(gateway: ModalGateway) -> SandboxEnd:
            return await gateway.wait(await create(gateway, plan, *argv))

        found = with_gateway(scene)
        assert (found.kind, found.exit_code) == end

    def test_terminating(self, with_gateway: WithGateway[None]) -> None:
        async def scene(gateway: ModalGateway) -> None:
            sandbox_id = await create(gateway)
            waiting = asyncio.create_task(gateway.wait(sandbox_id))
            await gateway.terminate(sandbox_id)
            end = await waiting
            assert (end.kind, end.exit_code) == (EndKind.TERMINATED, 137)
            await gateway.terminate(sandbox_id)
            await gateway.terminate("sb-01ARZ3NDEKTSV4RRFFQ69G5FAV")

        with_gateway(scene)

    def test_waiting_for_a_sandbox_that_modal_does_not_know(self, with_gateway: WithGateway[object]) -> None:
        with pytest.raises(
            NotFound, match=r"^could not wait for the sandbox sb-01ARZ3NDEKTSV4RRFFQ69G5FAV: Modal does not know it"
        ):
            with_gateway(lambda gateway: gateway.wait("sb-01ARZ3NDEKTSV4RRFFQ69G5FAV"))

    def test_the_last_output_of_both_streams(self, with_gateway: WithGateway[str]) -> None:
        async def scene(gateway: ModalGateway) -> str:
            sandbox_id = await create(gateway, CPU, "sh", "-c", "seq 1 9999; echo trace >&2; exit 1")
            await gateway.wait(sandbox_id)
            return await gateway.output_tail(sandbox_id, max_bytes=20)

        tail = with_gateway(scene)
        assert tail.endswith("9999\ntrace\n")
        assert len(tail) <= 40

    def test_the_output_of_an_unknown_sandbox_is_empty(self, with_gateway: WithGateway[str]) -> None:
        assert with_gateway(lambda gateway: gateway.output_tail("sb-01ARZ3NDEKTSV4RRFFQ69G5FAV", max_bytes=10)) == ""


class TestHandOver:
    @pytest.mark.parametrize(("plan", "gpu"), [(CPU, None), (GPU, "A10G")], ids=["V2", "V1"])
    def test_stdin_is_written_and_closed(self, with_gateway: WithGateway[str], plan: SandboxPlan, gpu: str | None) -> None:
        async def scene(gateway: ModalGateway) -> str:
            sandbox_id = await create(gateway, plan, "sh", "-c", "wc -c", gpu=gpu)
            await gateway.hand_over(sandbox_id, b"x" * 20_000)
            await gateway.wait(sandbox_id)
            return await gateway.output_tail(sandbox_id, max_bytes=100)

        assert with_gateway(scene).strip() == "20000"

    def test_an_ended_sandbox_takes_no_input(self, with_gateway: WithGateway[None]) -> None:
        async def scene(gateway: ModalGateway) -> None:
            sandbox_id = await create(gateway, CPU, "true")
            await gateway.wait(sandbox_id)
            with pytest.raises((InvalidRequest, NotFound)) as refusal:
                await gateway.hand_over(sandbox_id, CANARY.encode())
            assert CANARY not in str(refusal.value)

        with_gateway(scene)


class TestTrouble:
    def test_a_taken_name(self, with_gateway: WithGateway[None]) -> None:
        async def scene(gateway: ModalGateway) -> None:
            mine = name()
            await create(gateway, name=mine)
            with pytest.raises(NameTaken, match=r"^could not create the sandbox: Modal has it already: "):
                await create(gateway, name=mine)

        with_gateway(scene)

    def test_a_create_whose_answer_is_lost_left_one_sandbox_under_its_name(
        self, modal_emulator: EmulatorThread, with_gateway: WithGateway[None]
    ) -> None:
        modal_emulator.faults.add("SandboxCreateV2", status=Status.UNAVAILABLE, times=4, after_handler=True)

        async def scene(gateway: ModalGateway) -> None:
            mine = name()
            with pytest.raises(Unavailable):
                await create(gateway, name=mine)
            found = await gateway.find(mine)
            assert found is not None
            assert len(await gateway.list_running({"deployment": "airflow"})) == 1

        with_gateway(scene)

    def test_a_rate_limit_comes_to_us_at_once(self, modal_emulator: EmulatorThread, with_gateway: WithGateway[None]) -> None:
        fault = modal_emulator.faults.add(
            "SandboxCreateV2",
            status=Status.RESOURCE_EXHAUSTED,
            message="Sandbox creation rate limit exceeded",
            details=[api_pb2.RPCRetryPolicy(retry_after_secs=7)],
        )

        async def scene(gateway: ModalGateway) -> None:
            await gateway.prepare(CPU)
            with pytest.raises(RateLimited, match=r"Sandbox creation rate limit exceeded$") as limited:
                await create(gateway)
            assert limited.value.retry_after == 7.0

        with_gateway(scene)
        assert fault.hits == 1

    def test_a_create_that_hangs_is_bounded(self, modal_emulator: EmulatorThread) -> None:
        modal_emulator.faults.add("SandboxCreateV2", delay=60.0)

        async def scene() -> None:
            async with ModalGateway(replace(SETTINGS, create_timeout=0.3)) as gateway:
                await gateway.prepare(CPU)
                with pytest.raises(Unavailable, match=r"^could not create the sandbox: Modal did not answer within 0.3 s$"):
                    await create(gateway)

        asyncio.run(scene())

    def test_a_listing_that_hangs_is_bounded(self, modal_emulator: EmulatorThread) -> None:
        for method in ("SandboxList", "SandboxListV2"):
            modal_emulator.faults.add(method, delay=60.0)

        async def scene() -> None:
            async with ModalGateway(replace(SETTINGS, rpc_timeout=0.5)) as gateway, asyncio.timeout(10.0):
                with pytest.raises(Unavailable, match=r"^could not list the running sandboxes: "):
                    await gateway.list_running({"deployment": "airflow"})

        asyncio.run(scene())

    def test_all_hear_at_once_that_modal_is_away(self, monkeypatch: pytest.MonkeyPatch) -> None:
        attempts: list[float] = []

        async def hang(_credentials: object) -> modal.Client:
            attempts.append(time.monotonic())
            await asyncio.sleep(60.0)
            raise AssertionError

        monkeypatch.setenv("MODAL_TOKEN_ID", "ak-x")
        monkeypatch.setenv("MODAL_TOKEN_SECRET", "as-x")
        monkeypatch.setattr("modalflow.modal_gateway.session.open_client", hang)

        async def scene() -> None:
            gateway = ModalGateway(replace(SETTINGS, rpc_timeout=0.2))
            async with asyncio.timeout(10.0):
                answers = await asyncio.gather(*(gateway.prepare(CPU) for _ in range(100)), return_exceptions=True)
            assert {str(answer) for answer in answers} == {"could not connect to Modal: Modal did not answer within 0.2 s"}
            assert len(attempts) == 1
            with pytest.raises(Unavailable):
                await gateway.prepare(CPU)
            assert len(attempts) == 2, "who comes after the failure tries again"
            await gateway.close()

        asyncio.run(scene())

    def test_what_is_kept_is_dropped_when_modal_does_not_know_it(
        self, modal_emulator: EmulatorThread, with_gateway: WithGateway[None]
    ) -> None:
        async def scene(gateway: ModalGateway) -> None:
            await create(gateway)
            modal_emulator.faults.add("SandboxCreateV2", status=Status.NOT_FOUND, message="Image im-1 not found")
            await create(gateway)

        with_gateway(scene)
        assert len(modal_emulator.calls("AppGetOrCreate")) == 2, "everything was looked up again"

    def test_a_dead_server_is_found_out_within_the_bound(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("MODAL_SERVER_URL", "http://127.0.0.1:9")
        monkeypatch.setenv("MODAL_TOKEN_ID", "ak-x")
        monkeypatch.setenv("MODAL_TOKEN_SECRET", "as-x")

        async def scene() -> None:
            gateway = ModalGateway(LaunchSettings(rpc_timeout=0.5))
            with pytest.raises(Unavailable, match=r"did not answer within 0.5 s|could not be reached"):
                await gateway.find("x")
            await gateway.close()

        asyncio.run(scene())


class TestLogs:
    def test_lines_are_added_to_the_file_on_the_volume(self, with_gateway: WithGateway[bytes]) -> None:
        path = "dag_id=d/run_id=r/task_id=t/attempt=1.log.modalflow.log"

        async def scene(gateway: ModalGateway) -> bytes:
            await gateway.append_log("modalflow-logs", path, "one\n")
            await gateway.append_log("modalflow-logs", path, "two\n")
            client = await modal.Client.from_env.aio()
            volume = modal.Volume.from_name("modalflow-logs")
            await volume.hydrate.aio(client)
            content = b"".join([chunk async for chunk in volume.read_file.aio(path)])
            await client.close.aio()
            return content

        assert with_gateway(scene) == b"one\ntwo\n"
