"""Which relays there should be and which a task is given, by tables and by laws."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modalflow.relay.policy import RULES, SLOTS, Mark, Seen, addresses, decide, for_task, must_tell, read_mark

NOW = 1_800_000_000.0
HOUR = 3600.0


def relay(left: float, slot: str = "a", **changes: object) -> Seen:
    """A relay that Modal ends in ``left`` seconds."""
    mark = Mark(number=f"{abs(hash((left, slot))):024x}"[-24:], until=int(NOW + left), ssh_port=1, task_port=2)
    told: dict[str, object] = {"serving": True, "address": f"{slot}:{left:g}", **changes}
    return Seen(mark=mark, slot=slot, sandbox_id=f"sb-{slot}", **told)  # type: ignore[arg-type]


LOST = NOW - RULES.given_up


@pytest.mark.parametrize(
    ("seen", "start"),
    [
        pytest.param([], ("a", "b"), id="the first"),
        pytest.param([relay(20 * HOUR)], (), id="one that serves"),
        pytest.param([relay(20 * HOUR, serving=False)], (), id="one that starts"),
        pytest.param([relay(3 * HOUR)], ("b",), id="one that comes to its end"),
        pytest.param([relay(3 * HOUR, "b")], ("a",), id="a second one that comes to its end"),
        pytest.param([relay(3 * HOUR), relay(23 * HOUR, "b")], (), id="its successor is there"),
        pytest.param([relay(20 * HOUR, unreached=LOST)], ("b",), id="one that is lost"),
        pytest.param([relay(20 * HOUR, unreached=LOST + 1)], (), id="one that may come back"),
        pytest.param([relay(20 * HOUR, "a", unreached=LOST), relay(20 * HOUR, "b", unreached=LOST)], (), id="no slot is free"),
    ],
)
def test_a_relay_is_started_where_none_will_do(seen: list[Seen], start: tuple[str, ...]) -> None:
    assert decide(seen, NOW).start == start


def test_the_elder_is_left_only_when_sandboxes_have_heard_of_its_successor() -> None:
    elder, successor = relay(3 * HOUR), relay(RULES.life - RULES.overlap + 1, "b")
    both = frozenset({elder.mark.number, successor.mark.number})
    assert decide([elder, successor], NOW).attach == both
    assert decide([elder, successor], NOW + 2).attach == {successor.mark.number}
    unserved = relay(RULES.life - RULES.overlap + 1, "b", serving=False)
    assert decide([elder, unserved], NOW + 2).attach == both


@pytest.mark.parametrize(
    ("timeout", "given"),
    [
        pytest.param(HOUR, ["a:7200", "b:82800"], id="a short task keeps to the relay that outlives it and ends first"),
        pytest.param(5 * HOUR, ["b:82800", "a:7200"], id="a longer one to the other"),
        pytest.param(24 * HOUR, ["b:82800", "a:7200"], id="the longest begins with the longest-lived"),
    ],
)
def test_a_task_is_given_a_relay_that_outlives_it(timeout: float, given: list[str]) -> None:
    seen = [relay(2 * HOUR), relay(23 * HOUR, "b")]
    assert [one.address for one in for_task(seen, NOW, timeout)] == given


def test_of_two_that_will_do_all_schedulers_keep_the_same() -> None:
    old, new = relay(20 * HOUR), relay(21 * HOUR, "b")
    assert decide([old, new], NOW).attach == decide([new, old], NOW).attach == {new.mark.number}


def test_relays_that_do_not_serve_or_have_ended_are_given_to_nobody() -> None:
    assert for_task([relay(HOUR, serving=False), relay(-1, "b")], NOW, 60) == ()
    assert addresses([relay(HOUR, serving=False), relay(-1, "b")], NOW) == ()


def test_sandboxes_that_run_are_led_away_from_a_relay_near_its_end() -> None:
    assert addresses([relay(HOUR), relay(20 * HOUR, "b")], NOW) == ("b:72000", "a:3600")


def test_sandboxes_are_told_of_a_new_relay_only_where_they_cannot_ask_an_elder() -> None:
    new = relay(RULES.life - 5, "b")
    assert must_tell(new, [new], NOW)
    assert must_tell(new, [relay(3 * HOUR, serving=False), new], NOW), "the elder leads to nobody"
    assert not must_tell(new, [relay(3 * HOUR), new], NOW), "a planned successor"
    assert not must_tell(relay(20 * HOUR), [], NOW), "known since long"


SEEN = st.builds(
    relay,
    left=st.floats(-1000, 90_000),
    slot=st.sampled_from(SLOTS),
    serving=st.booleans(),
    unreached=st.none() | st.floats(NOW - 200, NOW),
)


@given(st.lists(SEEN, max_size=2, unique_by=lambda one: one.slot))
def test_there_is_always_a_relay_or_one_is_started(seen: list[Seen]) -> None:
    decision = decide(seen, NOW)
    living = [one for one in seen if one.mark.until - NOW > RULES.renew and (one.unreached or NOW) > LOST]
    assert bool(decision.start) != bool(living) or len(seen) == len(SLOTS)
    assert not set(decision.start) & {one.slot for one in seen}
    assert not living or {one.mark.number for one in living} & decision.attach, "the last that will do is not let go"


@given(st.lists(SEEN, max_size=2, unique_by=lambda one: one.slot), st.floats(1, 86_400))
def test_a_task_is_given_all_that_serve_and_first_one_that_outlives_it(seen: list[Seen], timeout: float) -> None:
    given_to = for_task(seen, NOW, timeout)
    serving = [one for one in seen if one.serving and one.mark.until > NOW]
    assert sorted(given_to, key=id) == sorted(serving, key=id)
    if any(one.mark.until - NOW >= timeout for one in serving):
        assert given_to[0].mark.until - NOW >= timeout


@given(st.text("0123456789abcdef", min_size=24, max_size=24), st.integers(10**9, 10**11 - 1), st.integers(0, 65535))
def test_a_mark_reads_back_and_fits_a_tag(number: str, until: int, port: int) -> None:
    mark = Mark(number=number, until=until, ssh_port=port, task_port=port)
    assert read_mark(str(mark)) == mark
    assert len(str(mark)) <= 63


@pytest.mark.parametrize("text", ["", "x", "0" * 24 + ".1.1.1", "0" * 24 + ".1800000000.1", "0" * 24 + ".1800000000.1.1 "])
def test_other_tags_are_no_marks(text: str) -> None:
    assert read_mark(text) is None
