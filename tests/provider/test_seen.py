"""What people see of their tasks: the button to the sandbox, ``ps``, ``top`` and ``logs``, on a real Airflow database."""

from __future__ import annotations

import io
import json
import pkgutil
import tomllib
from argparse import Namespace
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from modalflow.launch.gateway import SandboxStatus
from modalflow.provider import command_ps
from modalflow.provider.command_logs import NoTask, instance_of, lines_of, logs
from modalflow.provider.kept_sandboxes import Kept
from modalflow.provider.sandbox_link import SandboxLink
from modalflow.provider.task_states import AirflowTask, active_tasks, joined
from modalflow.settings import LaunchSettings
from tests.airflow_rows import database_session, new_instance, store_dag

DAG_FILE = """
from airflow.sdk import DAG, task

with DAG("seen", schedule=None):
    @task
    def train(): ...

    @task
    def report(): ...

    train(), report()
"""
LAUNCH = "0199c5b2-5f0e-7a53-9d0c-6c8a3f7f5b11"
OTHER = "0199c5b2-5f0e-7a53-9d0c-6c8a3f7f5b12"
NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


@pytest.fixture(scope="module")
def stored_dag(airflow_database: None) -> str:
    return store_dag("seen", DAG_FILE)


@pytest.fixture
def session(stored_dag: str) -> Iterator[Any]:
    from airflow.models.taskinstance import TaskInstance
    from sqlalchemy import update

    with database_session() as session:
        session.execute(update(TaskInstance).values(state="success"))  # of other tests in this process
        session.commit()
        yield session


def instance(session: Any, task_id: str, **values: Any) -> Any:
    """A task instance of a new run."""
    return new_instance(session, "seen", task_id, **values)


def tell(session: Any, ti: Any, event: str, extra: str) -> None:
    from airflow.models.log import Log

    session.add(Log(event=event, task_instance=ti.key, extra=extra))
    session.commit()


def status(sandbox_id: str = "sb-1", launch: str = LAUNCH, **tags: str) -> SandboxStatus:
    return SandboxStatus(sandbox_id=sandbox_id, name=launch, tags={"launch": launch, **tags})


