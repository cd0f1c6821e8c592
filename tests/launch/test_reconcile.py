"""Which of several sandboxes of a launch counts, and that nobody else's is looked at."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modalflow.launch.gateway import EndKind, SandboxEnd, SandboxStatus, Unavailable
from modalflow.launch.reconcile import Choice, choose
from modalflow.launch.survey import Survey
from tests.launch.plans import LAUNCH
from tests.launch.scripted_gateway import ScriptedGateway

OURS = {"deployment": "airflow", "launch": LAUNCH}
ENDED = SandboxEnd(kind=EndKind.TERMINATED, exit_code=137)


def sandbox(attempt: int, *, ended: bool = False, waits: bool = False, tags: dict[str, str] = OURS) -> SandboxStatus:
    name = LAUNCH if attempt == 1 else f"{LAUNCH}.{attempt}"
    return SandboxStatus(sandbox_id=f"sb-{attempt}", name=name, tags=tags, end=ENDED if ended else None, waits=waits)


@pytest.mark.parametrize(
    ("statuses", "committed", "counts", "strays"),
    [
        ([sandbox(1)], None, 1, ()),
        ([sandbox(1, ended=True), sandbox(2)], None, 2, ()),
        ([sandbox(2), sandbox(1)], None, 2, ()),
        ([sandbox(2), sandbox(1, waits=True)], None, 2, ("sb-1",)),
        ([sandbox(3, waits=True), sandbox(1, waits=True)], None, 3, ("sb-1",)),
        ([sandbox(2), sandbox(1)], "sb-1", 1, ()),
        ([sandbox(2, ended=True), sandbox(1, ended=True)], "sb-1", 2, ()),
        ([sandbox(2, ended=True), sandbox(1)], None, 2, ()),
    ],
    ids=[
        "one", "an earlier one ended", "an earlier one runs still", "an earlier one is in line", "both in line",
        "the one that Airflow keeps runs", "all ended", "the latest ended",
    ],
)  # fmt: skip
def test_what_counts(statuses: list[SandboxStatus], committed: str | None, counts: int, strays: tuple[str, ...]) -> None:
    choice = choose(statuses, committed=committed)
    assert choice == Choice(
        status=next(s for s in statuses if s.sandbox_id == f"sb-{counts}"),
        attempt=max(int(s.sandbox_id[3:]) for s in statuses),
        strays=strays,
    )


def test_nothing_is_nothing() -> None:
    assert choose([], committed="sb-1") is None


@given(
    st.lists(st.builds(sandbox, st.integers(1, 5), ended=st.booleans(), waits=st.booleans()), unique_by=lambda s: s.sandbox_id),
    st.none() | st.sampled_from(["sb-1", "sb-3"]),
)
def test_what_counts_is_never_ended_as_a_stray(statuses: list[SandboxStatus], committed: str | None) -> None:
    choice = choose(statuses, committed=committed)
    if choice is None:
        assert not statuses
        return
    assert choice.status.sandbox_id not in choice.strays
    by_id = {status.sandbox_id: status for status in statuses}
    assert all(by_id[stray].waits and by_id[stray].end is None for stray in choice.strays), "only what has no machine is ended"


def run(scene: Coroutine[Any, Any, None]) -> None:
    asyncio.run(scene)


def survey_of(gateway: ScriptedGateway) -> tuple[Survey, list[asyncio.Task[None]]]:
    kept: list[asyncio.Task[None]] = []
    return Survey(lambda: gateway, "airflow", kept.append), kept


FOREIGN = [
    pytest.param({"deployment": "staging", "launch": LAUNCH}, id="another deployment with our launch id"),
    pytest.param({"deployment": "airflow", "launch": "0199c5b2-5f0e-7a53-9d0c-00000000000f"}, id="another launch"),
    pytest.param({"launch": LAUNCH}, id="no deployment"),
]


@pytest.mark.parametrize("tags", FOREIGN)
def test_what_lacks_one_of_our_two_tags_is_not_there(tags: dict[str, str]) -> None:
    gateway = ScriptedGateway(
        running=[sandbox(1, tags=tags)], attempts=[sandbox(1, tags=tags), sandbox(2, waits=True, tags=tags)]
    )

    async def scene() -> None:
        survey, kept = survey_of(gateway)
        assert await survey.running({LAUNCH: None}) == {}
        assert await survey.one(LAUNCH, None) is None
        assert survey.owns(LAUNCH, sandbox(1, tags=tags)) is None
        assert survey.owns(LAUNCH, sandbox(1)) == sandbox(1)
        assert kept == []

    run(scene())
    assert gateway.terminated == []


def test_requests_that_nobody_waits_for_are_ended_and_nothing_else() -> None:
    gateway = ScriptedGateway(running=[sandbox(3), sandbox(2, waits=True), sandbox(1)])

    async def scene() -> None:
        survey, kept = survey_of(gateway)
        assert (await survey.running({LAUNCH: None}))[LAUNCH].status == sandbox(3)
        await asyncio.gather(*kept)

    run(scene())
    assert gateway.terminated == ["sb-2"]


def test_a_listing_that_fails_says_nothing(caplog: pytest.LogCaptureFixture) -> None:
    class Away(ScriptedGateway):
        async def list_running(self, tags: object) -> list[SandboxStatus]:
            raise Unavailable("Modal does not answer")

    async def scene() -> None:
        survey, _ = survey_of(Away())
        assert await survey.running({LAUNCH: None}) == {}

    run(scene())
    assert caplog.messages == [
        "modalflow: cannot list running sandboxes, asking for each of 1 launches: Modal does not answer"
    ]  # fmt: skip
