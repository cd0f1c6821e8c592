"""``airflow modal cleanup`` and ``shell`` on a real Airflow database and the emulator: whose sandboxes they touch."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import subprocess
import sys
import uuid
from argparse import Namespace
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from modalflow.executor.ownership import ask_database, claims_by_instance, claims_on
from modalflow.launch.gateway import SandboxStatus, Unavailable
from modalflow.launch.stopping import end_in_order
from modalflow.launch.sweep import Claim, Sweep
from modalflow.modal_gateway import ModalGateway
from modalflow.modal_gateway.shell import enter
from modalflow.provider import command_cleanup, command_shell
from modalflow.provider.command_cleanup import UNKNOWN, clean_up
from modalflow.provider.command_shell import NoSandbox, argv_of, sandbox_of
from modalflow.translation.plan import SandboxPlan
from tests.airflow_rows import database_session, new_instance, store_dag
from tests.contract.conftest import SETTINGS, WithGateway
from tests.launch.plans import AUTO

if TYPE_CHECKING:
    from modalflow.emulator import EmulatorThread

OLD = datetime(2026, 1, 1, tzinfo=UTC)
NOW = datetime(2026, 1, 2, tzinfo=UTC)
DAG_FILE = """
from airflow.sdk import DAG, task

with DAG("cleaned", schedule=None):
    @task
    def work(): ...

    work()
