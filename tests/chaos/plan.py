"""What one seed means: what each task does, and which faults strike when. Pure; the same seed draws the same plan.

Flows out: a ``Plan``. ``run`` carries it out and ``verdict`` holds what happened against it. A fault strikes when so many tasks
have been entered, not at a time of day: the order of things is then alike on a slow machine and on a quick one.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Kind = Literal["success", "fail-once", "fail", "defer", "reschedule"]
"""``fail-once`` fails the first try that comes to its end; ``fail`` ends as failed for good; the others end as success."""

GPUS = {"A10G": 4, "L4": 4}
"""Stock of the emulator: some GPU tasks have to wait, and to go on to the next candidate."""

CHAIN = 4
"""Tasks that follow one another; what is queued at once is a quarter of all."""

KINDS: Mapping[Kind, int] = {"success": 70, "fail-once": 8, "fail": 6, "defer": 10, "reschedule": 6}


@dataclass(frozen=True, kw_only=True, slots=True)
class Script:
    """One task. ``seconds``: what its user code takes. ``after``: the task before it in its chain."""

    task_id: str
    kind: Kind
    seconds: float
    gpu: bool = False
    after: str | None = None

    @property
    def expected(self) -> str:
        """The state that it must end in."""
        return "failed" if self.kind == "fail" else "success"


@dataclass(frozen=True, kw_only=True, slots=True)
class Strike:
    """One fault. ``at``: entries of user code after which it strikes; ``wait``: seconds from then; ``what``: its name;
    ``details``: what ``faults`` needs to carry it out."""

    at: int
    wait: float
    what: str
    details: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        told = ", ".join(f"{name}={value}" for name, value in self.details.items())
        return f"after {self.at} entries + {self.wait:.2f} s: {self.what}{f' ({told})' if told else ''}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """All of one seed."""

    seed: int
    scripts: tuple[Script, ...]
    strikes: tuple[Strike, ...]


def draw(seed: int, tasks: int, *, longest: float = 1.5, strikes: int | None = None) -> Plan:
    """Draw the plan of ``seed``. ``longest``: seconds of user code; ``strikes``: how many faults, else one for eight tasks."""
    rng = random.Random(f"{seed}/{tasks}")
    scripts = tuple(_script(rng, number, tasks, longest) for number in range(tasks))
    count = strikes if strikes is not None else max(6, tasks // 8)
    return Plan(seed=seed, scripts=scripts, strikes=_strikes(rng, tasks, count))


def _script(rng: random.Random, number: int, tasks: int, longest: float) -> Script:
    place = number % CHAIN
    last = place == CHAIN - 1 or number == tasks - 1
    kinds = {kind: weight for kind, weight in KINDS.items() if last or kind != "fail"}
    [kind] = rng.choices(list(kinds), weights=list(kinds.values()))
    return Script(
        task_id=f"t{number:04d}",
        kind=kind,
        seconds=round(rng.uniform(0.05, longest), 2),
        gpu=rng.random() < 0.2,
        after=f"t{number - 1:04d}" if place else None,
    )


def _strikes(rng: random.Random, tasks: int, count: int) -> tuple[Strike, ...]:
    """Draw the faults: each of the deadly kinds at least once, then any, spread over the run."""
    names = ["kill scheduler", "kill scheduler amid a call", "kill emulator", "preempt", "out of memory", "lost creates"]
    names += rng.choices(list(FAULTS), weights=[weight for weight, _ in FAULTS.values()], k=max(0, count - len(names)))
    last = max(1, int(tasks * 0.85))
    drawn = [
        Strike(at=rng.randrange(last), wait=round(rng.uniform(0, 1.5), 2), what=name, details=FAULTS[name][1](rng))
        for name in names
    ]
    return tuple(sorted(drawn, key=lambda strike: (strike.at, strike.wait)))


CREATES = ("SandboxCreateV2", "SandboxCreate", "SandboxGetTaskId")
OTHERS = (
    "SandboxWait*",
    "SandboxTerminate*",
    "SandboxList*",
    "SandboxGetFromName*",
    "SandboxTagsGet*",
    "SandboxStdin*",
    "AppGetOrCreate",
)


LOST = (40, 100)
"""Answers that are lost. Modal's client asks four times for each create, with a key by which it gets the first answer (1.6.4),
and a dozen are made at once: fewer would be no more than a delay."""
LOSS = {"after_handler": True, "status": "UNAVAILABLE"}


def _rule(rng: random.Random, methods: tuple[str, ...], **what: Any) -> dict[str, Any]:
    return {"method": rng.choice(methods), "times": rng.randint(1, 4), **what}


FAULTS: Mapping[str, tuple[int, Any]] = {
    "kill scheduler": (5, lambda rng: {"pick": rng.random(), "down": round(rng.uniform(0, 2.5), 2)}),
    "kill scheduler amid a call": (
        5,
        lambda rng: {
            "method": rng.choice(["SandboxCreate*", "SandboxCreateV2", "SandboxGetTaskId", "SandboxStdinWrite*", "SandboxWait*"]),
            "delay": round(rng.uniform(0.2, 1.5), 2),
            "late": rng.random() < 0.5,
            "pick": rng.random(),
            "down": round(rng.uniform(0, 2), 2),
        },
    ),
    "kill emulator": (1, lambda rng: {"down": round(rng.uniform(0, 3), 2)}),
    "preempt": (4, lambda rng: {"pick": rng.random(), "grace": rng.choice([0, 0.2, 1])}),
    "out of memory": (3, lambda rng: {"pick": rng.random()}),
    "lost replies": (5, lambda rng: _rule(rng, CREATES + OTHERS, after_handler=True)),
    "lost creates": (5, lambda rng: {"method": "SandboxCreateV2", "times": rng.randint(*LOST), **LOSS}),
    "refusals": (
        3,
        lambda rng: _rule(rng, CREATES + OTHERS, status=rng.choice(["UNAVAILABLE", "INTERNAL", "DEADLINE_EXCEEDED"])),
    ),
    "rate limit": (
        3,
        lambda rng: {"create_rate_v2": rng.choice([2, 5]), "create_rate_v1": 2, "seconds": round(rng.uniform(2, 6), 1)},
    ),
    "latency": (3, lambda rng: {"delay": [0.05, round(rng.uniform(0.3, 3), 1)], "times": rng.randint(20, 60)}),
    "connections close": (3, lambda _: {}),
    "freeze": (2, lambda rng: {"seconds": round(rng.uniform(1, 6), 1)}),
    "refuse connections": (2, lambda rng: {"seconds": round(rng.uniform(1, 5), 1)}),
}
"""Name of each fault: its weight, and how its details are drawn."""
