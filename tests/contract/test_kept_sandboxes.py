"""Sandboxes kept after a failure, by a real Airflow database: who counts as failed, and what the commands make of them."""

from __future__ import annotations

import asyncio
from argparse import Namespace
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import pytest

from modalflow.executor.ownership import claims_by_instance
from modalflow.launch.gateway import SandboxStatus
from modalflow.launch.sweep import Claim, Sweep
from modalflow.provider.command_cleanup import clean_up
from modalflow.provider.command_shell import NoSandbox, to_enter
from modalflow.provider.kept_sandboxes import Kept, kept_of
from tests.contract.conftest import SETTINGS
from tests.contract.test_cleanup_and_shell import NOW, instance, launch_id, session, stored_dag

__all__ = ["session", "stored_dag"]

AN_HOUR_AGO = NOW - timedelta(hours=1)


def kept_sandbox(sandbox_id: str, launch: str, ti: Any, *, seconds: int = 7200, try_number: int = 1) -> SandboxStatus:
    tags = {
        "deployment": "airflow", "launch": launch, "task_instance": str(ti), "dag_id": "cleaned", "task_id": "work",
        "run_id": "run-1", "map_index": "-1", "try_number": str(try_number), "keep_on_failure": str(seconds),
    }  # fmt: skip
    return SandboxStatus(sandbox_id=sandbox_id, name=launch, tags=tags)


@pytest.mark.parametrize(
    ("state", "failed"),
    [("failed", True), ("success", False), ("running", False), ("queued", False), ("deferred", False), ("skipped", False)],
)
def test_only_a_failure_counts_as_one(session: Any, state: str, *, failed: bool) -> None:
    one = launch_id()
    ti = instance(session, state, f"{one}/sb-1", AN_HOUR_AGO)
    claim = claims_by_instance(session, {one: str(ti.id)}, NOW)[one]
    assert claim.failed_at == (AN_HOUR_AGO if failed else None)


def test_a_failed_try_counts_whatever_its_task_is_at_now(session: Any) -> None:
    one, following = launch_id(), launch_id()
    ti = instance(session, "up_for_retry", f"{one}/sb-1", AN_HOUR_AGO)
    first = ti.id
    ti.prepare_db_for_next_try(session)
    ti.state, ti.external_executor_id, ti.end_date = "running", f"{following}/sb-2", None
    session.commit()
    known = claims_by_instance(session, {one: str(first), following: str(ti.id)}, NOW)
    assert {launch: claim.failed_at for launch, claim in known.items()} == {one: AN_HOUR_AGO, following: None}


class Listing:
    """A gateway that lists, and notes what is ended."""

    def __init__(self, sandboxes: Sequence[SandboxStatus]) -> None:
        self.sandboxes = list(sandboxes)
        self.ended: list[str] = []

    async def list_running(self, _tags: Mapping[str, str]) -> list[SandboxStatus]:
        return self.sandboxes

    async def terminate(self, sandbox_id: str) -> None:
        self.ended.append(sandbox_id)

    async def start_in(self, sandbox_id: str, argv: Sequence[str]) -> None:
        """Asked to stop, which it does."""

    async def wait(self, sandbox_id: str) -> None:
        self.ended.append(sandbox_id)


@pytest.fixture
def scene(session: Any) -> Listing:
    """One that is kept, one whose time is over, one whose task succeeded, one of another database."""
    ids = [launch_id() for _ in range(4)]
    failed = [instance(session, "failed", f"{one}/sb-1", AN_HOUR_AGO) for one in ids[:2]]
    success = instance(session, "success", f"{ids[2]}/sb-1", AN_HOUR_AGO)
    return Listing(
        [
            kept_sandbox("sb-kept", ids[0], failed[0].id),
            kept_sandbox("sb-over", ids[1], failed[1].id, seconds=600),
            kept_sandbox("sb-success", ids[2], success.id),
            kept_sandbox("sb-strange", ids[3], launch_id()),
        ]
    )


def test_the_sweep_ends_it_when_its_time_is_over_and_not_before(session: Any, scene: Listing) -> None:
    def claims(launches: Mapping[str, str], made: Mapping[str, datetime]) -> Mapping[str, Claim]:
        from airflow.utils.session import create_session

        with create_session(scoped=False) as own:
            return claims_by_instance(own, launches, NOW, made)

    async def looks() -> None:
        gateway: Any = scene
        sweep = Sweep(lambda: gateway, claims, deployment="airflow", stop_argv=[], stop_grace=0, now=lambda: NOW)
        await sweep.look()
        await sweep.look()

    asyncio.run(looks())
    assert sorted(scene.ended) == ["sb-over", "sb-success"]


def test_cleanup_says_until_when_it_is_kept(session: Any, scene: Listing, monkeypatch: pytest.MonkeyPatch) -> None:
    from modalflow.provider import command_cleanup

    class Now(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return NOW

    monkeypatch.setattr(command_cleanup, "datetime", Now)
    gateway: Any = scene
    rows = asyncio.run(
        clean_up(gateway, SETTINGS, lambda launches, made: claims_by_instance(session, launches, NOW, made), yes=False)
    )
    assert {row.status.sandbox_id: (row.action, row.why) for row in rows} == {
        "sb-kept": ("keep", "the task is failed; kept until 2026-01-02 01:00:00 UTC (keep_on_failure)"),
        "sb-over": ("end", "the task is failed"),
        "sb-success": ("end", "the task is success"),
        "sb-strange": ("keep", command_cleanup.UNKNOWN),
    }


def test_kept_ones_are_known_by_tag_and_database_both(session: Any, scene: Listing) -> None:
    until = AN_HOUR_AGO + timedelta(hours=2)
    assert kept_of(session, scene.sandboxes, NOW) == [Kept(status=scene.sandboxes[0], failed_at=AN_HOUR_AGO, until=until)]


def test_the_shell_enters_a_kept_one_where_none_runs(session: Any) -> None:
    from datetime import UTC

    from airflow.models.taskinstance import TaskInstance

    session.query(TaskInstance).filter(TaskInstance.dag_id == "cleaned").delete()
    session.commit()
    now = datetime.now(UTC)
    ids = [launch_id() for _ in range(2)]
    failed = [instance(session, "failed", f"{one}/sb-1", now) for one in ids]
    listed = [kept_sandbox(f"sb-{n}", one, ti.id, try_number=n) for n, (one, ti) in enumerate(zip(ids, failed, strict=True), 1)]

    def found(sandboxes: Sequence[SandboxStatus], **which: Any) -> str:
        words = {"run_id": None, "map_index": None, "try_number": None, **which}
        return to_enter(session, Namespace(dag="cleaned", task="work", **words), lambda: sandboxes)

    assert found(listed[:1]) == "sb-1"
    assert found(listed, run_id="run-1", map_index=-1, try_number=2) == "sb-2"
    both = "--run-id run-1 --try-number 2, --run-id run-1 --try-number 1"
    either = "--run-id run-1 --try-number 1, --run-id run-1 --try-number 2"
    with pytest.raises(NoSandbox, match=f"^2 sandboxes of cleaned.work are kept; say which: ({both}|{either})$"):
        found(listed)
    with pytest.raises(
        NoSandbox, match=r"^no instance of cleaned\.work has a sandbox and runs, and no sandbox of a failed one is kept$"
    ):
        found([])
    instance(session, "running", f"{launch_id()}/sb-running")
    assert found(listed) == "sb-running", "what runs goes first"
    assert found(listed, try_number=2) == "sb-2"
