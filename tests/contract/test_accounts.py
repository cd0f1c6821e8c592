"""One executor with several Modal accounts: each task in its own, each client with its own token; on an emulator."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

from modalflow.executor import modal_connections
from modalflow.executor.modal_connections import accounts_of, build_gateway, gateway_of_all, log_access
from modalflow.launch.gateway import EndKind, InvalidRequest, NotFound, Unauthenticated
from modalflow.modal_gateway import ModalGateway
from modalflow.modal_gateway.accounts import AccountsGateway
from modalflow.modal_gateway.logs import LogsOfAccounts
from modalflow.settings import LaunchSettings, read_settings
from modalflow.translation.plan import MODALFLOWS, Home, ImagePlan, SandboxPlan, VolumePlan

if TYPE_CHECKING:
    from modalflow.emulator import EmulatorThread

pytestmark = pytest.mark.emulated

T = TypeVar("T")
SETTINGS = replace(
    read_settings({"modal_conn_ids": "modal_ml", "namespaces": '{"etl": {"conn_id": "modal_etl", "app": "etl"}}'}).launch,
    rpc_timeout=10.0,
    create_timeout=10.0,
)
TAGS = {"deployment": "airflow"}
PLAN = SandboxPlan(image=ImagePlan(reference="me/app:1.0.0"), tags={**TAGS, "launch": "l"})
names = (f"account-{number}" for number in itertools.count())


@pytest.fixture
def accounts(modal_emulator: EmulatorThread, airflow_database: None, monkeypatch: pytest.MonkeyPatch) -> EmulatorThread:
    """Three workspaces, the deployment's own by the environment, the others by connections."""
    for name in ("ml", "etl"):
        modal_emulator.accept_token(f"ak-{name}", f"as-{name}", workspace=name)
        monkeypatch.setenv(f"AIRFLOW_CONN_MODAL_{name.upper()}", f"modal://ak-{name}:as-{name}@?environment=main")
    return modal_emulator


def run(scene: Callable[[AccountsGateway], Awaitable[T]], settings: LaunchSettings = SETTINGS) -> T:
    async def main() -> T:
        async with build_gateway(settings) as gateway:
            assert isinstance(gateway, AccountsGateway)
            return await scene(gateway)

    return asyncio.run(main())


async def create(gateway: AccountsGateway, home: Home = MODALFLOWS, *argv: str, **changes: Any) -> str:
    plan = replace(PLAN, home=home, **changes)
    return await gateway.create(plan, name=next(names), gpu=None, argv=argv or ("sleep", "600"), secret_env={})


ML, ETL = Home(conn_id="modal_ml"), Home(conn_id="modal_etl", app="etl")


def where(emulator: EmulatorThread, sandbox_id: str) -> str:
    """The workspace that a sandbox is in."""
    own = emulator.workspace.name
    for name in (own, "ml", "etl"):
        if any(record.sandbox_id == sandbox_id for record in emulator.sandbox_records(name)):
            return "own" if name == own else name
    raise AssertionError(sandbox_id)


def test_without_further_connections_there_is_one_plain_gateway() -> None:
    assert isinstance(build_gateway(LaunchSettings()), ModalGateway)


def test_each_account_looks_in_its_own_places() -> None:
    found = accounts_of(replace(SETTINGS, environment="prod"))
    assert {conn_id: account.settings.homes for conn_id, account in found.items()} == {
        None: (MODALFLOWS,),
        "modal_ml": (MODALFLOWS,),
        "modal_etl": (MODALFLOWS, Home(app="etl")),
    }
    assert [account.settings.environment for account in found.values()] == ["prod", None, None]


def test_each_task_runs_in_its_account(accounts: EmulatorThread) -> None:
    async def scene(gateway: AccountsGateway) -> None:
        own, ml, etl = await create(gateway), await create(gateway, ML), await create(gateway, ETL)
        assert [where(accounts, one) for one in (own, ml, etl)] == ["own", "ml", "etl"]
        assert {status.sandbox_id for status in await gateway.list_running(TAGS)} == {own, ml, etl}
        assert {one async for page in gateway.running_ids(TAGS) for one in page} == {own, ml, etl}
        await gateway.terminate(ml)
        assert (await gateway.wait(ml)).kind is EndKind.TERMINATED

    run(scene)


def test_a_new_scheduler_finds_whose_a_sandbox_is(accounts: EmulatorThread) -> None:
    async def made(gateway: AccountsGateway) -> str:
        return await create(gateway, ML, "sh", "-c", "read line; echo $line; exit 7")

    sandbox_id = run(made)

    async def scene(gateway: AccountsGateway) -> None:
        status = await gateway.status(sandbox_id)
        assert status is not None
        await gateway.hand_over(sandbox_id, b"go\n")
        assert (await gateway.wait(sandbox_id)).exit_code == 7
        assert await gateway.output_tail(sandbox_id, max_bytes=100) == "go\n"
        assert [one.sandbox_id for one in await gateway.list_launch({**TAGS, "launch": "l"})] == [sandbox_id]

    run(scene)


