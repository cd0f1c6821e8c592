"""Whose token a gateway has, what it says of one that is refused, how one is replaced; the unmodified client on an emulator."""

from __future__ import annotations

import asyncio
import itertools
import logging
import threading
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import modal
import pytest

from modalflow.launch.credentials import ReadStored, StoredCredentials
from modalflow.launch.gateway import Unauthenticated, Unavailable
from modalflow.modal_gateway import ModalGateway, session
from modalflow.translation.plan import ImagePlan, SandboxPlan
from tests.contract.conftest import SETTINGS

if TYPE_CHECKING:
    from modalflow.emulator import EmulatorThread

pytestmark = pytest.mark.emulated

T = TypeVar("T")
CPU = SandboxPlan(image=ImagePlan(reference="me/app:1.0.0"), tags={"deployment": "airflow", "launch": "l"})
names = (f"sandbox-{number}" for number in itertools.count())


def run(scene: Callable[[ModalGateway], Awaitable[T]], read: ReadStored | None = None, **changes: float) -> T:
    async def main() -> T:
        gateway = ModalGateway(replace(SETTINGS, **changes), read=read)  # type: ignore[arg-type]
        try:
            return await scene(gateway)
        finally:
            await gateway.close()

    return asyncio.run(main())


async def create(gateway: ModalGateway, *argv: str) -> str:
    return await gateway.create(CPU, name=next(names), gpu=None, argv=argv or ("sleep", "600"), secret_env={})


class Connection:
    """An Airflow connection that somebody edits."""

    def __init__(self, token_id: str, token_secret: str = "as-x", environment: str | None = None) -> None:
        self.now = StoredCredentials(conn_id="modal", token_id=token_id, token_secret=token_secret, environment=environment)
        self.reads = 0

    def __call__(self) -> StoredCredentials:
        self.reads += 1
        return self.now


@pytest.fixture
def rotating(modal_emulator: EmulatorThread) -> Connection:
    """The connection of a workspace that has two tokens, ``ak-1`` in use."""
    for token in ("ak-1", "ak-2"):
        modal_emulator.accept_token(token, "as-x", workspace=modal_emulator.workspace.name)
    return Connection("ak-1")


