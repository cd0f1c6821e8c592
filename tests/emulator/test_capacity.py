"""The stock and the door of a workspace alone: who runs, who waits, who is refused."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modalflow.emulator.clock import Clock
from modalflow.emulator.state.admission import Admission, NoRoomError
from modalflow.emulator.state.capacity import Demand, Inventory
from modalflow.emulator.state.conditions import Conditions, ConditionsError, Weather
from modalflow.emulator.state.gpus import checked_request


def inventory(**conditions: object) -> Inventory:
    return Inventory(weather=Weather(Conditions(**conditions)))  # type: ignore[arg-type]


def gpu(name: str, count: int = 1) -> Demand:
    return Demand(gpu=checked_request(name, count))


def test_within_a_type_nobody_overtakes() -> None:
    stock = inventory(gpus={"H100": 2})
    assert stock.acquire("a", gpu("H100"))
    assert not stock.acquire("b", gpu("H100", 2))
    assert not stock.acquire("c", gpu("H100")), "one is free, but b came first"
    assert stock.release("a") == ["b"]
    assert stock.release("b") == ["c"]
    assert stock.release("nobody") == []


def test_leaving_the_queue_lets_the_next_one_start() -> None:
    stock = inventory(gpus={"H100": 2})
    assert stock.acquire("a", gpu("H100"))
    stock.acquire("b", gpu("H100", 2))
    stock.acquire("c", gpu("H100"))
    assert stock.release("b") == ["c"]


def test_a_type_that_is_not_in_stock_waits_and_holds_up_no_other() -> None:
    stock = inventory(gpus={"A10": 1}, cpus=1)
    assert not stock.acquire("a", gpu("T4"))
    assert stock.acquire("b", gpu("A10"))
    assert stock.acquire("c", Demand(milli_cpu=750))
    assert (stock.queued(), stock.lacking("a"), stock.members) == (["a"], ["T4"], 3)
    assert stock.used() == {"CPU": 875, "memory": 256, "A10": 1, "GPUs": 1}


def test_who_waits_for_a_cpu_is_not_overtaken_by_who_needs_less_of_it() -> None:
    stock = inventory(cpus=1, memory_mb=1024)
    assert stock.acquire("a", Demand(milli_cpu=500))
    assert not stock.acquire("b", Demand(milli_cpu=750))
    assert not stock.acquire("c", Demand(milli_cpu=125))
    assert not stock.acquire("d", Demand(milli_cpu=125, memory_mb=1000))
    assert stock.release("a") == ["b", "c"]
    assert stock.lacking("d") == ["memory"]


def test_a_change_of_the_stock_is_seen_at_the_next_look() -> None:
    weather = Weather(Conditions(gpus={}, max_gpus=2))
    stock = Inventory(weather=weather)
    assert not any(stock.acquire(name, gpu("H100")) for name in "abc")
    weather.change({"gpus": {"h100": 8}})
    assert stock.review() == ["a", "b"]
    assert stock.lacking("c") == ["GPUs"]
    weather.change({"gpus": None, "max_gpus": None})
    assert stock.review() == ["c"]
    weather.change({"gpus": {"H100": 1}})
    assert stock.release("a") == []
    assert not stock.acquire("d", gpu("H100"))


def test_a_place_where_nothing_is_to_be_had() -> None:
    stock = inventory(unavailable={"us-east", "aws"})
    assert not stock.acquire("a", Demand(regions=("us-east",)))
    assert not stock.acquire("b", Demand(cloud="aws"))
    assert stock.acquire("c", Demand(regions=("us-east", "eu-west")))
    assert stock.acquire("d", Demand(cloud="gcp"))
    assert stock.acquire("e", Demand())
    assert stock.lacking("a") == ["place"]


def test_who_may_be_preempted() -> None:
    assert gpu("T4").preemptible
    assert Demand(regions=("us",)).preemptible
    assert Demand(cloud="aws").preemptible
    assert not Demand().preemptible
    assert not Demand(cloud="auto").preemptible


@given(st.lists(st.tuples(st.integers(0, 9), st.booleans(), st.integers(1, 4), st.integers(1, 3)), max_size=60))
def test_never_more_is_held_than_there_is_and_the_first_in_line_waits_for_a_reason(
    steps: list[tuple[int, bool, int, int]],
) -> None:
    stock = inventory(gpus={"A10": 4}, cpus=3)
    running: dict[str, Demand] = {}
    waiting: dict[str, Demand] = {}

    def held() -> tuple[int, int]:
        devices = sum(one.gpu.count for one in running.values() if one.gpu)
        return devices, sum(one.milli_cpu for one in running.values())

    for number, arrives, count, cpus in steps:
        holder = str(number)
        if arrives and holder not in running | waiting:
            demand = Demand(gpu=checked_request("A10", count), milli_cpu=cpus * 1000)
            (running if stock.acquire(holder, demand) else waiting)[holder] = demand
        elif not arrives:
            running.pop(holder, None)
            waiting.pop(holder, None)
            for started in stock.release(holder):
                running[started] = waiting.pop(started)
        devices, milli_cpu = held()
        assert devices <= 4
        assert milli_cpu <= 3000
        assert stock.queued() == list(waiting)
        if waiting:
            first = next(iter(waiting.values()))
            assert first.gpu is not None
            assert devices + first.gpu.count > 4 or milli_cpu + first.milli_cpu > 3000


# -- the door


def admission(**conditions: object) -> tuple[Admission, Inventory, Clock]:
    weather, clock = Weather(Conditions(**conditions)), Clock(frozen=True)  # type: ignore[arg-type]
    return Admission(weather=weather, clock=clock), Inventory(weather=weather), clock


def admitted(door: Admission, stock: Inventory, times: int, *, v2: bool = True) -> int:
    count = 0
    for _ in range(times):
        with contextlib.suppress(NoRoomError):
            door.admit(Demand(), stock, v2=v2)
            count += 1
    return count


def test_creations_come_no_faster_than_the_rate_each_kind_for_itself() -> None:
    door, stock, clock = admission(create_rate_v1=5, create_rate_v2=20)
    assert admitted(door, stock, 30) == 20
    assert admitted(door, stock, 30, v2=False) == 5
    clock.advance(0.2)
    assert admitted(door, stock, 30) == 4
    assert admitted(door, stock, 30, v2=False) == 1
    clock.advance(3600)
    assert admitted(door, stock, 30) == 20


def test_a_burst_of_another_size_and_slow_rates() -> None:
    door, stock, clock = admission(create_rate_v2=0.5, create_burst=3)
    assert admitted(door, stock, 5) == 3
    clock.advance(2)
    assert admitted(door, stock, 5) == 1
    door, stock, _ = admission(create_rate_v2=0.5)
    assert admitted(door, stock, 5) == 1


def test_a_limit_of_sandboxes_counts_those_who_wait() -> None:
    door, stock, _ = admission(max_sandboxes=2, gpus={}, retry_after=3.0)
    stock.acquire("a", Demand())
    door.admit(Demand(), stock, v2=True)
    stock.acquire("b", gpu("T4"))
    with pytest.raises(NoRoomError, match="Sandbox limit reached: 2 may run at once in this workspace") as refused:
        door.admit(Demand(), stock, v2=True)
    assert refused.value.retry_after == 3.0


def test_who_may_not_wait_is_refused() -> None:
    door, stock, _ = admission(gpus={"T4": 1}, cpus=1, give_up={"*": 0, "H100": 10, "cpu": 0})
    door.admit(gpu("T4"), stock, v2=False)
    door.admit(gpu("H100"), stock, v2=False)
    for demand in (gpu("T4", 2), gpu("A10"), Demand(milli_cpu=2000)):
        with pytest.raises(NoRoomError, match="Insufficient capacity to create sandbox"):
            door.admit(demand, stock, v2=True)


# -- what cannot be


@pytest.mark.parametrize(
    ("conditions", "message"),
    [
        ({"cpus": -1}, "cpus: expected at least 0, got -1"),
        ({"memory_mb": -1}, "memory_mb: expected at least 0, got -1"),
        ({"max_gpus": -1}, "max_gpus: expected at least 0, got -1"),
        ({"create_rate_v2": 0}, "create_rate_v2: expected creations a second above 0, got 0"),
        ({"create_burst": 0}, "create_burst: expected at least 1, got 0"),
        (
            {"give_up": {"H10": 1}},
            "give_up: Unknown GPU type 'H10'; did you mean 'H100'?, '*' for any other GPU, 'cpu' for none",
        ),
        ({"give_up": {"T4": -1}}, "give_up: T4: expected at least 0, got -1"),
        (
            {"scheduling_delay": (2, 1)},
            "scheduling_delay: expected seconds of at least 0, or a lower and a higher bound; got [2, 1]",
        ),
        ({"preempt_after": -1}, "preempt_after: expected seconds of at least 0, or a lower and a higher bound; got -1"),
        ({"preempt_probability": 2}, "preempt_probability: expected a number from 0 to 1, got 2"),
    ],
)
def test_a_condition_that_cannot_be(conditions: dict[str, object], message: str) -> None:
    with pytest.raises(ConditionsError) as refused:
        Conditions(**conditions)  # type: ignore[arg-type]
    assert str(refused.value) == message