def test_nobody_knows_it(accounts: EmulatorThread) -> None:
    unknown = "sb-01ARZ3NDEKTSV4RRFFQ69G5FAV"

    async def scene(gateway: AccountsGateway) -> None:
        assert await gateway.status(unknown) is None
        assert await gateway.find("nobody") is None
        assert await gateway.output_tail(unknown, max_bytes=100) == ""
        await gateway.terminate(unknown)
        with pytest.raises(NotFound, match=f"^no account of this deployment knows the sandbox {unknown}$"):
            await gateway.wait(unknown)
        with pytest.raises(InvalidRequest) as refusal:
            await create(gateway, Home(conn_id="modal_gone"))
        assert str(refusal.value) == (
            "the Airflow connection 'modal_gone' is not among [modal_executor] modal_conn_ids, so nothing is done with it"
        )

    run(scene)


def test_modalflows_own_volumes_are_those_of_the_account(accounts: EmulatorThread) -> None:
    logs = VolumePlan(mount_path="/logs", name="modalflow-logs", version=2, create_if_missing=True, is_ours=True)

    async def scene(gateway: AccountsGateway) -> None:
        await create(gateway, ML, volumes=(logs,))
        (request,) = accounts.calls("VolumeGetOrCreate", "ml")
        assert request.environment_name == "main"  # type: ignore[attr-defined]
        assert accounts.calls("VolumeGetOrCreate", accounts.workspace.name) == []

    run(scene)


def test_an_account_that_is_refused_keeps_no_other_from_its_work(
    accounts: EmulatorThread, caplog: pytest.LogCaptureFixture
) -> None:
    async def scene(gateway: AccountsGateway) -> None:
        own, ml = await create(gateway), await create(gateway, ML)
        accounts.revoke_token("ak-ml")
        assert [status.sandbox_id for status in await gateway.list_running(TAGS)] == [own]
        pages = [page async for page in gateway.running_ids(TAGS)]
        assert {one for page in pages for one in page} == {own, ml}, "what runs there runs, as far as anybody knows"
        with pytest.raises(Unauthenticated) as refusal:
            await create(gateway, ML)
        assert "the Airflow connection 'modal_ml'" in str(refusal.value)
        await create(gateway, ETL)
        with pytest.raises(Unauthenticated):
            await gateway.find("nobody")  # it may be there

    run(scene)
    told = [message for message in caplog.messages if message.startswith("modalflow: the account of 'modal_ml'")]
    assert len(told) <= 3, "the same is said once in a row"
    assert told[0] == (
        "modalflow: the account of 'modal_ml': could not list the running sandboxes: Modal refused the credentials: Token "
        "revoked. Could not authenticate client; they are those of the Airflow connection 'modal_ml': correct its Token ID and "
        "Token Secret (`airflow connections get modal_ml`); no restart is needed"
    )


def test_all_are_checked_at_start(accounts: EmulatorThread, monkeypatch: pytest.MonkeyPatch) -> None:
    own = accounts.environment()["MODAL_TOKEN_ID"]
    assert run(AccountsGateway.check) == (
        f"MODAL_TOKEN_ID of this process's environment with MODAL_TOKEN_SECRET of this process's environment (token {own}); "
        "environment the workspace's default, App modalflow and of the Airflow connection 'modal_ml' (token ak-ml); environment "
        "main, App modalflow and of the Airflow connection 'modal_etl' (token ak-etl); environment main, App modalflow"
    )
    monkeypatch.delenv("AIRFLOW_CONN_MODAL_ML")
    with pytest.raises(Unauthenticated) as refusal:
        run(AccountsGateway.check)
    assert str(refusal.value) == (
        "[modal_executor] modal_conn_ids or namespaces: modal_ml: Airflow knows no such connection; create it with `airflow "
        "connections add modal_ml --conn-type modal --conn-login TOKEN_ID --conn-password TOKEN_SECRET`, or correct the name"
    )


def test_a_successor_has_all_accounts(accounts: EmulatorThread) -> None:
    async def scene(gateway: AccountsGateway) -> None:
        sandbox_id = await create(gateway, ML)
        async with gateway.successor() as following:
            assert await following.status(sandbox_id) is not None

    run(scene)


@pytest.fixture
def logs(accounts: EmulatorThread) -> Iterator[LogsOfAccounts]:
    log_access.cache_clear()
    found = log_access(SETTINGS)
    assert isinstance(found, LogsOfAccounts)
    yield found
    found.close()
    log_access.cache_clear()


