"""An observer that keeps what it is told, and a launch on a scripted clock."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from modalflow.launch import messages as m
from modalflow.launch.lifecycle import Adoption, Lifecycle, Rules
from modalflow.launch.observe import Ended, Gauges, Observer, Track
from modalflow.launch.sights import Sights
from modalflow.launch.transitions import State
from tests.launch.plans import LAUNCH


@dataclass
class Onlooker:
    told: list[object] = field(default_factory=list)
    traces: list[Mapping[str, str]] = field(default_factory=list)
    gauges: list[Gauges] = field(default_factory=list)
    breaks: bool = False

    def accepted(self, track: Track, trace: Mapping[str, str]) -> None:
        if self.breaks:
            raise RuntimeError("the observer is broken")
        self.traces.append(trace)
        self.told.append(f"accepted {track.label}")

    def phase_over(self, track: Track, phase: State, seconds: float) -> None:
        self.told.append((str(phase), round(seconds, 3), track.gpu))

    def started(self, track: Track, seconds: float) -> None:
        self.told.append(("started", round(seconds, 3), round(track.waited, 3), track.gpu, track.micro_usd_hour))

    def ended(self, track: Track, ended: Ended) -> None:
        self.told.append(ended)

    def looked(self, gauges: Gauges) -> None:
        self.gauges.append(gauges)

    def closed(self) -> None:
        self.told.append("closed")


@dataclass
class Watched:
    """One launch whose steps a test takes, at times that the test says."""

    observer: Observer
    adoption: Adoption | None = None
    trace: Mapping[str, str] = field(default_factory=dict)
    now: float = 1000.0
    commands: list[m.Command] = field(default_factory=list)

    def __post_init__(self) -> None:
        rules = Rules(create_timeout=60.0, retries=2, jitter=lambda: 0.0)
        self.lifecycle = Lifecycle(LAUNCH, "key", rules, adoption=self.adoption)
        self.sights = Sights(self.observer, clock=lambda: self.now)
        self.track = self.sights.accept(LAUNCH, "models.train manual try 1", self.lifecycle, self.trace)

    def step(self, happening: m.Happening, *, after: float = 0.0) -> None:
        self.now += after
        commands = self.lifecycle.handle(happening, self.now)
        self.commands += self.sights.note(self.track, happening, self.lifecycle, commands)

    def at(self, state: State) -> bool:
        """Whether the launch is there now."""
        return self.lifecycle.state is state
