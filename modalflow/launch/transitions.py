"""The states of a launch and the table of its transitions.

``lifecycle`` fills the table: ``@TABLE.on(happening, state, …)`` above a method says when it is taken.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Generic, TypeVar

from modalflow.launch.messages import Command, Happening

L = TypeVar("L")
H = TypeVar("H", bound=Happening)


class State(StrEnum):
    """Where a launch is."""

    ACCEPTED = "accepted"
    ADOPTING = "adopting"
    TRANSLATING = "translating"
    PREPARING = "preparing"
    QUEUED = "queued"
    LAUNCHING = "launching"
    RESOLVING = "resolving"
    CLEARING = "clearing"
    PAUSING = "pausing"
    HANDING_OVER = "handing over"
    RUNNING = "running"
    CHECKING = "checking"
    STOPPING = "stopping"
    RECALLING = "recalling"
    EXPLAINING = "explaining"
    ENDED = "ended"


class InvalidTransition(Exception):
    """A happening that cannot be in this state. The text tells the launch's story."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One method of the table: its happening, the states it is taken in, its docstring's first line, its module."""

    happening: str
    states: tuple[State, ...]
    text: str
    module: str


class Transitions(Generic[L]):
    """Maps (state, type of happening) to the method that handles it."""

    def __init__(self) -> None:
        self._methods: dict[tuple[State, type[object]], Callable[[Any, Any, float], list[Command]]] = {}

    def on(
        self, happening: type[H], *states: State
    ) -> Callable[[Callable[[L, H, float], list[Command]]], Callable[[L, H, float], list[Command]]]:
        """Register the decorated method for ``happening`` in each of ``states``; a pair can be registered once."""

        def register(method: Callable[[L, H, float], list[Command]]) -> Callable[[L, H, float], list[Command]]:
            for state in states:
                if (state, happening) in self._methods:
                    raise ValueError(f"{happening.__name__} in {state} is registered twice")
                self._methods[state, happening] = method
            return method

        return register

    def find(self, state: State, happening: Happening) -> Callable[[L, Happening, float], list[Command]] | None:
        """Return the method for this happening, ``None`` when it cannot happen in this state."""
        return self._methods.get((state, type(happening)))

    def rows(self) -> list[Row]:
        """Return what the table says, a row for each method, in the order of registration."""
        found: dict[tuple[Callable[..., object], str], list[State]] = {}
        for (state, happening), method in self._methods.items():
            found.setdefault((method, happening.__name__), []).append(state)
        return [
            Row(
                happening=happening,
                states=tuple(states),
                text=(method.__doc__ or "").partition("\n")[0],
                module=method.__module__,
            )
            for (method, happening), states in found.items()
        ]