class TestLogs:
    PATH = "dag_id=d/run_id=r/task_id=t/attempt=1.log"

    def test_a_tasks_log_is_in_its_account_and_the_executors_lines_in_the_first(
        self, logs: LogsOfAccounts, accounts: EmulatorThread
    ) -> None:
        async def scene(gateway: AccountsGateway) -> None:
            await gateway.append_log("modalflow-logs", f"{self.PATH}.modalflow.log", "the executor's\n")
            await gateway.account("modal_ml").append_log("modalflow-logs", self.PATH, "the task's\n")

        run(scene)
        assert [list(file.lines()) for file in logs.files(self.PATH)] == [["the executor's"], ["the task's"]]

    def test_the_output_of_a_sandbox_in_another_account(self, logs: LogsOfAccounts, accounts: EmulatorThread) -> None:
        async def scene(gateway: AccountsGateway) -> str:
            sandbox_id = await create(gateway, ML, "echo", '{"logger": "task", "event": "e"}')
            await gateway.wait(sandbox_id)
            return sandbox_id

        assert logs.output(run(scene)) == ['{"logger": "task", "event": "e"}']
        with pytest.raises(NotFound):
            logs.output("sb-01ARZ3NDEKTSV4RRFFQ69G5FAV")

    def test_an_account_that_is_refused_hides_no_log(self, logs: LogsOfAccounts, accounts: EmulatorThread) -> None:
        logs.write(self.PATH, b"one\n")
        accounts.revoke_token("ak-ml")
        assert [list(file.lines()) for file in logs.files(self.PATH)] == [["one"]]
        with pytest.raises(Unauthenticated):
            logs.files("dag_id=other/a.log")


def test_a_shell_is_in_the_account_that_knows_the_sandbox(
    accounts: EmulatorThread, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    from modalflow.provider import command_shell

    async def scene(gateway: AccountsGateway) -> str:
        return await create(gateway, ETL)

    sandbox_id = run(scene)
    assert command_shell._enter(SETTINGS, sandbox_id, ["echo", "inside"], terminal=False) == 0
    assert capfdbinary.readouterr().out == b"inside\n"
    assert modal_connections.accounts_of(SETTINGS).keys() == {None, "modal_ml", "modal_etl"}


class TestTeams:
    @pytest.fixture
    def of_a_team(self, accounts: EmulatorThread, monkeypatch: pytest.MonkeyPatch) -> LaunchSettings:
        """Two teams: one with a connection of its own, one with the deployment's own token."""
        monkeypatch.setenv("AIRFLOW__CORE__MULTI_TEAM", "True")
        monkeypatch.setenv("AIRFLOW_CONN__ML___MODAL", "modal://ak-ml:as-ml@")
        monkeypatch.setattr(modal_connections, "_teams", lambda: ["ml", "other"])
        return LaunchSettings(rpc_timeout=10.0, create_timeout=10.0)

    def test_commands_see_what_runs_in_a_teams_account(self, of_a_team: LaunchSettings) -> None:
        async def scene() -> None:
            async with build_gateway(of_a_team, "ml") as theirs, gateway_of_all(of_a_team) as all_of_them:
                assert isinstance(theirs, ModalGateway)
                sandbox_id = await theirs.create(PLAN, name="team", gpu=None, argv=("sleep", "600"), secret_env={})
                assert [one.sandbox_id for one in await all_of_them.list_running(TAGS)] == [sandbox_id]

        asyncio.run(scene())

    def test_the_api_server_reads_a_teams_logs_each_once(self, of_a_team: LaunchSettings) -> None:
        async def write(team: str | None, text: str) -> None:
            async with build_gateway(of_a_team, team) as gateway:
                await gateway.append_log("modalflow-logs", TestLogs.PATH, text)

        asyncio.run(write(None, "everybody's\n"))
        asyncio.run(write("ml", "the team's\n"))
        log_access.cache_clear()
        logs = log_access(of_a_team)
        assert [list(file.lines()) for file in logs.files(TestLogs.PATH)] == [["everybody's"], ["the team's"]]
        logs.close()
        log_access.cache_clear()

    def test_the_teams_are_those_that_have_this_executor(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from airflow.executors.executor_loader import ExecutorLoader
        from airflow.executors.executor_utils import ExecutorName

        ours, local = "modalflow.executor.ModalExecutor", "airflow.executors.local_executor.LocalExecutor"
        configured = [
            ExecutorName(module_path=path, alias=None, team_name=team)
            for path, team in ((ours, None), (local, "a"), (ours, "b"), (ours, "b"), (local, "b"))
        ]
        monkeypatch.setattr(ExecutorLoader, "get_executor_names", lambda **_: configured)
        assert modal_connections._teams() == ["b"]
