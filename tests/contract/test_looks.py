"""How a sandbox ended, asked by its id: by the client's own call, and by its public one, which serves where that has moved."""

from __future__ import annotations

import pytest

from modalflow.launch.gateway import EndKind, SandboxEnd, SandboxStatus
from modalflow.modal_gateway import ModalGateway, looks
from tests.contract.conftest import WithGateway
from tests.contract.test_gateway import CPU, GPU, create

pytestmark = pytest.mark.emulated

WAYS = ("call", "handle")


async def no_handle(*_: object) -> SandboxStatus:
    raise AssertionError("a handle was made to learn of an end")


class TestStatus:
    """Both ways give the same answers."""

    @pytest.fixture(params=WAYS, autouse=True)
    def _way(self, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
        assert looks._LOOK is not None
        if request.param == "call":
            monkeypatch.setattr("modalflow.modal_gateway.gateway._status", no_handle)
        else:
            monkeypatch.setattr(looks, "_LOOK", None)

    @pytest.mark.parametrize("gpu", [None, "A10G"], ids=["V2", "V1"])
    @pytest.mark.parametrize(("code", "kind"), [(0, EndKind.SUCCESS), (4, EndKind.FAILURE)])
    def test_of_one_that_ended(self, with_gateway: WithGateway[None], gpu: str | None, code: int, kind: EndKind) -> None:
        async def scene(gateway: ModalGateway) -> None:
            sandbox_id = await create(gateway, GPU if gpu else CPU, "sh", "-c", f"exit {code}", gpu=gpu)
            await gateway.wait(sandbox_id)
            end = SandboxEnd(kind=kind, exit_code=code)
            assert await gateway.status(sandbox_id) == SandboxStatus(sandbox_id=sandbox_id, name="", tags={}, end=end)

        with_gateway(scene)

    def test_of_one_that_was_terminated(self, with_gateway: WithGateway[None]) -> None:
        async def scene(gateway: ModalGateway) -> None:
            sandbox_id = await create(gateway)
            await gateway.terminate(sandbox_id)
            status = await gateway.status(sandbox_id)
            assert status is not None
            assert status.end is not None
            assert (status.end.kind, status.end.exit_code) == (EndKind.TERMINATED, 137)

        with_gateway(scene)

    def test_of_one_that_nobody_knows(self, with_gateway: WithGateway[object]) -> None:
        assert with_gateway(lambda gateway: gateway.status("sb-01ARZ3NDEKTSV4RRFFQ69G5FAV")) is None


@pytest.mark.parametrize("way", WAYS)
def test_one_that_runs_is_told_with_its_tags(with_gateway: WithGateway[None], monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    if way == "handle":
        monkeypatch.setattr(looks, "_LOOK", None)

    async def scene(gateway: ModalGateway) -> None:
        sandbox_id = await create(gateway)
        status = await gateway.status(sandbox_id)
        assert status is not None
        assert (status.sandbox_id, status.end) == (sandbox_id, None)
        assert status.tags.items() >= CPU.tags.items()

    with_gateway(scene)