@pytest.fixture
def no_token(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A process without Modal's variables; the path of its profile, which does not exist."""
    for name in ("MODAL_TOKEN_ID", "MODAL_TOKEN_SECRET", "MODAL_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MODAL_CONFIG_PATH", str(tmp_path / "modal.toml"))
    return tmp_path / "modal.toml"


class TestWhose:
    def test_the_connections_token_comes_before_the_environments(
        self, modal_emulator: EmulatorThread, rotating: Connection
    ) -> None:
        rotating.now = replace(rotating.now, environment="main")
        assert run(ModalGateway.check, rotating) == (
            "the Airflow connection 'modal' (token ak-1); environment main, App modalflow"
        )
        assert modal_emulator.calls("AppGetOrCreate")[-1].environment_name == "main"  # type: ignore[attr-defined]

    def test_the_option_comes_before_the_connections_environment(self, rotating: Connection) -> None:
        rotating.now = replace(rotating.now, environment="elsewhere")
        told = run(ModalGateway.check, rotating, environment="main")  # type: ignore[arg-type]
        assert told == "the Airflow connection 'modal' (token ak-1); environment main, App modalflow"

    def test_without_a_connection_it_is_the_environments(self, modal_emulator: EmulatorThread) -> None:
        token = modal_emulator.environment()["MODAL_TOKEN_ID"]
        assert run(ModalGateway.check, lambda: None) == (
            "MODAL_TOKEN_ID of this process's environment with MODAL_TOKEN_SECRET of this process's environment "
            f"(token {token}); environment the workspace's default, App modalflow"
        )

    def test_a_connection_without_a_token_says_the_environment_only(self, modal_emulator: EmulatorThread) -> None:
        told = run(ModalGateway.check, lambda: StoredCredentials(conn_id="modal", environment="main"))
        assert told.startswith("MODAL_TOKEN_ID of this process's environment")
        assert told.endswith("; environment main, App modalflow")

    def test_then_the_active_profiles(
        self, modal_emulator: EmulatorThread, monkeypatch: pytest.MonkeyPatch, no_token: Path
    ) -> None:
        modal_emulator.accept_token("ak-file", "as-file", workspace="w")
        no_token.write_text(
            '[other]\ntoken_id = "ak-o"\ntoken_secret = "as-o"\n\n'
            '[mine]\ntoken_id = "ak-file"\ntoken_secret = "as-file"\nactive = true\n'
        )
        assert run(ModalGateway.check) == (
            f"the profile 'mine' of {no_token} (token ak-file); environment the workspace's default, App modalflow"
        )


class TestRefused:
    @pytest.mark.parametrize(
        ("stored", "first"),
        [
            (None, "no Airflow connection of type modal"),
            (StoredCredentials(conn_id="modal"), "the Airflow connection 'modal' has no token"),
        ],
    )
    def test_none_at_all(self, no_token: Path, stored: StoredCredentials | None, first: str) -> None:
        with pytest.raises(Unauthenticated) as refusal:
            run(lambda gateway: gateway.find("x"), lambda: stored)
        assert str(refusal.value) == (
            f"no Modal credentials ({first}; no MODAL_TOKEN_ID in this process's environment; no MODAL_TOKEN_SECRET in this "
            f"process's environment; no token in the profile 'default' of {no_token}): create the connection with `airflow "
            "connections add modal --conn-type modal --conn-login TOKEN_ID --conn-password TOKEN_SECRET`, or set both variables, "
            "or run `modal token new` as this process's user"
        )

    def test_a_profile_that_is_no_toml(self, no_token: Path) -> None:
        no_token.write_text('[default]\ntoken_secret = "as-very-secret\n')
        with pytest.raises(Unauthenticated) as refusal:
            run(lambda gateway: gateway.find("x"))
        assert str(refusal.value).startswith(f"could not read the Modal profile in {no_token}: ")
        assert "as-very-secret" not in str(refusal.value)

    def test_the_connections_token(self, modal_emulator: EmulatorThread) -> None:
        with pytest.raises(Unauthenticated) as refusal:
            run(lambda gateway: gateway.prepare(CPU), Connection("ak-wrong", "as-very-secret"))
        assert str(refusal.value) == (
            "could not look up the App: Modal refused the credentials: Invalid token: this emulator accepts only the one it was "
            "started with; they are those of the Airflow connection 'modal': correct its Token ID and Token Secret (`airflow "
            "connections get modal`); no restart is needed"
        )

    def test_the_environments_token(self, modal_emulator: EmulatorThread, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("MODAL_TOKEN_SECRET", "as-very-secret")
        with pytest.raises(Unauthenticated) as refusal:
            run(ModalGateway.check)
        assert str(refusal.value) == (
            "could not check the credentials: Modal refused the credentials: Invalid token: this emulator accepts only the one "
            "it was started with; they are those of MODAL_TOKEN_ID of this process's environment with MODAL_TOKEN_SECRET of this "
            "process's environment: set others and restart this process, or keep the token in an Airflow connection of type "
            "modal, which is read again without a restart"
        )

    def test_a_database_that_does_not_answer_is_no_missing_connection(self, modal_emulator: EmulatorThread) -> None:
        answers = threading.Event()

        def hang() -> StoredCredentials | None:
            answers.wait(10.0)
            return None

        with pytest.raises(Unavailable) as unavailable:
            run(lambda gateway: gateway.find("x"), hang, rpc_timeout=0.2)
        answers.set()
        assert str(unavailable.value) == ("could not read the Modal credentials: Airflow's connections did not answer in 0.2 s")

    def test_connections_that_hang_hold_one_thread_however_often_they_are_asked(self, modal_emulator: EmulatorThread) -> None:
        asked: list[str] = []
        awake = threading.Event()

        def hang() -> StoredCredentials | None:
            asked.append(threading.current_thread().name)
            awake.wait()
            return None

        async def three_times(gateway: ModalGateway) -> None:
            for _ in range(3):
                with pytest.raises(Unavailable, match=r"did not answer in 0\.1 s$"):
                    await gateway.find("x")

        try:
            run(three_times, hang, rpc_timeout=0.1)
        finally:
            awake.set()
        assert asked == ["modalflow-credentials"]

    def test_a_client_that_was_given_is_not_replaced(self, modal_emulator: EmulatorThread, rotating: Connection) -> None:
        async def main() -> None:
            settings = replace(SETTINGS, credentials_interval=1e-9)
            async with (
                await modal.Client.from_env.aio() as client,
                ModalGateway(settings, read=rotating, client=client) as gateway,
            ):
                for _ in range(2):
                    await gateway.find("x")
                    assert gateway.session.client is client
                assert not gateway.session._is_renewing()
            assert rotating.reads == 0

        asyncio.run(main())


class TestInside:
    def test_a_sandbox_gets_no_token(self, modal_emulator: EmulatorThread, rotating: Connection) -> None:
        async def scene(gateway: ModalGateway) -> str:
            sandbox_id = await create(gateway, "env")
            await gateway.wait(sandbox_id)
            return await gateway.output_tail(sandbox_id, max_bytes=100_000)

        printed = run(scene, rotating)
        assert "PATH=" in printed
        assert "MODAL_TOKEN" not in printed
        assert "ak-1" not in printed
        (request,) = modal_emulator.calls("SandboxCreateV2")
        assert b"as-x" not in request.SerializeToString()
        assert b"ak-1" not in request.SerializeToString()


class TestReplaced:
    def test_a_new_token_is_in_use_when_the_old_one_is_refused(
        self, modal_emulator: EmulatorThread, rotating: Connection, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO, "modalflow")

        async def scene(gateway: ModalGateway) -> int:
            sandbox_id = await create(gateway, "sh", "-c", "read line; exit 7")
            waiting = asyncio.create_task(gateway.wait(sandbox_id))
            rotating.now = replace(rotating.now, token_id="ak-2")
            modal_emulator.revoke_token("ak-1")
            await create(gateway)
            await gateway.hand_over(sandbox_id, b"go\n")
            return (await waiting).exit_code

        assert run(scene, rotating) == 7, "what ran before goes on"
        assert rotating.reads == 2
        (told,) = caplog.messages
        assert told == (
            "modalflow: the Modal credentials have changed, and are from now on: the Airflow connection 'modal' (token ak-2); "
            "environment the workspace's default, App modalflow"
        )

    def test_many_that_are_refused_are_one_question(self, modal_emulator: EmulatorThread, rotating: Connection) -> None:
        async def scene(gateway: ModalGateway) -> None:
            await gateway.check()
            modal_emulator.revoke_token("ak-1")
            answers = await asyncio.gather(*(create(gateway) for _ in range(20)), return_exceptions=True)
            assert {type(answer) for answer in answers} == {Unauthenticated}
            assert rotating.reads == 2
            rotating.now = replace(rotating.now, token_id="ak-2")
            answers = await asyncio.gather(*(create(gateway) for _ in range(20)), return_exceptions=True)
            assert {type(answer) for answer in answers} == {Unauthenticated}, "asked again after some seconds only"

        run(scene, rotating)

    def test_after_some_seconds_it_is_looked_up_again(
        self, modal_emulator: EmulatorThread, rotating: Connection, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(session, "READ_AGAIN_AFTER", 0.0)

        async def scene(gateway: ModalGateway) -> None:
            await gateway.check()
            modal_emulator.revoke_token("ak-1")
            with pytest.raises(Unauthenticated):
                await create(gateway)
            rotating.now = replace(rotating.now, token_id="ak-2")
            await create(gateway)

        run(scene, rotating)

    def test_a_new_token_is_in_use_before_the_old_one_is_refused(
        self, modal_emulator: EmulatorThread, rotating: Connection
    ) -> None:
        async def scene(gateway: ModalGateway) -> None:
            now = [0.0]
            gateway.session._clock = lambda: now[0]
            sandbox_id = await create(gateway)
            old = gateway.session.client
            waiting = asyncio.create_task(gateway.wait(sandbox_id))
            rotating.now = replace(rotating.now, token_id="ak-2")
            await gateway.check()
            assert rotating.reads == 1, "not before its time"
            now[0] = SETTINGS.credentials_interval
            await gateway.check()
            assert gateway.session._renewing is not None
            assert await gateway.session._renewing
            assert gateway.session.client is not old
            assert old is not None
            assert not old.is_closed(), "the wait goes on over it"
            await gateway.terminate(sandbox_id)
            assert (await waiting).exit_code == 137
            gateway.session._close_soon(old)
            await asyncio.gather(*gateway.session._closing)
            assert old.is_closed()

        run(scene, rotating)

    def test_a_connection_that_cannot_be_read_changes_nothing(
        self, modal_emulator: EmulatorThread, rotating: Connection, caplog: pytest.LogCaptureFixture
    ) -> None:
        def read() -> StoredCredentials:
            if rotating.reads:
                raise Unavailable("the Airflow connection 'modal' could not be read (MetastoreBackend: OperationalError)")
            return rotating()

        async def scene(gateway: ModalGateway) -> None:
            await gateway.check()
            assert not await gateway.session.renewed(gateway.session.kept)
            await gateway.check()

        run(scene, read)
        (told,) = caplog.messages
        assert told == (
            "modalflow: the Modal credentials were read again, and those of before stay in use: the Airflow connection 'modal' "
            "could not be read (MetastoreBackend: OperationalError)"
        )

    def test_a_listing_is_begun_anew(self, modal_emulator: EmulatorThread, rotating: Connection) -> None:
        async def scene(gateway: ModalGateway) -> None:
            sandbox_id = await create(gateway)
            rotating.now = replace(rotating.now, token_id="ak-2")
            modal_emulator.revoke_token("ak-1")
            with pytest.raises(Unavailable, match=r"others are in force now$"):
                [page async for page in gateway.running_ids({"deployment": "airflow"})]
            assert [page async for page in gateway.running_ids({"deployment": "airflow"})] == [[sandbox_id]]

        run(scene, rotating)

    def test_a_successor_reads_them_too(self, modal_emulator: EmulatorThread, rotating: Connection) -> None:
        async def scene(gateway: ModalGateway) -> str:
            await gateway.check()
            rotating.now = replace(rotating.now, token_id="ak-2")
            following = gateway.successor()
            try:
                return await following.check()
            finally:
                await following.close()

        assert run(scene, rotating).startswith("the Airflow connection 'modal' (token ak-2)")