"""


@pytest.fixture(scope="module")
def stored_dag(airflow_database: None) -> str:
    return store_dag("cleaned", DAG_FILE)


@pytest.fixture
def session(stored_dag: str) -> Iterator[Any]:
    with database_session() as session:
        yield session


def instance(session: Any, state: str, external: str | None, end_date: datetime | None = None) -> Any:
    """A task instance in a run of its own."""
    dates = {"end_date": end_date, "updated_at": end_date or OLD, "queued_dttm": OLD}
    return new_instance(session, "cleaned", "work", run_after=OLD, state=state, external_executor_id=external, **dates)


def launch_id() -> str:
    return str(uuid.uuid4())


def test_what_airflow_wants_by_state(session: Any) -> None:
    ids = [launch_id() for _ in range(8)]
    for one, (state, form, end_date) in zip(
        ids,
        [
            ("queued", "{}", None),
            ("running", "{}/sb-1", None),
            ("restarting", "{}/sb-1", None),
            ("success", "{}/sb-1", NOW - timedelta(seconds=30)),
            ("failed", "{}/sb-1", OLD),
            ("deferred", "{}/sb-1", None),
        ],
        strict=False,
    ):
        instance(session, state, form.format(one), end_date)
    # Cleared while it ran: the instance has no id any more, the history has.
    from airflow.models.taskinstancehistory import TaskInstanceHistory

    cleared = instance(session, "running", f"{ids[6]}/sb-1")
    cleared.end_date = OLD
    cleared.prepare_db_for_next_try(session)
    cleared.external_executor_id, cleared.state = None, None
    session.commit()
    assert session.query(TaskInstanceHistory).filter_by(external_executor_id=f"{ids[6]}/sb-1").count() == 1
    assert claims_on(session, dict.fromkeys([*ids, "not-an-id", ""], ""), NOW) == {
        ids[0]: Claim(over=False, why="the task is queued"),
        ids[1]: Claim(over=False, why="the task is running"),
        ids[2]: Claim(over=False, why="the task is restarting"),
        ids[3]: Claim(over=False, why="the task is success since a moment; its log may be on its way"),
        ids[4]: Claim(over=True, why="the task is failed"),
        ids[5]: Claim(over=True, why="the task is deferred"),
        ids[6]: Claim(over=True, why="try 1 of the task is over"),
    }


def test_a_try_that_waits_for_the_next_is_over_though_its_row_has_its_id_still(session: Any) -> None:
    one = launch_id()
    ti = instance(session, "up_for_retry", f"{one}/sb-1", OLD)
    ti.prepare_db_for_next_try(session)
    session.commit()
    assert claims_on(session, {one: ""}, NOW)[one].over


def test_what_may_run_on_after_a_task_is_waited_for(session: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    one = launch_id()
    instance(session, "success", f"{one}/sb-1", NOW - timedelta(minutes=30))
    assert claims_on(session, {one: ""}, NOW)[one].over
    monkeypatch.setenv("AIRFLOW__CORE__TASK_SUCCESS_OVERTIME", "3600")
    assert not claims_on(session, {one: ""}, NOW)[one].over, "its callbacks have an hour"


def test_by_primary_key_it_says_the_same(session: Any) -> None:
    ids = [launch_id() for _ in range(6)]
    running = instance(session, "running", f"{ids[0]}/sb-1")
    failed = instance(session, "failed", f"{ids[1]}/sb-1", OLD)
    fresh = instance(session, "failed", f"{ids[2]}/sb-1", NOW - timedelta(seconds=30))
    retried = instance(session, "up_for_retry", f"{ids[3]}/sb-1", OLD)
    first_try = retried.id
    retried.prepare_db_for_next_try(session)
    resumed = instance(session, "running", f"{launch_id()}/sb-2")
    session.commit()
    launches = {
        ids[0]: str(running.id),
        ids[1]: str(failed.id),
        ids[2]: str(fresh.id),
        ids[3]: str(first_try),
        ids[4]: str(resumed.id),  # nothing says when it was made: it may be of another database
        ids[5]: launch_id(),  # of another database
        "not-an-id": str(failed.id),
        launch_id(): "",  # no callback of ours
    }
    assert claims_by_instance(session, launches, NOW) == {
        ids[0]: Claim(over=False, why="the task is running"),
        ids[1]: Claim(over=True, why="the task is failed"),
        ids[2]: Claim(over=False, why="the task is failed since a moment; its log may be on its way"),
        ids[3]: Claim(over=True, why="try 1 of the task is over"),
    }


def test_a_try_that_is_past_still_has_its_callbacks_and_its_log(session: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    one = launch_id()
    ti = instance(session, "success", f"{one}/sb-1", NOW - timedelta(minutes=30))
    first = str(ti.id)
    ti.prepare_db_for_next_try(session)  # cleared after it succeeded
    ti.external_executor_id, ti.state = None, None
    session.commit()
    assert claims_by_instance(session, {one: first}, NOW)[one] == Claim(over=True, why="try 1 of the task is over")
    monkeypatch.setenv("AIRFLOW__CORE__TASK_SUCCESS_OVERTIME", "3600")
    told = Claim(over=False, why="try 1 of the task is over since a moment; its log may be on its way")
    assert claims_by_instance(session, {one: first}, NOW)[one] == told, "its callbacks have an hour"
    assert claims_on(session, {one: ""}, NOW)[one] == told


def test_a_task_that_has_just_deferred_still_writes_its_log(session: Any) -> None:
    one = launch_id()
    ti = instance(session, "deferred", f"{one}/sb-1")
    assert claims_by_instance(session, {one: str(ti.id)}, NOW)[one].over
    ti.updated_at = NOW - timedelta(seconds=30)
    session.commit()
    told = Claim(over=False, why="the task is deferred since a moment; its log may be on its way")
    assert claims_by_instance(session, {one: str(ti.id)}, NOW)[one] == told


QUEUED = NOW - timedelta(hours=1)
"""When the instance of these tests was queued again."""
SECOND = timedelta(seconds=1)
AGAIN = Claim(over=True, why="its task was queued again since, and has another sandbox")


@pytest.mark.parametrize(
    ("state", "made", "now", "claim"),
    [
        ("running", QUEUED - 6 * SECOND, NOW, AGAIN),
        ("queued", QUEUED - 6 * SECOND, NOW, AGAIN),
        ("success", QUEUED - 6 * SECOND, NOW, Claim(over=True, why="the task is success")),
        (
            "running",
            QUEUED - 6 * SECOND,
            QUEUED + 60 * SECOND,
            Claim(over=False, why="its task was queued again a moment ago; its log may be on its way"),
        ),
        ("running", QUEUED - 4 * SECOND, NOW, None),
        ("running", QUEUED + 60 * SECOND, NOW, None),
        ("success", QUEUED + 60 * SECOND, NOW, None),
        ("running", None, NOW, None),
    ],
    ids=["runs again", "queued again", "ended", "a moment ago", "clocks differ", "a later one", "a later one of its", "unknown"],
)
def test_an_earlier_launch_of_an_instance_is_over_if_its_sandbox_is_older(
    session: Any, state: str, made: datetime | None, now: datetime, claim: Claim | None
) -> None:
    earlier, second = launch_id(), launch_id()
    ti = instance(session, state, f"{second}/sb-2", OLD if state == "success" else None)
    ti.queued_dttm = QUEUED
    session.commit()
    launches, known = {earlier: str(ti.id)}, {earlier: made} if made else {}
    expected = {earlier: claim} if claim else {}
    assert claims_by_instance(session, launches, now, known) == expected
    assert claims_on(session, launches, now, known) == expected


def test_an_earlier_launch_of_a_try_that_is_past_is_over(session: Any) -> None:
    earlier = launch_id()
    ti = instance(session, "running", f"{launch_id()}/sb-2")
    first, ti.queued_dttm, ti.end_date = str(ti.id), QUEUED, OLD
    ti.prepare_db_for_next_try(session)
    session.commit()
    made = {earlier: QUEUED - timedelta(minutes=1)}
    assert claims_by_instance(session, {earlier: first}, NOW, made) == {
        earlier: Claim(over=True, why="try 1 of the task is over")
    }


def test_callbacks_are_found_by_their_own_id(session: Any) -> None:
    from airflow.models.callback import Callback

    def stored(state: str) -> str:
        one = uuid.uuid4()
        values = {"id": one, "type": "executor", "fetch_method": "import_path", "data": {}, "state": state, "priority_weight": 1}
        session.execute(Callback.__table__.insert().values(**values, created_at=OLD))
        session.commit()
        return str(one)

    ids = [stored("running"), stored("failed")]
    assert claims_by_instance(session, dict.fromkeys(ids, ""), NOW) == {
        ids[0]: Claim(over=False, why="the callback is running"),
        ids[1]: Claim(over=True, why="the callback is failed"),
    }


@pytest.mark.emulated
def test_the_sweep_ends_what_is_over_twice_and_nothing_else(
    session: Any, with_gateway: WithGateway[None], modal_emulator: EmulatorThread, caplog: pytest.LogCaptureFixture
) -> None:
    wanted, over, strange, keyless = (launch_id() for _ in range(4))
    running, failed = instance(session, "running", wanted), instance(session, "failed", f"{over}/sb-1", OLD)
    instance(session, "failed", f"{keyless}/sb-1", OLD)

    async def scene(gateway: ModalGateway) -> None:
        def of(launch: str, ti: Any, deployment: str = "airflow") -> SandboxPlan:
            plan = sleeper(launch, deployment)
            return replace(plan, tags={**plan.tags, "task_instance": str(ti)})

        left = await runs(gateway, of(over, failed.id))
        kept = [
            await runs(gateway, of(wanted, running.id)),
            await runs(gateway, of(strange, failed.id)),  # the instance is ours, the launch is not
            await runs(gateway, of(over, failed.id, "staging")),
            await runs(gateway, sleeper(keyless)),  # without a key of the database: for `airflow modal cleanup`
        ]
        sweep = Sweep(lambda: gateway, ask_database, deployment="airflow", stop_argv=["stop"], stop_grace=0)
        await sweep.look()
        assert {status.sandbox_id for status in await gateway.list_running({})} == {left, *kept}
        await sweep.look()
        assert {status.sandbox_id for status in await gateway.list_running({})} == set(kept)
        said = f"modalflow: ending sandbox {left} (cleaned.work, launch {over}), which was left running: the task is failed"
        assert [record.getMessage() for record in caplog.records if record.name == "modalflow.launch.sweep"] == [said]

    with_gateway(scene)


@pytest.mark.emulated
def test_what_a_task_left_before_it_deferred_is_ended_while_it_runs_again(
    session: Any, with_gateway: WithGateway[None], modal_emulator: EmulatorThread
) -> None:
    before, second = launch_id(), launch_id()
    ti = instance(session, "running", f"{second}/sb-2")

    async def scene(gateway: ModalGateway) -> None:
        tags = {"task_instance": str(ti.id)}
        left, goes_on = [
            await runs(gateway, replace(sleeper(launch), tags={**sleeper(launch).tags, **tags})) for launch in (before, second)
        ]
        made_at = next(status.made_at for status in await gateway.list_running({}) if status.sandbox_id == left)
        assert made_at is not None
        ti.queued_dttm = made_at + timedelta(seconds=10)
        session.commit()
        an_hour_on = made_at + timedelta(hours=1)

        def claims(launches: Mapping[str, str], made: Mapping[str, datetime]) -> Mapping[str, Claim]:
            with create_session(scoped=False) as own:
                return claims_by_instance(own, launches, an_hour_on, made)

        sweep = Sweep(lambda: gateway, claims, deployment="airflow", stop_argv=["stop"], stop_grace=0)
        await sweep.look()
        await sweep.look()
        assert {status.sandbox_id for status in await gateway.list_running({})} == {goes_on}

    from airflow.utils.session import create_session

    with_gateway(scene)


def sleeper(launch: str, deployment: str = "airflow") -> SandboxPlan:
    return SandboxPlan(image=AUTO, tags={"deployment": deployment, "launch": launch, "dag_id": "cleaned", "task_id": "work"})


async def runs(gateway: ModalGateway, plan: SandboxPlan) -> str:
    argv = ["python", "-c", "import time; time.sleep(600)"]
    return await gateway.create(plan, name=launch_id(), gpu=None, argv=argv, secret_env={})


@pytest.mark.emulated
@pytest.mark.parametrize("yes", [False, True], ids=["dry run", "for real"])
def test_only_what_is_ours_by_both_tags_and_over_is_ended(
    session: Any, with_gateway: WithGateway[None], modal_emulator: EmulatorThread, *, yes: bool
) -> None:
    wanted, over, strange = launch_id(), launch_id(), launch_id()
    instance(session, "running", wanted)
    instance(session, "failed", f"{over}/sb-1", OLD)

    async def scene(gateway: ModalGateway) -> None:
        ids = {
            "wanted": await runs(gateway, sleeper(wanted)),
            "over": await runs(gateway, sleeper(over)),
            "strange": await runs(gateway, sleeper(strange)),
            "of another deployment": await runs(gateway, sleeper(over, "staging")),
        }
        settings = replace(SETTINGS, stop_grace=0)
        rows = await clean_up(gateway, settings, lambda launches, made: claims_on(session, launches, NOW, made), yes=yes)
        assert {row.status.sandbox_id: (row.action, row.why) for row in rows} == {
            ids["wanted"]: ("keep", "the task is running"),
            ids["over"]: ("ended" if yes else "end", "the task is failed"),
            ids["strange"]: ("keep", UNKNOWN),
        }
        running = {status.sandbox_id for status in await gateway.list_running({})}
        assert running == set(ids.values()) - ({ids["over"]} if yes else set())

    with_gateway(scene)


class Scripted:
    """A gateway that notes what is asked of it."""

    def __init__(self, *, asks: bool = True, ends: bool = True) -> None:
        self.asked: list[str] = []
        self._asks, self._ends = asks, ends

    async def start_in(self, sandbox_id: str, argv: Sequence[str]) -> None:
        self.asked.append(" ".join(["start_in", *argv]))
        if not self._asks:
            raise Unavailable("away")

    async def wait(self, sandbox_id: str) -> None:
        self.asked.append("wait")
        if not self._ends:
            raise TimeoutError

    async def terminate(self, sandbox_id: str) -> None:
        self.asked.append("terminate")


@pytest.mark.parametrize(
    ("asks", "ends", "tags", "expected"),
    [
        (True, True, {}, ["start_in stop", "wait"]),
        (True, False, {}, ["start_in stop", "wait", "terminate"]),
        (False, True, {}, ["start_in stop", "terminate"]),
        (True, True, {"stop_grace": "0"}, ["terminate"]),
    ],
    ids=["stops", "does not stop", "cannot be asked", "its pod gives it no time"],
)
def test_a_sandbox_is_asked_before_it_is_terminated(*, asks: bool, ends: bool, tags: dict[str, str], expected: list[str]) -> None:
    import asyncio

    gateway = Scripted(asks=asks, ends=ends)
    status = SandboxStatus(sandbox_id="sb-1", name="", tags=tags)
    asyncio.run(end_in_order(gateway, status, stop_argv=["stop"], stop_grace=30))  # type: ignore[arg-type]
    assert gateway.asked == expected


@pytest.mark.emulated
def test_the_command_says_what_it_would_do(
    session: Any, with_gateway: WithGateway[str], modal_emulator: EmulatorThread, capsys: pytest.CaptureFixture[str]
) -> None:
    over = launch_id()
    instance(session, "failed", f"{over}/sb-1", OLD)
    sandbox_id = with_gateway(lambda gateway: runs(gateway, sleeper(over)))
    capsys.readouterr()  # what Airflow said until here
    command_cleanup.cleanup(Namespace(yes=False, json=True, verbose=False))
    assert json.loads(capsys.readouterr().out) == [
        {
            "sandbox": sandbox_id,
            "task": "cleaned.work",
            "run_id": "",
            "launch": over,
            "action": "end",
            "why": "the task is failed",
        }
    ]
    command_cleanup.cleanup(Namespace(yes=False, json=False, verbose=False))
    assert capsys.readouterr().out.endswith("\n1 would be ended; nothing was done. Run it again with --yes.\n")


@pytest.mark.emulated
def test_the_command_says_that_nothing_runs(
    stored_dag: str, modal_emulator: EmulatorThread, capsys: pytest.CaptureFixture[str]
) -> None:
    command_cleanup.cleanup(Namespace(yes=True, json=False, verbose=False))
    assert capsys.readouterr().out == "No sandbox of deployment 'airflow' runs.\n"


# -- shell


def test_the_sandbox_is_that_of_the_instance_that_runs(session: Any) -> None:
    from airflow.models.taskinstance import TaskInstance

    session.query(TaskInstance).filter(TaskInstance.dag_id == "cleaned").delete()
    session.commit()

    def found(**which: Any) -> str:
        return sandbox_of(session, "cleaned", "work", run_id=which.get("run_id"), map_index=which.get("map_index"))

    with pytest.raises(NoSandbox, match=r"^no instance of cleaned\.work has a sandbox and runs$"):
        found()
    queued = instance(session, "queued", launch_id())
    with pytest.raises(NoSandbox, match=r"^no instance of cleaned\.work has a sandbox: what there is is queued$"):
        found()
    first = instance(session, "running", f"{launch_id()}/sb-first")
    assert found() == "sb-first"
    second = instance(session, "running", f"{launch_id()}/sb-second")
    with pytest.raises(NoSandbox, match=r"^2 instances of cleaned\.work run; say which: --run-id run-.*, --run-id run-.*$"):
        found()
    assert found(run_id=second.run_id, map_index=-1) == "sb-second"
    assert first.run_id != queued.run_id


@pytest.mark.parametrize("command", [[], ["--"]])
def test_without_a_command_it_is_a_shell(command: list[str]) -> None:
    assert argv_of(command)[:2] == ["sh", "-c"]
    assert "exec bash" in argv_of(command)[2]


@pytest.mark.emulated
def test_a_command_runs_in_the_sandbox_without_its_workload(
    with_gateway: WithGateway[str], modal_emulator: EmulatorThread, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    async def scene(gateway: ModalGateway) -> str:
        argv = ["python", "-c", "import time; time.sleep(600)"]
        secret = {"MODALFLOW_WORKLOAD": "the-workload"}
        return await gateway.create(sleeper(launch_id()), name=launch_id(), gpu=None, argv=argv, secret_env=secret)

    sandbox_id = with_gateway(scene)
    seen = "echo out-$1-${MODALFLOW_WORKLOAD:-none}; echo err >&2; exit 7"
    code = enter(SETTINGS, sandbox_id, argv_of(["--", "sh", "-c", seen, "sh", "word"]), terminal=False)
    out, err = capfdbinary.readouterr()
    assert (code, out, err) == (7, b"out-word-none\n", b"err\n")


@pytest.mark.emulated
def test_with_a_terminal_it_is_a_shell_on_one(with_gateway: WithGateway[str], modal_emulator: EmulatorThread) -> None:
    sandbox_id = with_gateway(lambda gateway: runs(gateway, sleeper(launch_id())))
    program = f"""
import sys
from modalflow.modal_gateway.shell import enter
from modalflow.provider.command_shell import argv_of
from modalflow.settings import LaunchSettings
sys.exit(enter(LaunchSettings(), {sandbox_id!r}, argv_of([]), terminal=True))
"""
    ours, its = pty.openpty()
    with subprocess.Popen([sys.executable, "-c", program], stdin=its, stdout=its, stderr=its) as process:
        os.close(its)
        shown = os.read(ours, 4096)  # a prompt, or the beginning of one
        os.write(ours, b"tty; exit 5\n")
        with contextlib.suppress(OSError):  # how a terminal ends
            while part := os.read(ours, 4096):
                shown += part
    os.close(ours)
    assert process.returncode == 5, shown
    assert b"/dev/pts/" in shown


@pytest.mark.emulated
def test_the_shell_command_says_what_it_cannot_enter(
    stored_dag: str, modal_emulator: EmulatorThread, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        command_shell.shell(
            Namespace(dag="nobody", task="work", run_id=None, map_index=None, try_number=None, command=[], verbose=False)
        )
    assert ended.value.code == 1
    assert capsys.readouterr().err == (
        "no instance of nobody.work has a sandbox and runs, and no sandbox of a failed one is kept\n"
    )
