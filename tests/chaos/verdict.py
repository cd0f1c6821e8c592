"""What came of a run, held against its plan: lost, run twice, left over, and tries that nothing explains. Pure.

Flows in: the plan, the ledger's lines, Airflow's rows, the record of what was killed. Flows out: a ``Verdict``.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.chaos.plan import Plan

Row = Mapping[str, Any]

AIRFLOWS_OWN = (
    "sqlalchemy.orm.exc.StaleDataError",
    "sqlalchemy.exc.OperationalError: (sqlite3.OperationalError) database is locked",
)
"""How Airflow 3.3.2's scheduler ends on SQLite, which has no row locks, when the execution API changes a row under it. It is
started again, as after any death: one more fault, and no failure of the executor's."""

FINAL = frozenset({"success", "failed", "skipped", "upstream_failed", "removed"})


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """Sentences about each thing that must not be.

    ``again``: user code that was begun again in a later try though nothing had ended it. ``twins``: launches whose workload two
    sandboxes took, of which Airflow's API let one begin. ``spent``: tries that failed though neither the task's script nor a
    killed sandbox says so; Airflow retried them, so they are not lost, but a user's retry was used up. ``deaths``: schedulers
    that ended without having been killed. ``silent``: schedulers that lived and were held for dead; with one, two take over the
    same queued task, and only Airflow's API can say which of their sandboxes may begin.
    """

    lost: tuple[str, ...] = ()
    twice: tuple[str, ...] = ()
    again: tuple[str, ...] = ()
    twins: tuple[str, ...] = ()
    left: tuple[str, ...] = ()
    spent: tuple[str, ...] = ()
    deaths: tuple[str, ...] = ()
    silent: tuple[str, ...] = ()
    figures: Mapping[str, int] = field(default_factory=dict)

    @property
    def good(self) -> bool:
        """Whether nothing is lost, run twice, begun again, launched double or left, and no scheduler died of us."""
        wrong = self.lost or self.twice or self.again or (self.twins and not self.silent) or self.left
        return not (wrong or any(not is_airflows_own(death) for death in self.deaths))


def is_airflows_own(death: str) -> bool:
    """Whether a scheduler ended by what Airflow does on SQLite."""
    return any(sign in death for sign in AIRFLOWS_OWN)


def held_for_dead(log: str, threshold: float) -> tuple[str, ...]:
    """From a scheduler's log: heartbeats of living schedulers that came after more than ``threshold`` seconds."""
    late = [float(found) for found in re.findall(r"Heartbeat recovered after ([\d.]+) seconds", log)]
    return tuple(f"a scheduler that lived gave no sign for {seconds:g} s" for seconds in late if seconds > threshold)


def judge(
    plan: Plan,
    ledger: Sequence[Row],
    tries: Sequence[Row],
    killed: Mapping[str, str],
    left: Sequence[str],
    deaths: Sequence[str] = (),
    silent: Sequence[str] = (),
) -> Verdict:
    """Judge a run. ``killed``: sandbox id to what killed it; ``left``: what was found after the end."""
    return Verdict(
        lost=tuple(_lost(plan, tries)),
        twice=tuple(_twice(ledger)),
        left=tuple(left),
        deaths=tuple(deaths),
        silent=tuple(silent),
        again=tuple(_again(ledger, killed)),
        twins=tuple(_twins(ledger, killed)),
        spent=tuple(_spent(plan, ledger, tries, killed)),
        figures={
            "tasks": len(plan.scripts),
            "tries": len(tries),
            "sandboxes": len({line["sandbox"] for line in ledger}),
            "entries": sum(line["kind"] == "enter" for line in ledger),
            "killed sandboxes": len(killed),
        },
    )


def _lost(plan: Plan, tries: Sequence[Row]) -> Iterable[str]:
    last = {row["task"]: row for row in tries if not row["past"]}
    for script in plan.scripts:
        row = last.get(script.task_id)
        if row is None:
            yield f"{script.task_id} ({script.kind}): Airflow has no such task instance"
        elif row["state"] != script.expected:
            what = f"{row['state']}, expected {script.expected} ({row['external']})"
            yield f"{script.task_id} ({script.kind}) try {row['try']}: {what}"


def _twice(ledger: Sequence[Row]) -> Iterable[str]:
    for lines in _entered(ledger, "ti", "leg", "try"):
        if len(lines) > 1:
            yield _told(lines)


def _again(ledger: Sequence[Row], killed: Mapping[str, str]) -> Iterable[str]:
    """Entries of one task instance id and leg in a later try, though nothing had killed a sandbox of it.

    Airflow gives a try that failed while it ran a new id; one that failed while queued, or was handed back, keeps it (3.3.2).
    """
    dead = {line["ti"] for line in ledger if line["sandbox"] in killed}
    for lines in _entered(ledger, "ti", "leg"):
        if len({line["try"] for line in lines}) > 1 and lines[0]["ti"] not in dead:
            yield _told(lines)


def _twins(ledger: Sequence[Row], killed: Mapping[str, str]) -> Iterable[str]:
    """Launches whose workload a second sandbox took though the first was not killed. A launch is made for one workload."""
    born: dict[str, dict[str, Row]] = defaultdict(dict)
    for line in ledger:
        if line["kind"] == "born" and line["sandbox"] not in killed:
            born[line["launch"]][line["sandbox"]] = line
    for launch, lines in born.items():
        if len(lines) > 1:
            first = next(iter(lines.values()))
            yield f"{first['task']} {first['ti']} launch {launch} was taken by {len(lines)} sandboxes: {', '.join(lines)}"


def _entered(ledger: Sequence[Row], *names: str) -> Iterable[list[Row]]:
    """The entries of user code, grouped by these fields."""
    entered: dict[tuple[Any, ...], list[Row]] = defaultdict(list)
    for line in ledger:
        if line["kind"] == "enter":
            entered[tuple(line[name] for name in names)].append(line)
    return entered.values()


def _told(lines: list[Row]) -> str:
    where = ", ".join(f"{line['launch']} in {line['sandbox']} (try {line['try']})" for line in lines)
    return f"{lines[0]['task']} {lines[0]['ti']} leg {lines[0]['leg']} was entered {len(lines)} times: {where}"


def _spent(plan: Plan, ledger: Sequence[Row], tries: Sequence[Row], killed: Mapping[str, str]) -> Iterable[str]:
    scripts = {script.task_id: script for script in plan.scripts}
    sandboxes: dict[str, set[str]] = defaultdict(set)
    told: dict[str, set[str]] = defaultdict(set)
    for line in ledger:
        sandboxes[line["ti"]].add(line["sandbox"])
        if line["kind"] == "leave":
            told[line["ti"]].add(line["state"])
    for row in tries:
        sandboxes[row["ti"]] |= {str(row["external"]).partition("/")[2]} - {""}
        script = scripts.get(row["task"])
        failed = row["past"] or row["state"] == "failed"
        if script is None or not failed or told[row["ti"]] & {"failed", "up_for_retry"}:
            continue
        if not any(sandbox in killed for sandbox in sandboxes[row["ti"]]):
            seen = ", ".join(sorted(map(str, sandboxes[row["ti"]]))) or "none was born"
            yield f"{row['task']} ({script.kind}) try {row['try']} {row['ti']}: {row['external']}; sandboxes: {seen}"
