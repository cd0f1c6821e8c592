"""The account that the loop keeps of its launches, and what observers are told."""

from __future__ import annotations

import asyncio
import logging

import pytest

from modalflow.launch import messages as m
from modalflow.launch import sights as module
from modalflow.launch.backend import LaunchBackend
from modalflow.launch.events import LaunchEvent, LaunchStarted
from modalflow.launch.failures import FailureClass
from modalflow.launch.gateway import CapacityExhausted, EndKind, InvalidRequest, SandboxEnd, SandboxStatus
from modalflow.launch.gpu_ledger import gpu_tag
from modalflow.launch.lifecycle import Adoption
from modalflow.launch.observe import Ended, Gauges
from modalflow.launch.price_tags import micro_usd_hours, price_tags, read_price_tags
from modalflow.launch.sights import Sights
from modalflow.launch.transitions import State
from modalflow.settings import LaunchSettings
from modalflow.translation.result import Translation
from tests.launch.onlooker import Onlooker, Watched
from tests.launch.plans import CPU, GPU, GPUS, LAUNCH, request
from tests.launch.scripted_gateway import ScriptedGateway, until

SUCCESS = SandboxEnd(kind=EndKind.SUCCESS, exit_code=0)
NO_IMAGE = "no such image; correct executor_config or the [modal_executor] options"
NOBODY_IN_STATE: dict[State, int] = dict.fromkeys((state for state in State if state is not State.ENDED), 0)


def start_gpu(watched: Watched) -> None:
    """From acceptance to running: 0.5 s in line, 2 s of image, 11 s for an A10G, 0.25 s of hand-over."""
    watched.step(m.Taken(), after=0.5)
    watched.step(m.Translated(translation=Translation(plan=GPU)))
    watched.step(m.Prepared(), after=2.0)
    watched.step(m.SlotGranted(gpu="A10G"))
    watched.step(m.Created(sandbox_id="sb-1"), after=11.0)
    watched.step(m.HandedOver(), after=0.25)


def test_a_gpu_launch_is_told_by_phase_and_its_cost_at_its_end() -> None:
    onlooker = Onlooker()
    watched = Watched(onlooker, trace={"traceparent": "00-a-b-01"})
    start_gpu(watched)
    price = micro_usd_hours(GPU)["A10G"]
    running = watched.sights.gauges()
    watched.step(m.SandboxEnded(end=SUCCESS), after=1800.0)

    assert onlooker.traces == [{"traceparent": "00-a-b-01"}]
    assert [told for told in onlooker.told if isinstance(told, tuple) and told[1]][:-1] == [
        ("accepted", 0.5, None),
        ("preparing", 2.0, "A10G"),
        ("launching", 11.0, "A10G"),
        ("handing over", 0.25, "A10G"),
    ]
    assert ("started", 13.75, 11.0, "A10G", price) in onlooker.told
    assert onlooker.told[-1] == Ended(outcome="success", reason="", ran=1800.0, micro_usd=round(price / 2))
    assert running == Gauges(
        states={**NOBODY_IN_STATE, State.RUNNING: 1},
        gpus_waiting={"A10": 0},
        gpus_running={"A10": 1},
        micro_usd_hour=price,
        loop_lag=0.0,
    )
    over = watched.sights.gauges()
    assert (over.states, over.gpus_running, over.micro_usd_hour) == (NOBODY_IN_STATE, {"A10": 0}, 0)


def test_the_start_is_one_sentence() -> None:
    watched = Watched(Onlooker())
    start_gpu(watched)
    (started,) = (c.event for c in watched.commands if isinstance(c, m.Emit) and isinstance(c.event, LaunchStarted))
    assert started.told == (
        "sandbox sb-1 has its task on A10G after 13.8 s: waiting for its turn 0.5 s, App and image 2.0 s, creation 11.0 s, "
        "hand-over 0.2 s"
    )
    assert watched.track.phases == {}, "a launch that runs for hours keeps nothing of its start"


def test_gpus_that_are_waited_for_are_counted_by_model_and_number() -> None:
    watched = Watched(Onlooker())
    watched.step(m.Taken())
    watched.step(m.Translated(translation=Translation(plan=GPUS)))
    watched.step(m.Prepared())
    assert watched.sights.gauges().gpus_waiting == {"H100": 2}
    watched.step(m.SlotGranted(gpu="H100:2"))
    watched.step(m.CreateFailed(error=CapacityExhausted("none")), after=5.0)
    watched.step(m.SlotGranted(gpu="A100-80GB:2"))
    assert watched.sights.gauges().gpus_waiting == {"H100": 0, "A100-80GB": 2}


