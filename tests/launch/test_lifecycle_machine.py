"""Many launches of several tasks, in a world that tells the truth but for faults: Airflow's rows, Modal's sandboxes, a scheduler.

``test_lifecycle_laws`` answers one launch with anything at all. Here the answers fit together, so what matters to the user can be
held: no task is lost, no success is told of a task that did not begin, no sandbox with a workload outlives its launch, and the
end of a launch that a newer one has replaced is discarded. Whatever the order of creates, lost and late answers, hand-overs,
ends, deferrals, retries, revocations, crashes of the scheduler and adoptions.

One assumption, which no control plane can do without: a create that was sent does not arrive after another one of the same name
was carried out, nor after its launch has looked for it for a minute.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field

from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from modalflow.executor.launch_table import LaunchTable
from modalflow.launch import messages as m
from modalflow.launch.events import LaunchEnded, LaunchStarted
from modalflow.launch.exit_codes import EXIT_NO_WORKLOAD, EXIT_START_REFUSED
from modalflow.launch.gateway import EndKind, NameTaken, NotFound, RateLimited, SandboxEnd, SandboxStatus, Unavailable
from modalflow.launch.identity import attempt_name, parse_attempt_name
from modalflow.launch.lifecycle import Adoption, Lifecycle, Rules
from modalflow.launch.reconcile import choose
from modalflow.launch.transitions import State
from modalflow.translation.plan import SandboxPlan
from modalflow.translation.result import Translation
from tests.launch.plans import CPU, CPU_STDIN, GPU, PATIENT

SUCCESS = SandboxEnd(kind=EndKind.SUCCESS, exit_code=0)
REFUSED = SandboxEnd(kind=EndKind.FAILURE, exit_code=EXIT_START_REFUSED)
NO_WORKLOAD = SandboxEnd(kind=EndKind.FAILURE, exit_code=EXIT_NO_WORKLOAD)
EVICTED = SandboxEnd(kind=EndKind.EVICTED, exit_code=137)
TERMINATED = SandboxEnd(kind=EndKind.TERMINATED, exit_code=137)
RULES = Rules(create_timeout=120.0, retries=2, jitter=lambda: 0.5, infra_retries=2)
DOWN = Unavailable("down")
PLANS = {"secret": CPU, "stdin": CPU_STDIN, "gpu": GPU, "time to stop": PATIENT}
LATEST = 50.0
"""Seconds after which a create that was not answered arrives, at most."""
QUICK = (Phase.explicit, Phase.reuse, Phase.generate)
"""Without shrinking: that takes minutes, and a launch's story tells enough."""
ENOUGH = 2000
"""Steps within which everything that is under way must come to its end once nothing is disturbed any more."""


@dataclass(eq=False)
class Row:
    """One task instance as Airflow keeps it."""

    plan: SandboxPlan = field(repr=False)
    state: str = "scheduled"
    attempt: int = 1
    launch_id: str = ""
    sandbox_id: str | None = None


@dataclass(eq=False)
class Box:
    """One sandbox."""

    sandbox_id: str
    name: str
    launch_id: str
    row: Row
    has_workload: bool
    attempt: int
    """The try whose workload it has."""
    begun: bool = False
    leaving: bool = False
    """Its task is over or deferred; the process is about to end."""
    end: SandboxEnd | None = None

    @property
    def status(self) -> SandboxStatus:
        return SandboxStatus(sandbox_id=self.sandbox_id, name=self.name, tags={"launch": self.launch_id}, end=self.end)


@dataclass(eq=False)
class Flight:
    """One launch under way in the scheduler that lives."""

    row: Row
    life: Lifecycle
    attempt: int
    step: m.Step | None = None
    wants_slot: bool = False
    holds_slot: bool = False
    ended: int = 0
    revoked: bool = False
    over: bool = False


