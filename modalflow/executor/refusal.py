"""A launch that translation never sees, or that broke on the way: the ``Translation`` that says so.

``modal_executor`` hands ``launch`` a total function; what could make it raise ends here as an error of that one task.
"""

from __future__ import annotations

from collections.abc import Mapping

from modalflow.translation.diagnostics import Diagnostic, Severity
from modalflow.translation.functions.plan import Plan
from modalflow.translation.origins import Origin
from modalflow.translation.result import Translation

INVALID_CONFIG = "invalid_executor_config"
"""Key under ``executor_config["modal"]`` that ``provider.policy`` leaves in place of a config that is not a dict."""

SHOWN = 200
"""Characters of a wrong value that are shown."""


def mark_invalid(value: object) -> dict[str, object]:
    """The dict that stands in for an ``executor_config`` that is not one: Airflow's scheduler dies of anything else."""
    try:
        text = repr(value)
    except Exception:  # a user's object can raise anything, and this runs in the scheduler
        text = f"a {type(value).__name__}"
    return {"modal": {INVALID_CONFIG: text if len(text) <= SHOWN else text[: SHOWN - 1] + "…"}}


def refused_config(executor_config: object) -> Translation | None:
    """The refusal of a marked config, or ``None`` if translation may read it."""
    modal = executor_config.get("modal") if isinstance(executor_config, Mapping) else None
    if not isinstance(modal, Mapping) or INVALID_CONFIG not in modal:
        return None
    return _refusal(
        "executor-config-type",
        f"expected a dict, got {modal[INVALID_CONFIG]}",
        'write a dict, e.g. executor_config={"modal": {"gpu": "A10G"}}',
    )


def internal_error(error: BaseException) -> Translation:
    """The refusal of a launch that modalflow itself broke; the traceback is the caller's to log."""
    return _refusal(
        "internal-error",
        f"modalflow could not translate it: {type(error).__name__}: {error}",
        "this is a defect of modalflow; the scheduler's log has the traceback",
    )


def not_a_sandbox(plan: Plan) -> Translation:
    """The refusal of a plan that ``launch`` cannot run."""
    return _refusal(
        "function-not-callable",
        f"planned as a {plan.backend}, and this version runs sandboxes only",
        'write {"modal": {"backend": "sandbox"}}, or leave backend out',
    )


def _refusal(code: str, message: str, hint: str) -> Translation:
    origin = Origin(layer="executor_config", path="executor_config")
    found = Diagnostic(code=code, severity=Severity.ERROR, origin=origin, message=message, hint=hint)
    return Translation(plan=None, diagnostics=(found,))