class TestLink:
    """The button "Modal sandbox"."""

    @pytest.mark.parametrize(
        ("external_id", "address"),
        [
            (f"{LAUNCH}/sb-1", "https://modal.com/id/sb-1"),
            (LAUNCH, ""),
            ("some-pod-of-another-executor", ""),
            (None, ""),
        ],
    )
    def test_it_leads_to_the_sandbox_if_there_is_one(self, session: Any, external_id: str | None, address: str) -> None:
        ti = instance(session, "train", state="running", external_executor_id=external_id)
        assert SandboxLink().get_link(None, ti_key=ti.key) == address

    def test_an_earlier_try_has_its_own(self, session: Any) -> None:
        from airflow.models.taskinstance import clear_task_instances

        ti = instance(session, "train", state="failed", external_executor_id=f"{LAUNCH}/sb-1")
        first = ti.key
        clear_task_instances([ti], session)
        session.commit()
        ti.try_number, ti.external_executor_id = 2, f"{OTHER}/sb-2"
        session.commit()
        assert SandboxLink().get_link(None, ti_key=first) == "https://modal.com/id/sb-1"
        assert SandboxLink().get_link(None, ti_key=ti.key) == "https://modal.com/id/sb-2"

    def test_an_address_of_the_site_s_own_or_none(self, session: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        ti = instance(session, "train", state="running", external_executor_id=f"{LAUNCH}/sb-1")
        monkeypatch.setenv("AIRFLOW__MODAL_EXECUTOR__SANDBOX_URL", "https://proxy/{sandbox_id}?x=1")
        assert SandboxLink().get_link(None, ti_key=ti.key) == "https://proxy/sb-1?x=1"
        monkeypatch.setenv("AIRFLOW__MODAL_EXECUTOR__SANDBOX_URL", "")
        assert SandboxLink().get_link(None, ti_key=ti.key) == ""

    def test_airflow_has_it_for_every_operator(self, session: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        """The plugin of the entry point, and the serialized task that the API server asks."""
        from airflow import plugins_manager
        from airflow.models.serialized_dag import SerializedDagModel

        project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
        plugin = pkgutil.resolve_name(project["entry-points"]["airflow.plugins"]["modalflow"])
        monkeypatch.setattr(plugins_manager, "_get_plugins", lambda: ([plugin()], {}))
        plugins_manager._get_extra_operators_links_plugins.cache_clear()
        ti = instance(session, "report", state="running", external_executor_id=f"{LAUNCH}/sb-1")
        dag = SerializedDagModel.get_dag("seen", session=session)
        assert dag is not None
        try:
            assert dag.get_task("report").get_extra_links(ti, "Modal sandbox") == "https://modal.com/id/sb-1"
        finally:
            plugins_manager._get_extra_operators_links_plugins.cache_clear()


class TestStates:
    """Airflow's tasks joined with Modal's sandboxes."""

    def task(self, **changes: Any) -> AirflowTask:
        values: dict[str, Any] = {
            "dag_id": "d", "task_id": "t", "run_id": "r", "map_index": -1, "try_number": 1, "state": "running",
            "since": NOW - timedelta(hours=2), "launch_id": LAUNCH, "sandbox_id": "sb-1",
        }  # fmt: skip
        return AirflowTask(**{**values, **changes})

    def test_a_running_task_has_gpu_time_and_price(self) -> None:
        [row] = joined([self.task()], [status(gpu="H100.2", usd_hour="7.9")], NOW)
        assert (row.state, row.gpu, row.seconds, row.usd, row.sandbox) == ("running", "2xH100", 7200.0, 15.8, "sb-1")

    def test_what_one_side_alone_knows_is_said(self) -> None:
        tasks = [
            self.task(),
            self.task(task_id="w", state="queued", launch_id=OTHER, sandbox_id=None, said="waiting for H100"),
        ]
        rows = joined(tasks, [status("sb-9", "a-stranger", dag_id="x", task_id="y", map_index="-1")], NOW)
        assert [(row.state, row.task_id, row.sandbox, row.said) for row in rows] == [
            ("no sandbox", "t", "sb-1", ""),
            ("waiting", "w", "", "waiting for H100"),
            ("only on Modal", "y", "sb-9", ""),
        ]

    def test_a_kept_sandbox_is_told_from_one_that_nobody_knows(self) -> None:
        one = status(dag_id="d", task_id="t", try_number="1", usd_hour="2.0", keep_on_failure="3600")
        kept = Kept(status=one, failed_at=NOW - timedelta(minutes=30), until=NOW + timedelta(minutes=30))
        [row] = joined([], [one], NOW, [kept])
        assert (row.state, row.seconds, row.usd, row.try_number) == ("kept", 1800.0, 1.0, "1")
        assert row.said == f"its task failed; kept until {kept.until:%H:%M:%S} UTC"

    def test_airflow_s_side_is_read_with_the_latest_event_of_a_waiting_task(self, session: Any) -> None:
        queued = datetime.now(UTC) - timedelta(minutes=3)
        waiting = instance(session, "train", state="queued", queued_dttm=queued, external_executor_id=LAUNCH)
        instance(session, "report", state="running", start_date=queued, external_executor_id=f"{OTHER}/sb-2")
        instance(session, "report", state="running", start_date=queued, external_executor_id="a-pod")
        instance(session, "report", state="success", external_executor_id=f"{OTHER}/sb-3")
        tell(session, waiting, "waiting-for-gpu", "waiting for H100")
        tell(session, waiting, "waiting-for-gpu", "waiting for A10G")
        tell(session, waiting, "state mismatch", "of Airflow's own")
        tasks = sorted(active_tasks(session), key=lambda task: task.task_id)
        assert [(task.task_id, task.state, task.sandbox_id, task.said) for task in tasks] == [
            ("report", "running", "sb-2", ""),
            ("train", "queued", None, "waiting for A10G"),
        ]
        assert tasks[1].since == queued


class TestCommands:
    """``ps`` and ``top`` as they are called."""

    @pytest.fixture(autouse=True)
    def listed(self, monkeypatch: pytest.MonkeyPatch, session: Any) -> None:
        async def running(settings: LaunchSettings) -> list[SandboxStatus]:
            return [status(gpu="A10G.1", usd_hour="1.2")]

        monkeypatch.setattr(command_ps, "running", running)
        monkeypatch.setenv("COLUMNS", "200")

    def test_ps_as_json(self, session: Any, capsys: pytest.CaptureFixture[str]) -> None:
        started = datetime.now(UTC) - timedelta(hours=1)
        ti = instance(session, "train", state="running", start_date=started, external_executor_id=f"{LAUNCH}/sb-1")
        run_id = ti.run_id
        capsys.readouterr()
        command_ps.ps(Namespace(json=True, watch=None, verbose=False))
        [row] = json.loads(capsys.readouterr().out)
        assert (row["run_id"], row["state"], row["gpu"], row["usd_hour"]) == (run_id, "running", "A10G", 1.2)
        assert row["usd"] == pytest.approx(1.2, abs=0.05)

    def test_top_once_where_there_is_no_terminal(self, session: Any, capsys: pytest.CaptureFixture[str]) -> None:
        started = datetime.now(UTC) - timedelta(hours=1)
        ti = instance(session, "train", state="running", start_date=started, external_executor_id=f"{LAUNCH}/sb-1")
        tell(session, ti, "modal launch failed", "the sandbox ran out of memory; raise `memory`")
        command_ps.top(Namespace(watch=5.0, verbose=False))
        out = capsys.readouterr().out
        assert "1 running; 1.20 USD an hour by list price" in out
        assert "GPUs: 1 × A10G" in out
        assert "the sandbox ran out of memory; raise `memory`" in out

    def test_without_a_database_modal_s_side_is_shown(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        from sqlalchemy.exc import OperationalError

        def broken(_session: Any) -> Any:
            raise OperationalError("SELECT", {}, Exception("no such table"))

        monkeypatch.setattr(command_ps, "active_tasks", broken)
        command_ps.ps(Namespace(json=False, watch=None, verbose=False))
        told = capsys.readouterr()
        assert told.err == "Airflow's database cannot be read (OperationalError); only what runs on Modal is shown\n"
        assert "only on Modal" in told.out

    def test_markup_in_a_reason_is_text(self) -> None:
        looked = command_ps.Look(rows=(), failures=[(NOW, "d.t", "[/red] broke")])
        console = Console(width=100, file=io.StringIO(), record=True)
        console.print(command_ps.overview(looked))
        assert "[/red] broke" in console.export_text()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
class TestLogs:
    """``airflow modal logs``. Airflow's reader leaves files open to the garbage collector (3.3.2)."""

    def arguments(self, **changes: Any) -> Namespace:
        values = {"dag": "seen", "task": "train", "run_id": None, "map_index": None, "try_number": None}
        return Namespace(**{**values, "follow": False, "json": False, "verbose": False, **changes})

    @pytest.fixture
    def written(self, session: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
        """A task of the past with a log on this host; no log Volume is asked for."""
        from airflow.configuration import conf

        monkeypatch.setenv("AIRFLOW__MODAL_EXECUTOR__LOGS_VOLUME", "")
        ti = instance(session, "train", state="failed", queued_dttm=datetime.now(UTC), external_executor_id=f"{LAUNCH}/sb-1")
        folder = Path(conf.get("logging", "base_log_folder")) / f"dag_id=seen/run_id={ti.run_id}/task_id=train"
        folder.mkdir(parents=True)
        lines = [
            {"timestamp": "2026-11-24T12:00:01Z", "level": "info", "event": "epoch 3", "logger": "task.stdout"},
            {"timestamp": "2026-11-24T12:00:02Z", "level": "error", "event": "boom"},
        ]
        (folder / "attempt=1.log").write_text("".join(json.dumps(line) + "\n" for line in lines))
        return ti

    def test_the_lines_as_people_read_them(self, written: Any, capsys: pytest.CaptureFixture[str]) -> None:
        logs(self.arguments(run_id=written.run_id))
        lines = capsys.readouterr().out.splitlines()
        assert lines[-2:] == ["12:00:01 INFO    epoch 3", "12:00:02 ERROR   boom"]

    def test_the_latest_run_and_json(self, written: Any) -> None:
        told = [json.loads(line) for line in lines_of(self.arguments(json=True), sleep=lambda _seconds: None)]
        assert told[-1]["event"] == "boom"

    def test_following_ends_with_the_try(self, written: Any, session: Any) -> None:
        from airflow.models.taskinstance import TaskInstance
        from sqlalchemy import update

        slept: list[float] = []
        ti_id = written.id

        def set_state(state: str) -> None:
            session.execute(update(TaskInstance).where(TaskInstance.id == ti_id).values(state=state))
            session.commit()

        def ends(seconds: float) -> None:
            slept.append(seconds)
            assert len(slept) == 1, "the try has ended"
            set_state("failed")

        set_state("running")
        told = list(lines_of(self.arguments(follow=True), sleep=ends))
        assert slept == [2.0]
        assert [line for line in told if "epoch 3" in line] == ["12:00:01 INFO    epoch 3"]
        assert [line for line in told if "::" in line] == ["::group::Log message source details", "::endgroup::"], "one header"

    def test_a_task_that_there_is_not(self, session: Any, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(NoTask):
            instance_of(session, "seen", "nosuch", run_id=None, map_index=None)
        with pytest.raises(SystemExit) as ended:
            logs(self.arguments(task="nosuch", run_id="r"))
        assert ended.value.code == 1
        assert capsys.readouterr().err == (
            "no instance of seen.nosuch of run r was ever queued: `airflow dags list-runs seen` has the runs\n"
        )
