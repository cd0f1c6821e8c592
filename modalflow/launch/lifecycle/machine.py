"""The way into the lifecycle of one launch: a happening goes in, the table finds its transition, commands come out."""

from __future__ import annotations

from collections.abc import Hashable

from modalflow.launch import messages as m
from modalflow.launch.failures import FailureClass
from modalflow.launch.lifecycle import adopting, creating, ending, preparing, running, waiting, withdrawing
from modalflow.launch.lifecycle.record import TABLE, Adoption, Commands, Launch, Rules, fail, quit_with
from modalflow.launch.transitions import State

PARTS = (preparing, waiting, creating, running, adopting, ending, withdrawing)
"""The modules whose functions fill the table, in the order of a launch's life."""


class Lifecycle:
    """One launch. ``handle`` is the only way in; it returns what is to be done."""

    __slots__ = ("_launch",)

    def __init__(
        self, launch_id: str, key: Hashable, rules: Rules, *, adoption: Adoption | None = None, attempt: int = 1
    ) -> None:
        """Start a launch of ours with this attempt, or take one over that an earlier scheduler started."""
        self._launch = Launch(
            launch_id=launch_id,
            key=key,
            rules=rules,
            state=State.ADOPTING if adoption else State.ACCEPTED,
            adoption=adoption,
            sandbox_id=adoption.sandbox_id if adoption else None,
            attempt=attempt,
        )

    @property
    def state(self) -> State:
        """Where the launch is."""
        return self._launch.state

    @property
    def sandbox_id(self) -> str | None:
        """The sandbox of this launch as far as it is known."""
        return self._launch.sandbox_id

    @property
    def attempt(self) -> int:
        """The number of the attempt under way, from 1."""
        return self._launch.attempt

    @property
    def is_withdrawn(self) -> bool:
        """Whether nobody waits for it any more: all that is left is to end its sandbox."""
        return self._launch.doom is not None and self._launch.doom.silent

    @property
    def gpu(self) -> str | None:
        """The GPU candidate under way."""
        return self._launch.gpu_try.gpu if self._launch.gpu_try else None

    def story(self) -> str:
        """What happened so far, oldest first, with seconds since the first of them."""
        return self._launch.told()

    def handle(self, happening: m.Happening, now: float) -> Commands:
        """Take one happening and return the commands that follow from it, in order.

        Raises ``InvalidTransition`` when this cannot happen in this state; nothing is changed then.
        """
        launch = self._launch
        transition = TABLE.find(launch.state, happening)
        if transition is None:
            raise launch.invalid(f"{type(happening).__name__} cannot happen")
        launch.story.append((now, launch.state, type(happening).__name__))
        holds_slot = launch.holds_slot or isinstance(happening, m.SlotGranted)
        try:
            return transition(launch, happening, now)
        except Exception:
            launch.holds_slot = holds_slot  # a command to give it back would be lost
            raise

    def give_up(self, reason: str) -> Commands:
        """End the launch at once, by a defect that even the transitions for defects met. Cannot fail."""
        launch = self._launch
        silent = launch.doom is not None and launch.doom.silent
        return quit_with(launch) if silent else fail(launch, FailureClass.INTERNAL, reason)
