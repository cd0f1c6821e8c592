"""Whatever happens in whatever order: a launch ends once, gives its slot back once, and hands its workload to one sandbox."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from modalflow.launch import messages as m
from modalflow.launch.events import LaunchEnded
from modalflow.launch.gateway import (
    CapacityExhausted,
    EndKind,
    InvalidRequest,
    NameTaken,
    NotFound,
    RateLimited,
    SandboxEnd,
    SandboxStatus,
    Unavailable,
)
from modalflow.launch.lifecycle import Adoption, Lifecycle, Rules
from modalflow.launch.transitions import State
from modalflow.translation.result import Translation
from tests.launch.plans import CPU, CPU_STDIN, GPU, GPUS, LAUNCH, PATIENT, refused

MANY = 300
"""Steps within which every launch must have come to an end: silences are an hour each, so the limits strike early."""

ENDS = [SandboxEnd(kind=kind, exit_code=code) for kind in EndKind for code in (0, 1, 65, 137)]
ERRORS = [
    Unavailable("down"), Unavailable("down again"), RateLimited("slow", 3.0), CapacityExhausted("full"), NameTaken("taken"),
    NotFound("no"), InvalidRequest("bad"),
]  # fmt: skip
errors = st.sampled_from(ERRORS)
ends = st.sampled_from(ENDS)


KEPT = {"keep_on_failure": "600", "task_instance": "0199c5b2-0000-7a53-9d0c-000000000001"}


def statuses() -> st.SearchStrategy[SandboxStatus | None]:
    return st.none() | st.builds(
        SandboxStatus,
        sandbox_id=st.sampled_from(["sb-found"]),
        name=st.just(LAUNCH),
        tags=st.sampled_from([{}, KEPT, {"stop_grace": "30"}, {"stop_grace": "soon", "keep_on_failure": "soon"}]),
        end=st.none() | ends,
    )


_WORDS: list[m.Happening] = [
    m.SlotSlow(gpu="A10G", why="full"),
    m.SlotSlow(gpu=None, why="full"),
    m.QueuedLong(queued=480.0, limit=600.0, why=""),
]
"""Told of the time that a launch waits; they change nothing."""
_ASIDE = m.Revoked | m.CreateSlow | m.SlotGranted | m.SlotRefused | m.SlotSlow | m.QueuedLong


class World:
    """Plays driver and Modal: answers the step under way with anything that it can be answered with."""

    def __init__(self, data: st.DataObject) -> None:
        self.data = data
        adoption = data.draw(
            st.none() | st.builds(Adoption, sandbox_id=st.none() | st.just("sb-old"), can_relaunch=st.booleans()),
            label="adoption",
        )
        self.life = Lifecycle(LAUNCH, "key", Rules(create_timeout=120.0, retries=2, jitter=lambda: 0.5), adoption=adoption)
        self.plan = data.draw(st.sampled_from([CPU, CPU_STDIN, GPU, GPUS, PATIENT]), label="plan")
        self.now = 0.0
        self.step: m.Step | None = None
        self.wants_slot = False
        self.gpus: tuple[str, ...] = ()
        self.slots = 0
        self.ended: list[LaunchEnded] = []
        self.forgotten = 0
        self.revoked = False
        self.handed_over: set[str] = set()
        self.creates = 0
        self.tell(m.Listed(status=data.draw(statuses())) if adoption else m.Taken())

    @property
    def over(self) -> bool:
        return self.forgotten > 0

    def tell(self, happening: m.Happening) -> None:
        was_over = self.over
        self.step = None if not isinstance(happening, _ASIDE) else self.step
        commands = self.life.handle(happening, self.now)
        assert not (was_over and commands), "a command after the end"
        assert sum(isinstance(command, m.Step) for command in commands) <= 1, "two steps at once"
        for command in commands:
            self.perform(command)
        assert self.over == (self.life.state is State.ENDED)
        assert self.over or self.step is not None or self.wants_slot, "nothing is under way, and the launch has not ended"

    def perform(self, command: m.Command) -> None:
        match command:
            case m.RequestSlot(gpus=gpus):
                assert not self.wants_slot
                assert self.slots == 0, "a second slot is asked for"
                assert bool(gpus) == bool(self.plan.gpu_candidates)
                self.wants_slot, self.gpus = True, gpus
            case m.ReleaseSlot():
                self.slots -= 1
                assert self.slots == 0, "a slot was given back twice"
            case m.Emit(event=LaunchEnded() as event):
                self.ended.append(event)
                assert not self.revoked, "word of a revoked launch"
            case m.Emit() | m.WriteLog():
                pass
            case m.Keep(sandbox_id=sandbox_id):
                assert sandbox_id == self.life.sandbox_id, "a sandbox that is not the launch's is kept"
                self.handed_over.discard(sandbox_id)  # it runs on without its launch
            case m.Forget():
                self.forgotten += 1
            case _:
                self.step = command

    def answer(self) -> m.Happening:  # noqa: C901, PLR0911, PLR0912  one case per step
        draw = self.data.draw
        match self.step:
            case None:
                self.wants_slot = False
                if self.gpus and draw(st.integers(0, 9)) == 0:
                    return m.SlotRefused(gpus=self.gpus[:1], reason="more than max_gpus")
                self.slots += 1
                return m.SlotGranted(gpu=draw(st.sampled_from(self.gpus)) if self.gpus else None)
            case m.Translate():
                return m.Translated(translation=draw(st.sampled_from([Translation(plan=self.plan)] * 9 + [refused("no")])))
            case m.Prepare():
                return draw(st.sampled_from([m.Prepared()] * 4 + [m.PrepareFailed(error=error) for error in ERRORS[:3]]))
            case m.Create():
                self.creates += 1
                made = m.Created(sandbox_id=f"sb-{self.creates}")
                return draw(st.just(made) | st.just(m.CreateTimedOut()) | st.builds(m.CreateFailed, error=errors))
            case m.Find() | m.FindAttempts():
                return draw(st.builds(m.LookedUp, status=statuses()) | st.builds(m.LookupFailed, error=errors))
            case m.Check():
                return draw(st.builds(m.Checked, status=statuses()) | st.builds(m.CheckFailed, error=errors))
            case m.Terminate():
                return draw(st.just(m.Terminated()) | st.builds(m.TerminateFailed, error=errors))
            case m.AskToStop():
                return draw(st.just(m.AskedToStop()) | st.builds(m.AskFailed, error=errors))
            case m.AwaitEnd():
                return draw(st.just(m.GraceOver()) | st.builds(m.SandboxEnded, end=ends) | st.builds(m.WaitFailed, error=errors))
            case m.HandOver(sandbox_id=sandbox_id):
                happening = draw(st.just(m.HandedOver()) | st.builds(m.HandOverFailed, error=errors))
                if isinstance(happening, m.HandedOver):
                    self.handed_over.add(sandbox_id)
                return happening
            case m.Wait(kept_for=kept_for):
                told = st.builds(m.SandboxEnded, end=ends) | st.builds(m.WaitFailed, error=errors)
                return draw(told if kept_for is None else told | st.just(m.FailedAndKept()))
            case m.Recall():
                possible = draw(st.booleans())
                if possible:
                    self.handed_over.clear()  # Airflow says that the task has not begun
                return m.Recalled(possible=possible)
            case m.ReadTail():
                return m.TailRead(text="x")
            case m.Pause(seconds=seconds):
                self.now += seconds
                return m.PauseOver()

    def go_on(self) -> None:
        self.now += self.data.draw(st.sampled_from([0.0, 1.0, 1.0, 60.0, 3600.0]), label="seconds")
        side = self.data.draw(st.sampled_from(["answer"] * 8 + ["revoke", "break", "slow", "word"]), label="what")
        if side == "revoke":
            self.revoked = not self.ended
            self.wants_slot = False
            self.tell(m.Revoked(reason="cleared"))
        elif side == "slow":
            self.tell(m.CreateSlow(attempt=self.data.draw(st.integers(1, 3))))
        elif side == "word":
            self.tell(self.data.draw(st.sampled_from(_WORDS)))
        elif side == "break" and self.step is not None:
            self.tell(m.Broke(message="KeyError: 'x'"))
        else:
            self.tell(self.answer())


@given(st.data())
@settings(max_examples=400, deadline=None)
def test_a_launch_ends_once_and_gives_its_slot_back_once(data: st.DataObject) -> None:
    world = World(data)
    for _ in range(MANY):
        if world.over:
            break
        world.go_on()
    else:
        raise AssertionError(f"no end: {world.life.story()}")
    assert world.forgotten == 1
    assert len(world.ended) == (0 if world.revoked else 1)
    assert world.slots == 0
    assert len(world.handed_over) <= 1, "two sandboxes were given the workload"
    world.tell(m.Revoked(reason="late"))