@dataclass
class Modal:
    """What Modal has, and the creates that were sent and not yet carried out."""

    boxes: list[Box] = field(default_factory=list)
    late: dict[str, tuple[float, Callable[[], None]]] = field(default_factory=dict)
    """By name: until when it may be carried out, and how."""

    def running(self, name: str) -> Box | None:
        return next((box for box in self.boxes if box.name == name and box.end is None), None)

    def by_id(self, sandbox_id: str) -> Box:
        return next(box for box in self.boxes if box.sandbox_id == sandbox_id)

    def of(self, launch_id: str) -> list[Box]:
        return [box for box in self.boxes if box.launch_id == launch_id]


class Launches(RuleBasedStateMachine):
    """Rules are what may happen next; the laws are asserted where they could be broken."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.ids = itertools.count(1)
        self.modal = Modal()
        self.rows: list[Row] = []
        self.table = LaunchTable()
        self.flights: dict[str, Flight] = {}

    # Airflow

    @precondition(lambda self: len(self.rows) < 3)
    @rule(plan=st.sampled_from(sorted(PLANS)))
    def a_task_is_scheduled(self, plan: str) -> None:
        self.rows.append(Row(PLANS[plan]))

    @precondition(lambda self: self.some_row("scheduled"))
    @rule(data=st.data())
    def it_is_queued(self, data: st.DataObject) -> None:
        row = data.draw(st.sampled_from(self.some_row("scheduled")))
        self.queue(row)

    @precondition(lambda self: self.some_row("scheduled"))
    @rule(data=st.data())
    def it_is_queued_and_the_scheduler_dies_before_the_new_id_is_kept(self, data: st.DataObject) -> None:
        row = data.draw(st.sampled_from(self.some_row("scheduled")))
        row.state = "queued"
        row.launch_id = row.launch_id or self.fresh()
        self.restart()

    @precondition(lambda self: self.some_row("queued", "running"))
    @rule(data=st.data())
    def it_is_taken_back(self, data: st.DataObject) -> None:
        row = data.draw(st.sampled_from(self.some_row("queued", "running")))
        launch_id = row.launch_id
        if row.state == "running":  # cleared
            row.attempt, row.launch_id = row.attempt + 1, ""
        row.state = "scheduled"
        flight = self.flights.get(launch_id)
        if flight is not None and self.table.remove(launch_id) is not None:
            flight.revoked = True
            self.tell(flight, m.Revoked(reason="taken back"))

    @rule()
    def the_scheduler_dies_and_another_takes_over(self) -> None:
        self.restart()

    # The sandboxes

    @precondition(lambda self: self.some_box(lambda box: box.has_workload and not box.begun and not box.leaving))
    @rule(data=st.data())
    def a_sandbox_reports_to_airflow(self, data: st.DataObject) -> None:
        box = data.draw(st.sampled_from(self.some_box(lambda box: box.has_workload and not box.begun and not box.leaving)))
        self.report(box)

    @precondition(lambda self: self.some_box(lambda box: box.begun and not box.leaving))
    @rule(data=st.data(), state=st.sampled_from(["success", "scheduled"]))
    def its_task_ends_or_defers(self, data: st.DataObject, state: str) -> None:
        box = data.draw(st.sampled_from(self.some_box(lambda box: box.begun and not box.leaving)))
        self.leave(box, state)

    @precondition(lambda self: self.some_box(lambda box: True))
    @rule(data=st.data(), how=st.sampled_from([EVICTED, TERMINATED, None]))
    def a_sandbox_ends(self, data: st.DataObject, how: SandboxEnd | None) -> None:
        box = data.draw(st.sampled_from(self.some_box(lambda box: True)))
        if box.leaving:
            box.end = SUCCESS
        elif how is not None:
            box.end = how
        elif not box.has_workload:
            box.end = NO_WORKLOAD

    @precondition(lambda self: self.modal.late)
    @rule(data=st.data())
    def a_late_create_arrives(self, data: st.DataObject) -> None:
        _, make = self.modal.late.pop(data.draw(st.sampled_from(sorted(self.modal.late))))
        make()

    # The scheduler

    @precondition(lambda self: self.busy())
    @rule(data=st.data(), fault=st.sampled_from([False, False, False, True]))
    def a_step_is_answered(self, data: st.DataObject, fault: bool) -> None:
        flight = self.flights[data.draw(st.sampled_from(self.busy()))]
        self.answer(flight, fault=fault, create=data.draw(st.sampled_from(["made", "made", "lost", "late", "never", "refused"])))

    @precondition(lambda self: self.flights)
    @rule(steps=st.integers(1, 8))
    def all_goes_well_for_a_while(self, steps: int) -> None:
        for flight in list(self.flights.values()):
            for _ in range(steps):
                if not flight.over:
                    self.answer(flight, fault=False, create="made")
        for box in self.some_box(lambda box: box.has_workload and not box.begun):
            self.report(box)

    def teardown(self) -> None:
        """Nothing is disturbed any more: everything comes to its end, and no task is lost."""
        for _ in range(ENOUGH):
            if not self.flights:
                break
            for flight in list(self.flights.values()):
                if flight.over:
                    continue
                self.let_sandboxes_work()
                if flight.life.sandbox_id is None or not isinstance(flight.step, m.Wait) or self.has_ended(flight):
                    self.answer(flight, fault=False, create="made")
        assert not self.flights, [flight.life.story() for flight in self.flights.values()]
        assert len(self.table) == 0
        lost = [row for row in self.rows if row.state in ("queued", "running")]
        assert not lost, "nobody sees to these tasks any more"

    # How it goes

    def fresh(self) -> str:
        return f"00000000-0000-4000-8000-{next(self.ids):012d}"

    def some_row(self, *states: str) -> list[Row]:
        return [row for row in self.rows if row.state in states]

    def some_box(self, which: Callable[[Box], bool]) -> list[Box]:
        return [box for box in self.modal.boxes if box.end is None and which(box)]

    def has_ended(self, flight: Flight) -> bool:
        step = flight.step
        return isinstance(step, m.Wait) and self.modal.by_id(step.sandbox_id).end is not None

    def busy(self) -> list[str]:
        """Launches whose step can be answered; whoever waits for an end can be disturbed only in the test of faults."""
        return [name for name, flight in self.flights.items() if flight.step is not None or flight.wants_slot]

    def queue(self, row: Row) -> None:
        row.state, row.launch_id, row.sandbox_id = "queued", self.fresh(), None
        flight = self.fly(row, Lifecycle(row.launch_id, row, RULES))
        self.tell(flight, m.Taken())

    def fly(self, row: Row, life: Lifecycle) -> Flight:
        flight = self.flights[row.launch_id] = Flight(row, life, row.attempt)
        self.table.add(row.launch_id, key=(id(row), row.attempt), task=id(row))
        return flight

    def restart(self) -> None:
        """All that the scheduler knew is gone; the next one takes over every task that is queued or runs."""
        self.flights.clear()
        self.table = LaunchTable()
        for row in self.some_row("queued", "running"):
            adoption = Adoption(sandbox_id=row.sandbox_id, can_relaunch=row.state == "queued")
            flight = self.fly(row, Lifecycle(row.launch_id, row, RULES, adoption=adoption))
            running = [box.status for box in self.modal.of(row.launch_id) if box.end is None]
            choice = choose(running, committed=row.sandbox_id)
            self.tell(flight, m.Listed(status=choice.status, attempt=choice.attempt) if choice else m.Listed(status=None))

    def report(self, box: Box) -> None:
        """The execution API lets a task start from QUEUED only, and a try's token is of no use to the next."""
        if box.row.state == "queued" and box.row.attempt == box.attempt:
            box.begun, box.row.state = True, "running"
        else:
            box.end = REFUSED

    def leave(self, box: Box, state: str) -> None:
        if box.row.state == "running" and box.row.attempt == box.attempt:
            box.row.state = state
        box.leaving = True

    def let_sandboxes_work(self) -> None:
        for box in self.some_box(lambda box: True):
            if box.leaving:
                box.end = SUCCESS
            elif box.begun:
                self.leave(box, "success")
            elif box.has_workload:
                self.report(box)

    def tell(self, flight: Flight, happening: m.Happening) -> None:
        was_over = flight.over
        if not isinstance(happening, m.Revoked):
            flight.step = None
        commands = flight.life.handle(happening, self.now)
        assert not (was_over and commands), "a command for a launch that has ended"
        for command in commands:
            self.perform(flight, command)
        assert flight.over == (flight.life.state is State.ENDED)
        if flight.over:
            self.land(flight)

    def land(self, flight: Flight) -> None:
        (launch_id,) = [name for name, other in self.flights.items() if other is flight]
        del self.flights[launch_id]
        for name in [name for name in self.modal.late if name.startswith(launch_id)]:
            until, make = self.modal.late.pop(name)
            if self.now < until and not flight.row.plan.gpu_candidates:
                make()
        assert not flight.holds_slot, "its slot is held for good"
        assert flight.ended == (0 if flight.revoked else 1), "it ends exactly once"
        left = [box for box in self.modal.of(launch_id) if box.end is None and box.has_workload]
        assert not left, f"a sandbox with a workload outlives its launch: {flight.life.story()}"

    def perform(self, flight: Flight, command: m.Command) -> None:
        match command:
            case m.RequestSlot():
                assert not flight.holds_slot, "a second slot is asked for"
                flight.wants_slot = True
            case m.ReleaseSlot():
                assert flight.holds_slot, "a slot is given back twice"
                flight.holds_slot = False
            case m.Emit(event=LaunchEnded() as event):
                flight.ended += 1
                self.hear(flight, event)
            case m.Emit(event=LaunchStarted() as event):
                if self.table.counts(event.launch_id) and flight.row.state in ("queued", "running"):
                    flight.row.launch_id, flight.row.sandbox_id = event.launch_id, event.sandbox_id
            case m.Forget():
                assert not flight.over, "it is forgotten twice"
                flight.over = True
                flight.wants_slot = False
            case m.Emit() | m.WriteLog() | m.Keep():
                pass
            case _:
                flight.step = command
                flight.wants_slot = False

    def hear(self, flight: Flight, event: LaunchEnded) -> None:
        """What the executor and Airflow make of an end."""
        row = flight.row
        ended = self.table.remove(event.launch_id)
        assert (ended is None) == flight.revoked, "word of a launch that was taken back"
        if ended is None or not ended.counts:
            return
        assert row.launch_id == event.launch_id, "an end that counts is of the launch that Airflow keeps"
        if event.success:
            assert row.state != "queued", f"a success of a task that has not begun: {flight.life.story()}"
        elif row.state in ("queued", "running"):
            row.attempt, row.state, row.launch_id = row.attempt + 1, "scheduled", ""

    def answer(self, flight: Flight, *, fault: bool, create: str) -> None:
        if flight.step is None:
            if flight.wants_slot:
                flight.wants_slot, flight.holds_slot = False, True
                gpus = flight.row.plan.gpu_candidates
                self.tell(flight, m.SlotGranted(gpu=gpus[0] if gpus else None))
            return
        happening = self.outcome(flight, flight.step, fault=fault, create=create)
        if happening is not None:
            self.tell(flight, happening)

    def outcome(  # noqa: C901, PLR0911, PLR0912  one case per step
        self, flight: Flight, step: m.Step, *, fault: bool, create: str
    ) -> m.Happening | None:
        modal = self.modal
        match step:
            case m.Translate():
                return m.Translated(translation=Translation(plan=flight.row.plan))
            case m.Prepare():
                return m.PrepareFailed(error=DOWN) if fault else m.Prepared()
            case m.Create():
                return self.create(flight, step, create)
            case m.Find(name=name):
                boxes = [box for box in modal.boxes if box.name == name]
                return m.LookupFailed(error=DOWN) if fault else m.LookedUp(status=boxes[-1].status if boxes else None)
            case m.FindAttempts(sandbox_id=committed):
                (launch_id,) = [name for name, other in self.flights.items() if other is flight]
                choice = choose([box.status for box in modal.of(launch_id)], committed=committed)
                if fault:
                    return m.LookupFailed(error=DOWN)
                return m.LookedUp(status=choice.status, attempt=choice.attempt) if choice else m.LookedUp(status=None)
            case m.Check(sandbox_id=sandbox_id):
                return m.CheckFailed(error=DOWN) if fault else m.Checked(status=modal.by_id(sandbox_id).status)
            case m.Terminate(sandbox_id=sandbox_id):
                box = modal.by_id(sandbox_id)
                box.end = box.end or TERMINATED  # its answer may be lost
                return m.TerminateFailed(error=DOWN) if fault else m.Terminated()
            case m.HandOver(sandbox_id=sandbox_id):
                return self.hand_over(flight, modal.by_id(sandbox_id), fault=fault)
            case m.Wait(sandbox_id=sandbox_id):
                end = modal.by_id(sandbox_id).end
                if fault:
                    return m.WaitFailed(error=DOWN)
                return m.SandboxEnded(end=end) if end is not None else None
            case m.AskToStop():
                return m.AskFailed(error=DOWN) if fault else m.AskedToStop()
            case m.AwaitEnd(sandbox_id=sandbox_id, seconds=seconds):
                end = modal.by_id(sandbox_id).end
                self.now += 0.0 if end else seconds
                return m.SandboxEnded(end=end) if end is not None else m.GraceOver()
            case m.Recall():
                (launch_id,) = [name for name, other in self.flights.items() if other is flight]
                row = flight.row
                return m.Recalled(possible=row.state == "queued" and row.launch_id == launch_id and row.attempt == flight.attempt)
            case m.ReadTail():
                return m.TailRead(text="")
            case m.Pause(seconds=seconds):
                self.now += seconds
                return m.PauseOver()

    def create(self, flight: Flight, step: m.Create, how: str) -> m.Happening:
        (launch_id,) = [name for name, other in self.flights.items() if other is flight]
        named = parse_attempt_name(step.name)
        assert named is not None
        assert step.name == attempt_name(launch_id, named[1])
        if how == "refused":
            return m.CreateFailed(error=RateLimited("no"))
        if self.modal.running(step.name) is not None:
            return m.CreateFailed(error=NameTaken("taken"))

        def make() -> None:
            if self.modal.running(step.name) is None:
                with_it = step.plan.handover == "secret"
                box = Box(f"sb-{next(self.ids)}", step.name, launch_id, flight.row, with_it, flight.attempt)
                self.modal.boxes.append(box)

        if how in ("made", "lost"):
            make()
            self.modal.late.pop(step.name, None)
            box = self.modal.running(step.name)
            assert box is not None
            return m.Created(sandbox_id=box.sandbox_id) if how == "made" else m.CreateFailed(error=DOWN)
        if how == "late":
            self.modal.late[step.name] = (self.now + LATEST, make)
        return m.CreateTimedOut()

    def hand_over(self, flight: Flight, box: Box, *, fault: bool) -> m.Happening:
        if fault:
            return m.HandOverFailed(error=DOWN)
        if box.end is not None or box.has_workload:
            return m.HandOverFailed(error=NotFound("it takes no input"))
        others = [other for other in self.modal.of(box.launch_id) if other.has_workload and other.end is None]
        assert not others, "two sandboxes of one launch have the workload"
        box.has_workload, box.attempt = True, flight.attempt
        return m.HandedOver()


TestLaunches = Launches.TestCase
TestLaunches.settings = settings(max_examples=50, stateful_step_count=50, deadline=None, phases=QUICK)
