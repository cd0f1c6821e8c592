"""How long the sandbox of a failed task is kept for debugging: ``keep_on_failure`` as it is written, and as the sandbox has it.

In: what the task or site wrote. Out: a tag, by which schedulers and commands know of it, and a variable that tells the sandbox's
program (``worker.keeping``). Used by ``keys``, ``lower``; read again by ``launch.keep_tags``.
"""

from __future__ import annotations

import json
from dataclasses import replace

from modalflow.translation.plan import SandboxPlan
from modalflow.translation.quantities import SECONDS_A_DAY, read_seconds
from modalflow.translation.report import Place, shown
from modalflow.translation.tags import INSTANCE_TAG, KEEP_TAG

VARIABLE = "MODALFLOW_KEEP"
"""JSON: ``seconds``, and ``usd_hour``, what the sandbox costs an hour at most by list price."""


def read_keep(value: object, place: Place) -> int | None:
    """Read whole seconds, 0 for not at all; at most Modal's 24 hours."""
    if (type(value) in {int, float} and value == 0) or (isinstance(value, str) and value.strip() == "0"):
        return 0
    seconds = read_seconds(value, place, code="bad-keep-on-failure")
    if seconds is not None and seconds > SECONDS_A_DAY:
        place.error(
            "bad-keep-on-failure", f"a sandbox lives at most 24h, its task included; got {shown(value)}", 'write e.g. "30m"'
        )
        return None
    return seconds


def with_keep(plan: SandboxPlan) -> SandboxPlan:
    """Have the sandbox of a task kept as long as the plan says; callbacks and connection tests, which are no task, never are."""
    if not plan.keep_on_failure or INSTANCE_TAG not in plan.tags:
        return plan
    from modalflow.translation.prices import prices_of  # noqa: PLC0415 - few tasks are kept

    dearest = max(price.total for price in prices_of(plan))
    told = json.dumps({"seconds": plan.keep_on_failure, "usd_hour": round(dearest, 4)})
    tags = {**plan.tags, KEEP_TAG: str(plan.keep_on_failure)}
    return replace(plan, tags=tags, env={**plan.env, VARIABLE: told})
