"""Who may create when: slots, GPUs in flight, rates, priority. Times are told, nothing waits."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modalflow.launch.gpu_ledger import gpu_of_tag, gpu_tag
from modalflow.launch.pools import Limits, PoolGauges, Pools
from modalflow.translation.gpus.caps import GpuCaps, parse_gpu, read_gpu_caps


def pools(
    *, slots: int = 2, total: int | None = None, cpu_rate: float | None = None, gpu_rate: float | None = None, **models: int
) -> Pools:
    caps = GpuCaps(total=total, models=models)
    return Pools(Limits(cpu_slots=slots, cpu_rate=cpu_rate, gpu_rate=gpu_rate, gpus=caps))


def ask(line: Pools, name: str, *gpus: str, priority: int = 0) -> None:
    assert line.ask(name, priority=priority, gpus=gpus) is None


def granted(line: Pools, now: float = 0.0) -> list[str]:
    """Names of those whose turn it is, with the GPU where it is one: ``a``, ``b H100``."""
    return [f"{grant.launch_id} {grant.gpu or ''}".strip() for grant in line.grants(now)]


class TestCpu:
    def test_as_many_as_there_are_slots_the_most_urgent_first_and_equals_as_they_came(self) -> None:
        line = pools()
        for name, priority in [("a", 1), ("b", 9), ("c", 5), ("d", 5)]:
            ask(line, name, priority=priority)
        assert granted(line) == ["b", "c"]
        assert line.why("d", 0.0) == "2 other creates are under way ([modal_executor] launch_concurrency)"
        line.release("b")
        assert granted(line) == ["d"]
        line.release("c")
        line.release("c")
        assert granted(line) == ["a"], "given back twice, it is free once"
        assert line.cpu_creates == 2

    def test_one_that_comes_back_has_its_old_place(self) -> None:
        line = pools(slots=1)
        for name in ("a", "b", "c"):
            ask(line, name)
        assert granted(line) == ["a"]
        line.refused("a", 0.0, None)
        line.release("a")
        ask(line, "a")
        assert granted(line, 10.0) == ["a"]

    def test_one_that_is_forgotten_leaves_the_line_and_gives_back_its_slot(self) -> None:
        line = pools(slots=1)
        for name in ("a", "b", "c"):
            ask(line, name)
        assert granted(line) == ["a"]
        line.forget("b")
        line.forget("a")
        assert granted(line) == ["c"]

    def test_the_rate_is_kept_and_the_next_look_is_known(self) -> None:
        line = pools(slots=10, cpu_rate=2.0)
        for number in range(4):
            ask(line, str(number))
        assert granted(line) == ["0", "1"]
        assert line.next_look(0.0) == pytest.approx(0.5)
        assert line.why("2", 0.0) == "2 creates a second are made ([modal_executor] cpu_create_rate)"
        assert granted(line, 0.4) == []
        assert granted(line, 0.6) == ["2"]
        assert granted(line, 5.0) == ["3"]
        assert line.next_look(5.0) is None

    def test_refusals_slow_the_line_and_acceptances_bring_it_back(self) -> None:
        line = pools(slots=100, cpu_rate=20.0)
        for number in range(30):
            ask(line, str(number))
        assert len(granted(line)) == 20
        for number in range(20):
            line.refused(str(number), 0.0, 3.0)
        assert line.next_look(0.0) == 3.0
        assert line.why("25", 0.0) == "Modal refuses more creates for now; 10 a second are tried"
        assert line.gauges().cpu_rate == 10.0
        for number in range(20):
            line.accepted(str(number))
        assert line.gauges().cpu_rate == pytest.approx(14.0)

    def test_full_slots_need_no_look_before_one_is_given_back(self) -> None:
        line = pools(slots=1, cpu_rate=1.0)
        ask(line, "a")
        ask(line, "b")
        assert granted(line) == ["a"]
        assert line.next_look(0.0) is None


class TestGpus:
    def test_without_caps_all_go_at_once_and_take_no_cpu_slot(self) -> None:
        line = pools(slots=1)
        for number in range(100):
            ask(line, str(number), "H100:8")
        ask(line, "cpu")
        assert len(granted(line)) == 101

    def test_a_cpu_create_never_waits_behind_a_gpu(self) -> None:
        line = pools(total=0, slots=1, gpu_rate=0.001)
        assert line.ask("never", priority=9, gpus=("L4",)) is not None
        line = pools(total=1, slots=1, gpu_rate=0.001)
        for number in range(50):
            ask(line, str(number), "L4", priority=9)
        ask(line, "cpu", priority=0)
        assert granted(line) == ["cpu", "0 L4"]

    def test_the_cap_holds_from_the_grant_to_the_release(self) -> None:
        line = pools(total=3)
        for name, gpu in [("a", "H100:2"), ("b", "L4"), ("c", "T4")]:
            ask(line, name, gpu)
        assert granted(line) == ["a H100:2", "b L4"]
        line.accepted("a")
        assert granted(line) == []
        assert line.why("c", 0.0) == "3 of 3 GPUs are in flight ([modal_executor] max_gpus)"
        assert line.next_look(0.0) is None
        line.release("b")
        assert granted(line) == ["c T4"]

    def test_a_model_that_is_full_is_passed_over_for_the_next_candidate(self) -> None:
        line = pools(H100=1)
        ask(line, "a", "H100", "A100-80GB")
        ask(line, "b", "H100", "A100-80GB")
        ask(line, "c", "H100")
        assert granted(line) == ["a H100", "b A100-80GB"]
        assert line.why("c", 0.0) == "1 of 1 H100 are in flight ([modal_executor] max_gpus)"

    def test_spellings_of_one_model_are_counted_together(self) -> None:
        line = pools(A10=2, H100=1)
        for name, gpu in [("a", "A10G"), ("b", "a10"), ("c", "A10:1"), ("d", "H100!"), ("e", "H100")]:
            ask(line, name, gpu)
        assert granted(line) == ["a A10G", "b a10", "d H100!"]

    def test_many_at_once_are_got_in_the_end(self) -> None:
        """Those behind that need what the first lacks wait; those that need something else do not."""
        line = pools(H100=8, total=20)
        for number in range(4):
            ask(line, f"small{number}", "H100:2")
        assert len(granted(line)) == 4
        ask(line, "eight", "H100:8", priority=5)
        for number in range(4, 8):
            ask(line, f"small{number}", "H100:2")
        ask(line, "other", "L4")
        for number in range(4):
            line.release(f"small{number}")
            assert granted(line) == (["eight H100:8"] if number == 3 else ["other L4"] if number == 0 else [])

    def test_short_of_the_total_everybody_behind_waits(self) -> None:
        line = pools(total=8)
        ask(line, "a", "L4")
        assert granted(line) == ["a L4"]
        ask(line, "eight", "H100:8", priority=5)
        ask(line, "b", "L4")
        assert granted(line) == []
        line.release("a")
        assert granted(line) == ["eight H100:8"]

    def test_more_than_a_cap_is_refused_with_what_to_do(self) -> None:
        line = pools(total=16, H100=4)
        assert line.ask("a", priority=0, gpus=("H100:8", "B200:32")) == (
            "the task asks for more GPUs than [modal_executor] max_gpus allows: H100:8 (at most 4), B200:32 (at most 16); "
            "ask for fewer, or raise max_gpus"
        )
        ask(line, "b", "H100:8", "A100-80GB:8")
        assert granted(line) == ["b A100-80GB:8"]

    def test_gpus_of_an_earlier_scheduler_count_and_none_is_granted_before_they_are_known(self) -> None:
        line = pools(total=2)
        line.listing(begins=True)
        ask(line, "a", "L4")
        ask(line, "cpu")
        assert granted(line) == ["cpu"]
        assert line.why("a", 0.0) == "the GPUs that an earlier scheduler's tasks hold are being counted"
        line.count("old", "H100:2")
        line.listing(begins=False)
        assert granted(line) == []
        assert line.gauges() == PoolGauges(
            cpu_slots=2, cpu_creates=1, gpus={"H100": 2}, waiting={"L4": 1}, cpu_rate=None, gpu_rate=None
        )
        line.forget("old")
        assert granted(line) == ["a L4"]

    def test_a_sandbox_taken_over_does_not_bar_its_own_successor(self) -> None:
        line = pools(total=1)
        line.count("a", "H100:1")
        ask(line, "a", "H100:1")
        assert granted(line) == ["a H100:1"]

    def test_gpus_of_other_schedulers_count_as_they_were_last_seen(self) -> None:
        line = pools(total=4, H100=2)
        line.see_elsewhere({"x": "H100:1", "y": "A10:2"})
        ask(line, "a", "H100:2")
        ask(line, "b", "H100")
        assert granted(line) == []
        assert line.why("a", 0.0) == "1 of 2 H100 are in flight ([modal_executor] max_gpus)"
        line.see_elsewhere({"y": "A10:2"})
        assert granted(line) == ["a H100:2"]
        line.see_elsewhere({"a": "H100:2", "y": "A10:2"})
        assert line.why("b", 0.0) == "2 of 2 H100 are in flight ([modal_executor] max_gpus)", "one's own is not counted twice"
        line.release("a")
        assert granted(line) == ["b H100"]

    def test_one_that_is_taken_over_is_no_longer_another_schedulers(self) -> None:
        line = pools(H100=2)
        line.see_elsewhere({"x": "H100:1"})
        line.count("x", "H100:1")
        ask(line, "a", "H100")
        assert granted(line) == ["a H100"]
        line.release("x")
        ask(line, "b", "H100")
        assert granted(line) == ["b H100"]

    def test_without_caps_a_listing_holds_nobody_up(self) -> None:
        line = pools()
        line.listing(begins=True)
        ask(line, "a", "L4")
        assert granted(line) == ["a L4"]

    def test_the_gpu_rate_is_its_own(self) -> None:
        line = pools(slots=100, cpu_rate=20.0, gpu_rate=1.0)
        for number in range(3):
            ask(line, f"g{number}", "L4")
            ask(line, f"c{number}")
        assert granted(line) == ["c0", "c1", "c2", "g0 L4"]
        assert line.why("g1", 0.0) == "1 creates a second are made ([modal_executor] gpu_create_rate)"
        line.refused("g0", 0.0, None)
        assert (line.gauges().cpu_rate, line.gauges().gpu_rate) == (20.0, 0.5)

    def test_in_words(self) -> None:
        line = pools(slots=3)
        for name, gpu in [("a", "H100:2"), ("b", "A10G")]:
            ask(line, name, gpu)
        ask(line, "c")
        granted(line)
        assert line.in_words() == "2 of 3 CPU slots free; GPUs in flight: 1 A10, 2 H100"


MODELS = ["T4", "L4", "A10G", "H100", "H100:2", "H100:8", "L4:4"]
STORIES = st.lists(
    st.tuples(
        st.sampled_from(["ask", "release", "forget", "look", "refuse", "count"]),
        st.integers(0, 11),
        st.integers(0, 3),
        st.lists(st.sampled_from(MODELS), max_size=3, unique=True),
    ),
    max_size=120,
)


class Site:
    """Lines with claims of known priority, and what each holds; every look is checked."""

    def __init__(self) -> None:
        caps = GpuCaps(total=9, models={"H100": 8, "L4": 4})
        self.line = Pools(Limits(cpu_slots=3, cpu_rate=50.0, gpu_rate=20.0, gpus=caps))
        self.priorities: dict[str, int] = {}
        self.held: dict[str, str | None] = {}
        self.waiting: dict[str, tuple[str, ...]] = {}
        self.counted: set[str] = set()
        self.now = 0.0

    def act(self, what: str, name: str, priority: int, gpus: tuple[str, ...]) -> None:
        match what:
            case "ask" if name not in self.held and name not in self.waiting:
                self.priorities.setdefault(name, priority)
                ask(self.line, name, *gpus, priority=priority)
                self.waiting[name] = gpus
            case "release":
                self.release(name)
            case "forget":
                self.line.forget(name)
                for kept in (self.held, self.waiting, self.priorities):
                    kept.pop(name, None)
            case "refuse":
                self.line.refused(name, self.now, None)
            case "count":
                self.line.count(f"old {name}", "H100:8")
                self.counted.add(f"old {name}")

    def release(self, name: str) -> None:
        self.line.release(name)
        self.held.pop(name, None)

    def look(self) -> None:
        for grant in self.line.grants(self.now):
            gpus = self.waiting.pop(grant.launch_id)
            assert grant.gpu in gpus if gpus else grant.gpu is None
            equals = [name for name, same in self.waiting.items() if same == gpus]
            assert all(self.priorities[name] <= self.priorities[grant.launch_id] for name in equals), "a more urgent equal waits"
            self.held[grant.launch_id] = grant.gpu
        assert sum(gpu is None for gpu in self.held.values()) <= 3
        if not self.counted:
            gpus_held = [parse_gpu(gpu) for gpu in self.held.values() if gpu]
            for model, cap in [("H100", 8), ("L4", 4), ("", 9)]:
                assert sum(count for other, count in gpus_held if model in ("", other)) <= cap


@given(STORIES)
def test_nothing_is_exceeded_nobody_is_passed_over_and_all_get_their_turn(story: list[tuple[str, int, int, list[str]]]) -> None:
    """Random claims and returns: caps hold at each instant, a more urgent equal goes first, in the end the lines are empty."""
    site = Site()
    for what, number, priority, gpus in story:
        site.now += 0.05
        site.act(what, f"l{number}", priority, tuple(gpus))
        site.look()
    for name in site.counted:
        site.line.forget(name)
    for _ in range(200):
        for name in list(site.held):
            site.release(name)
        site.now += 10.0
        site.look()
    assert site.waiting == {}
    assert site.line.next_look(site.now) is None


class TestCaps:
    @pytest.mark.parametrize(
        ("text", "caps"),
        [
            ("16", GpuCaps(total=16)),
            ("0", GpuCaps(total=0)),
            ('{"*": 16, "H100": 8}', GpuCaps(total=16, models={"H100": 8})),
            ('{"a10g": 4}', GpuCaps(models={"A10": 4})),
            ("{}", GpuCaps()),
        ],
    )
    def test_what_the_option_says(self, text: str, caps: GpuCaps) -> None:
        assert read_gpu_caps(text) == caps

    @pytest.mark.parametrize(
        "text", ["", "many", "-1", "1.5", "true", "[4]", '{"V100": 1}', '{"H100": "8"}', '{"H100": -1}', "null"]
    )
    def test_anything_else_is_refused(self, text: str) -> None:
        with pytest.raises(ValueError, match=r".*"):
            read_gpu_caps(text)

    @pytest.mark.parametrize(
        ("gpu", "tag", "counted"),
        [
            ("A10G", "A10.1", "A10:1"),
            ("H100!:2", "H100.2", "H100:2"),
            ("B200+:8", "B200.8", "B200:8"),
            ("A100-80GB:4", "A100-80GB.4", "A100-80GB:4"),
            ("RTX-PRO-6000", "RTX-PRO-6000.1", "RTX-PRO-6000:1"),
        ],
    )
    def test_a_tag_says_model_and_number(self, gpu: str, tag: str, counted: str) -> None:
        assert gpu_tag(gpu) == tag
        assert gpu_of_tag(tag) == counted

    @pytest.mark.parametrize("text", ["", "A10", "gpu", ".2", "A10.", "A10.x", "A10.²"])
    def test_other_tags_say_nothing(self, text: str) -> None:
        assert gpu_of_tag(text) is None