def test_a_failure_is_told_with_its_class_and_costs_nothing_if_nothing_ran() -> None:
    onlooker = Onlooker()
    watched = Watched(onlooker)
    watched.step(m.Taken())
    watched.step(m.Translated(translation=Translation(plan=CPU)))
    watched.step(m.PrepareFailed(error=InvalidRequest("no such image")), after=1.0)
    assert onlooker.told[-1] == Ended(outcome=str(FailureClass.REFUSED), reason=NO_IMAGE, ran=0.0, micro_usd=0)
    assert watched.sights.gauges().states == NOBODY_IN_STATE


def test_a_launch_that_airflow_takes_back_ends_as_revoked() -> None:
    onlooker = Onlooker()
    watched = Watched(onlooker)
    watched.step(m.Revoked(reason="cleared"), after=1.0)
    assert onlooker.told[-1] == Ended(outcome="revoked", reason="", ran=0.0, micro_usd=0)
    watched.step(m.Revoked(reason="again"))
    assert len([told for told in onlooker.told if isinstance(told, Ended)]) == 1


def test_what_another_scheduler_s_sandbox_costs_is_read_from_its_tags() -> None:
    onlooker = Onlooker()
    watched = Watched(onlooker, adoption=Adoption(sandbox_id="sb-1", can_relaunch=False))
    tags = {"gpu": gpu_tag("H100:2"), **price_tags(GPUS, "H100:2")}
    watched.step(m.Listed(status=SandboxStatus(sandbox_id="sb-1", name=LAUNCH, tags=tags)))
    assert watched.sights.gauges().gpus_running == {"H100": 2}
    watched.step(m.SandboxEnded(end=SUCCESS), after=3600.0)
    ended = onlooker.told[-1]
    assert isinstance(ended, Ended)
    assert ended.micro_usd == pytest.approx(micro_usd_hours(GPUS)["H100:2"], abs=100)


@pytest.mark.parametrize(
    ("tags", "read"),
    [
        ({}, (None, 0)),
        ({"gpu": "A10G.1", "usd_hour": "1.5"}, ("A10G:1", 1_500_000)),
        ({"gpu": "H100.8", "usd_hour": "31.6"}, ("H100:8", 31_600_000)),
        ({"usd_hour": "0.0123"}, (None, 12_300)),
        ({"gpu": "mine", "usd_hour": "cheap"}, (None, 0)),
        ({"usd_hour": "NaN"}, (None, 0)),
        ({"usd_hour": "1e400"}, (None, 0)),
        ({"usd_hour": "1e999999"}, (None, 0)),
        ({"usd_hour": "-1"}, (None, 0)),
    ],
)  # fmt: skip
def test_price_tags_are_read_whatever_they_hold(tags: dict[str, str], read: tuple[str | None, int]) -> None:
    assert read_price_tags(tags) == read


def test_an_observer_that_breaks_costs_no_launch(caplog: pytest.LogCaptureFixture) -> None:
    gateway = ScriptedGateway()
    backend = LaunchBackend(
        lambda: gateway, LaunchSettings(), ["python"], lambda _path, _line: None, observer=Onlooker(breaks=True)
    )  # fmt: skip
    events: list[LaunchEvent] = []

    def both() -> bool:
        events.extend(backend.drain())
        return len(events) == 2

    backend.start()
    backend.submit(request())
    backend.submit(request("0199c5b2-5f0e-7a53-9d0c-6c8a3f7f5b12"))
    until(both, "both launches started")
    backend.stop(5.0)
    assert caplog.text.count("an observer of launches failed") == 1


def test_the_loop_s_lag_is_the_longest_of_a_period(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LAG_EVERY", 0.0)
    monkeypatch.setattr(module, "LOOKS", 2)
    onlooker = Onlooker()

    class Late(asyncio.SelectorEventLoop):
        """Each look at its clock is a second later."""

        clock = 0.0

        def time(self) -> float:
            self.clock += 1.0
            return self.clock

    async def main() -> None:
        sights = Sights(onlooker, clock=lambda: 0.0)
        sights.start()
        while not onlooker.gauges:  # noqa: ASYNC110 - turns of the loop are what is counted
            await asyncio.sleep(0)
        sights.stop()

    with asyncio.Runner(loop_factory=Late) as runner:
        runner.run(main())
    assert onlooker.gauges[0].loop_lag > 0.0
    assert onlooker.told == ["closed"]


def test_nothing_of_it_is_logged_by_default(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, logger="modalflow.launch.sights"):
        start_gpu(Watched(Onlooker()))
    assert caplog.records == []
