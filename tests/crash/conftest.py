"""What the tests of this folder watch a deployment with: real schedulers, the real execution API, light sandboxes."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from tests.chaos.deployment import Deployment
from tests.chaos.verdict import FINAL

BOUND = 120.0
"""Seconds after which what does not come about fails the test, with what was seen last."""


def wait_until(deployment: Deployment, what: str, condition: Callable[[], Any]) -> Any:
    """Poll until ``condition`` returns something true, replacing a scheduler that Airflow itself lost on SQLite."""
    deadline = time.monotonic() + BOUND
    while not (found := condition()):
        deployment.look_after_schedulers()
        told = (deployment.airflow.ask("states"), deployment.deaths, deployment.ledger())
        assert time.monotonic() < deadline, f"not within {BOUND:g} s: {what}; states, deaths and ledger: {told}"
        time.sleep(0.1)
    return found


def let_end(deployment: Deployment, *tasks: str) -> None:
    """Have the user code of these tasks come to its end."""
    for task in tasks:
        (deployment.folder / f"go-{task}").touch()


def all_ended(deployment: Deployment) -> bool:
    """Whether every task has a final state."""
    return all(state in FINAL for state in deployment.airflow.ask("states"))


def lines(deployment: Deployment, kind: str, *, leg: int | None = None) -> set[str]:
    """The tasks that have a line of this kind in the ledger."""
    return {line["task"] for line in deployment.ledger() if line["kind"] == kind and leg in (None, line.get("leg"))}


def finished(deployment: Deployment) -> set[str]:
    """The tasks that have a final state."""
    return {row["task"] for row in deployment.airflow.ask("tries") if not row["past"] and row["state"] in FINAL}
