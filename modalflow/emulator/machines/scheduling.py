"""From the queue to the start, and preemption: when a sandbox gets what it needs, how long that takes, when it is taken away.

Flows in: machines that were launched or have ended, the conditions of the moment. Flows out: machines scheduled, given up or
preempted, by the emulator's clock. ``sandboxes`` calls; what is there and who is next, ``state.capacity`` decides.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from modal_proto import api_pb2

from modalflow.emulator.clock import Clock, Timer
from modalflow.emulator.machines.machine import Machine
from modalflow.emulator.spans import drawn
from modalflow.emulator.state.capacity import Demand, demand_of
from modalflow.emulator.state.conditions import Weather
from modalflow.emulator.state.store import Workspace

Status = api_pb2.GenericResult
End = Callable[[Machine, api_pb2.GenericResult], None]

PREEMPTED = Status(status=Status.GENERIC_STATUS_TERMINATED, exitcode=137, exception="Sandbox was preempted")
"""How a preempted sandbox ends. Modal does not document its status; TERMINATED is what it says of other ends from outside."""


class Scheduler:
    """Of all machines that have not ended."""

    def __init__(self, clock: Clock, weather: Weather, end: End) -> None:
        self._clock = clock
        self._weather = weather
        self._end = end
        self._machines: dict[str, Machine] = {}
        self._timers: dict[str, Timer] = {}
        self._dice = random.Random(weather.now.seed)  # noqa: S311 -- not for secrets

    # -- in and out

    def enter(self, machine: Machine) -> None:
        """Place a machine, or queue it."""
        holder, demand = machine.sandbox.sandbox_id, _demand(machine)
        self._machines[holder] = machine
        if machine.workspace.inventory.acquire(holder, demand):
            self._placed(machine)
            return
        patience = self._weather.now.patience(demand.gpu.type if demand.gpu else None)
        if patience is not None:
            self._after(machine, patience, lambda: self._give_up(machine, patience))

    def leave(self, machine: Machine) -> None:
        """Take back what an ended machine held; who waited for it comes next."""
        holder = machine.sandbox.sandbox_id
        self._machines.pop(holder, None)
        self._cancel(holder)
        self._place(machine.workspace.inventory.release(holder))

    def review(self, workspaces: Sequence[Workspace]) -> None:
        """Look at the queues again: the conditions have changed."""
        for workspace in workspaces:
            self._place(workspace.inventory.review())

    def _place(self, holders: Sequence[str]) -> None:
        for holder in holders:
            self._cancel(holder)
            self._placed(self._machines[holder])

    def _placed(self, machine: Machine) -> None:
        delay = drawn(self._weather.now.scheduling_delay, self._dice)
        if delay:
            self._after(machine, delay, lambda: self._start(machine))
        else:
            self._start(machine)

    def _start(self, machine: Machine) -> None:
        if machine.condemned():
            return
        machine.schedule()
        now = self._weather.now
        if (
            now.preempt_after is not None
            and _demand(machine).preemptible
            and now.preempt_probability
            and self._dice.random() < now.preempt_probability
        ):
            self._after(machine, drawn(now.preempt_after, self._dice), lambda: self.preempt(machine, now.preempt_grace))

    def _give_up(self, machine: Machine, patience: float) -> None:
        lacking = " and ".join(machine.workspace.inventory.lacking(machine.sandbox.sandbox_id)) or "its turn"
        text = f"Insufficient capacity to create sandbox: no {lacking} within {patience:g} s"
        self._end(machine, Status(status=Status.GENERIC_STATUS_INIT_FAILURE, exitcode=1, exception=text))

    # -- preemption

    def preempt(self, machine: Machine, grace: float) -> None:
        """Interrupt a machine's main process, and end it for good ``grace`` seconds later. No effect after its end."""
        process = machine.process
        if process is None or not grace:
            self._end(machine, PREEMPTED)
            return
        if process.exited.done() or machine.condemned():
            return
        machine.sentence = PREEMPTED
        process.interrupt()
        self._cancel(machine.sandbox.sandbox_id)
        self._after(machine, grace, lambda: self._end(machine, PREEMPTED))

    # -- timers: one at a time for each machine

    def _after(self, machine: Machine, seconds: float, call: Callable[[], object]) -> None:
        self._timers[machine.sandbox.sandbox_id] = self._clock.call_at(self._clock.monotonic() + seconds, call)

    def _cancel(self, holder: str) -> None:
        timer = self._timers.pop(holder, None)
        if timer is not None:
            timer.cancel()


def _demand(machine: Machine) -> Demand:
    return demand_of(machine.sandbox.definition, machine.gpu)
