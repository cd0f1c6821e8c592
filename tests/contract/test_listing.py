"""What the gateway lists, keeps and opens again, through the unmodified client on the emulator."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from grpclib import Status
from modal_proto import api_pb2

from modalflow.launch.gateway import EndKind, NotFound, SandboxEnd, Unavailable
from modalflow.modal_gateway import ModalGateway, listing
from modalflow.translation.plan import MODALFLOWS, Home
from tests.contract.conftest import SETTINGS, WithGateway
from tests.contract.test_gateway import CPU, create
from tests.launch.scripted_gateway import until

if TYPE_CHECKING:
    from modalflow.emulator import EmulatorThread

pytestmark = pytest.mark.emulated


class TestListing:
    """By the client's own pages, and by its public listing, which serves where those have moved."""

    @pytest.fixture(params=["pages", "handles"], autouse=True)
    def _way(self, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("modalflow.emulator.services.sandbox_calls.PAGE", 2)
        monkeypatch.setattr(listing, "HANDLES", 2)
        if request.param == "handles":
            monkeypatch.setattr(listing, "_PAGE", None)

    def test_all_pages_of_what_runs_with_the_tags(self, with_gateway: WithGateway[None]) -> None:
        async def scene(gateway: ModalGateway) -> None:
            ours = replace(CPU, tags={"deployment": "airflow", "launch": "1"})
            created = [await create(gateway, ours) for _ in range(5)]
            await create(gateway, replace(CPU, tags={"deployment": "other"}))
            await gateway.terminate(created.pop(2))
            pages = [page async for page in gateway.running_ids({"deployment": "airflow"})]
            assert [len(page) for page in pages] == [2, 2]
            assert [one for page in pages for one in page] == created[::-1]
            listed = await gateway.list_running({"deployment": "airflow"})
            assert [(one.sandbox_id, one.tags["deployment"], one.tags["launch"], one.end) for one in listed] == [
                (one, "airflow", "1", None) for one in created[::-1]
            ]
            assert await gateway.list_running({"deployment": "nobody"}) == []

        with_gateway(scene)

    def test_an_app_that_is_another_by_now_is_looked_up_again(
        self, with_gateway: WithGateway[None], modal_emulator: EmulatorThread
    ) -> None:
        async def scene(gateway: ModalGateway) -> None:
            await gateway.list_running({"deployment": "airflow"})
            modal_emulator.faults.add("SandboxListV2", status=Status.NOT_FOUND, message="App 'ap-1' not found", times=1)
            with pytest.raises(NotFound, match=r"^could not list the running sandboxes: Modal does not know it: App 'ap-1'"):
                await gateway.list_running({"deployment": "airflow"})
            before = len(modal_emulator.calls("AppGetOrCreate"))
            assert await gateway.list_running({"deployment": "airflow"}) == []
            assert len(modal_emulator.calls("AppGetOrCreate")) == before + 1

        with_gateway(scene)


def test_an_environment_that_is_gone_keeps_no_launch_from_being_found_missing(modal_emulator: EmulatorThread) -> None:
    homes = (MODALFLOWS, Home(environment="gone", app="other"))

    async def scene(own: str | None) -> object:
        async with ModalGateway(replace(SETTINGS, homes=homes, environment=own)) as gateway:
            return await gateway.list_launch({"deployment": "airflow", "launch": "1"})

    assert asyncio.run(scene(None)) == []
    with pytest.raises(NotFound):
        asyncio.run(scene("gone too"))


def test_a_server_that_repeats_a_page_does_not_keep_the_listing_for_ever(
    with_gateway: WithGateway[None], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def same_page(_client: object, _request: object) -> api_pb2.SandboxListResponse:
        return api_pb2.SandboxListResponse(sandboxes=[api_pb2.SandboxInfo(id="sb-1", created_at=7.0)])

    async def scene(gateway: ModalGateway) -> None:
        with pytest.raises(Unavailable, match=r"^could not list the running sandboxes: Modal gave the page before 7.0 twice$"):
            await gateway.list_running({"deployment": "airflow"})

    monkeypatch.setattr(listing, "_PAGE", same_page)
    with_gateway(scene)


def test_a_client_that_somebody_closed_is_replaced(with_gateway: WithGateway[None]) -> None:
    async def scene(gateway: ModalGateway) -> None:
        sandbox_id = await create(gateway)
        assert gateway.session.client is not None
        await gateway.session.client.close.aio()
        status = await gateway.status(sandbox_id)
        assert status is not None
        assert status.end is None

    with_gateway(scene)


def test_handles_of_the_latest_sandboxes_are_kept_and_no_more(
    with_gateway: WithGateway[None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("modalflow.modal_gateway.gateway.HANDLES", 2)

    async def scene(gateway: ModalGateway) -> None:
        created = [await create(gateway, CPU, "cat") for _ in range(3)]
        assert list(gateway._sandboxes) == created[1:]
        await gateway.hand_over(created[0], b"x")
        assert await gateway.wait(created[0]) == SandboxEnd(kind=EndKind.SUCCESS, exit_code=0)

    with_gateway(scene)


def test_a_gateway_that_was_given_up_is_cut_off_before_its_successor_asks_anything(
    with_gateway: WithGateway[None], modal_emulator: EmulatorThread
) -> None:
    async def scene(gateway: ModalGateway) -> None:
        sandbox_id = await create(gateway)
        fault = modal_emulator.faults.add("SandboxCreateV2", delay=60.0)
        under_way = asyncio.create_task(create(gateway))
        await asyncio.to_thread(until, lambda: fault.hits == 1, "the create under way")
        async with gateway.successor() as following:
            with pytest.raises(Unavailable, match=r"^could not create the sandbox: "):
                await under_way
            status = await following.status(sandbox_id)
            assert status is not None
            assert status.end is None
            with pytest.raises(Unavailable, match=r"^the connection to Modal was given up$"):
                await create(gateway)

    with_gateway(scene)
