"""How a launch ended, in one sentence for the user.

Flows in: a ``SandboxEnd`` and the last lines of output. Flows out: the reason that Airflow shows and the task's log keeps.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from modalflow.launch import exit_codes as code
from modalflow.launch.gateway import EndKind, SandboxEnd

BY_EXIT_CODE: Mapping[int, str] = {
    code.EXIT_CRASHED: "the task's process in the sandbox failed before it could report to Airflow (exit code 1)",
    code.EXIT_WORKLOAD_UNREADABLE: (
        "the sandbox could not read its workload (exit code 64); the image's Airflow must be of the scheduler's minor version"
    ),
    code.EXIT_NO_WORKLOAD: "the sandbox got no workload within [modal_executor] handover_timeout and gave up (exit code 65)",
    code.EXIT_AIRFLOW_UNUSABLE: (
        "Airflow cannot be imported in the image, or is of another minor version than the scheduler's (exit code 66); "
        "use an image with the scheduler's Airflow, or image = auto"
    ),
    code.EXIT_START_REFUSED: (
        "Airflow's API refused to start the task in the sandbox (exit code 67): it was started elsewhere, cleared or removed "
        "meanwhile, or its token was not accepted; the task's log says which"
    ),
    code.EXIT_API_UNREACHABLE: (
        "the sandbox could not reach Airflow's execution API (exit code 68); check [modal_executor] execution_api_url"
    ),
    code.EXIT_NOT_SET_UP: (
        "the files, variables or folders that the task's pod asks for could not be made in the sandbox (exit code 69)"
    ),
    code.EXIT_ROOT: (
        "the task's pod says runAsNonRoot, and the image's user is root (exit code 70); set USER in the image or runAsUser"
    ),
    code.EXIT_COMMAND_FAILED: (
        "a command that the task's pod has run before it failed, so the task did not start (exit code 71); its output is in the "
        "task's log"
    ),
    code.EXIT_NOT_CLONED: (
        "a git repository that the task's pod asks for could not be cloned, so the task did not start (exit code 72); git's "
        "words are in the task's log"
    ),
    code.EXIT_CALLBACK_FAILED: "the callback failed in the sandbox (exit code 73)",
    code.EXIT_NOT_FOUND: "the image has no `python` on its PATH (exit code 127); use an image with Python and Airflow",
    code.EXIT_KILLED: "the task's process was killed in the sandbox (exit code 137), most likely out of memory; raise `memory`",
    code.EXIT_SIGTERM: "the task's process got SIGTERM in the sandbox (exit code 143): the sandbox was being ended",
}

BY_KIND: Mapping[EndKind, str] = {
    EndKind.TERMINATED: "the sandbox was terminated from outside",
    EndKind.TIMEOUT: "the sandbox reached its timeout and Modal ended it; raise `timeout` (at most 24h)",
    EndKind.INIT_FAILURE: "Modal could not start the sandbox",
    EndKind.INTERNAL_FAILURE: "the sandbox failed inside Modal",
    EndKind.IDLE_TIMEOUT: "Modal ended the sandbox as idle",
    EndKind.EVICTED: "Modal evicted the sandbox because its host ran short of memory; raise the `memory` request",
    EndKind.OUT_OF_MEMORY: "the sandbox ran out of memory; raise `memory`",
}

SAYS_ALL = frozenset({EndKind.TERMINATED, EndKind.TIMEOUT, EndKind.IDLE_TIMEOUT})
"""Ends for which Modal's own words only repeat the kind. How Modal tells a preemption it does not document: a termination that
says so counts as one."""

TAIL_BYTES = 16_384
"""What is read of a failed sandbox's output; a line of a task's log is some 300 bytes of JSON."""
_ROUTINE = re.compile(r"(supervisor|task|modalflow|airflow\.(?!task).*)$")
"""Loggers whose information is not about what the task did (Airflow 3.3.2): its prints come by ``task.stdout``."""
_ROUTINE_LEVELS = frozenset({"debug", "info"})
TAIL_LINES = 8
TAIL_CHARACTERS = 900
"""What is kept of it in the reason: Airflow shows the reason in a list of events, the whole output is in the log."""

_JWT = re.compile(r"eyJ[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]*){1,2}")


def redact(text: str) -> str:
    """Replace anything that looks like a JSON Web Token: a task's token must not reach a log through an error text."""
    return _JWT.sub("***", text)


def succeeded(end: SandboxEnd) -> bool:
    """Whether Airflow already has the task's state from the supervisor."""
    return end.kind is EndKind.SUCCESS and end.exit_code == code.EXIT_REPORTED


def explained_by_output(end: SandboxEnd) -> bool:
    """Whether the last lines of output would tell more than the exit code does."""
    return end.exit_code not in (code.EXIT_NO_WORKLOAD, code.EXIT_START_REFUSED)


def reason(end: SandboxEnd, *, sandbox_id: str, tail: str = "", earlier: str = "") -> str:
    """One sentence on an end that is not a success, with Modal's own detail and the last lines of output if there are any.

    ``earlier`` tells of sandboxes of the same launch before this one.
    """
    if end.kind in (EndKind.FAILURE, EndKind.SUCCESS):
        sentence = BY_EXIT_CODE.get(end.exit_code, f"the task's process in the sandbox ended with exit code {end.exit_code}")
    else:
        preempted = end.kind is EndKind.TERMINATED and "preempt" in end.detail.lower()
        sentence = "Modal preempted the sandbox" if preempted else BY_KIND[end.kind]
    told = "" if end.kind in SAYS_ALL else redact(end.detail).strip()
    detail = f": {told}" if told else ""
    last = last_lines(tail)
    output = f"; its last output was: {last}" if last else ""
    return f"{sentence}{detail} (sandbox {sandbox_id}){earlier}{output}"


def kept(sandbox_id: str, seconds: int) -> str:
    """Return what is said of a launch that is over while its sandbox runs on."""
    return f"the task failed; its sandbox {sandbox_id} is kept for {seconds} s from then on (keep_on_failure)"


def again(reason: str, count: int, limit: int, option: str) -> str:
    """Return what is said when a task is launched again."""
    return f"{reason}; the task had not begun and is launched again ({count} of {limit}, [modal_executor] {option})"


def of_an_earlier_part(sandbox_id: str) -> str:
    """Return what is said of a sandbox that was taken for a task's own, and ended without that task having begun."""
    return (
        f"the sandbox {sandbox_id} was of the part of this task before it deferred; the task has not begun since, and is launched"
    )


def earlier(count: int) -> str:
    """Return what a reason adds after ``count`` sandboxes that ended before the task began."""
    return (
        f"; {count} earlier {'sandbox' if count == 1 else 'sandboxes'} of this launch ended before the task began"
        if count
        else ""
    )


def last_lines(tail: str) -> str:
    """Return the last lines of output, redacted, joined and cut to what fits in a reason.

    A task's log goes to stdout as JSON lines: of those, people want what was said. A line that the bound cut is dropped.
    """
    lines = redact(tail).splitlines()
    said = [text for line in lines if (text := _said(line))]
    joined = " | ".join(said[-TAIL_LINES:])
    return joined if len(joined) <= TAIL_CHARACTERS else f"…{joined[-TAIL_CHARACTERS:]}"


def _said(line: str) -> str:
    """What one line of output says of the task; empty for Airflow's own routine, and for the rest of a cut line."""
    text = line.strip()
    try:
        record = json.loads(text)
    except json.JSONDecodeError:
        return "" if text.endswith("}") and '":' in text else text
    if not isinstance(record, dict):
        return text
    routine = record.get("level") in _ROUTINE_LEVELS and _ROUTINE.match(str(record.get("logger", "")))
    return "" if routine else f"{str(record.get('event', '')).strip()}{_raised(record)}"


def _raised(record: dict[str, object]) -> str:
    """The exception that a line tells of, as Airflow's structlog writes it; the supervisor renames its key (3.3.2)."""
    told = record.get("error_detail") or record.get("exception")
    first = told[0] if isinstance(told, list) and told else None
    if not isinstance(first, dict):
        return ""
    return f": {first.get('exc_type')}: {' '.join(str(first.get('exc_value')).split())}"


def gone(sandbox_id: str) -> str:
    """Return the reason of a launch whose sandbox Modal does not know any more."""
    return f"the sandbox {sandbox_id} is gone: Modal does not know it any more; whether the task finished is unknown"


def never_found(launch_id: str) -> str:
    """Return the reason of a taken-over launch of which Modal knows nothing."""
    return f"the sandbox is gone: Modal knows none called {launch_id}; whether the task finished is unknown"


def unreachable(subject: str, silence: float, error: str) -> str:
    """Return the reason of a launch that was given up because Modal did not answer for ``silence`` seconds."""
    return f"Modal has not answered for {silence:.0f} s, so the fate of {subject} is unknown: {error}"


def silent(silence: float, error: str) -> str:
    """Return what the log says while Modal does not answer."""
    return f"Modal has not answered for {silence:.0f} s and is asked again: {error}"


def not_ended(sandbox_id: str, error: str) -> str:
    """Return what is said of a sandbox that is to be ended and is not."""
    return f"the sandbox {sandbox_id} could not be ended yet, which is tried until it is: {error}"


def gave_up(error: str, retries: int) -> str:
    """Return the reason of a launch whose transient failure stayed."""
    return f"{error}; gave up after {retries + 1} tries ([modal_executor] launch_retries = {retries})"


def create_lost(bound: float) -> str:
    """Return the error of a create that did not return in ``bound`` seconds and left no sandbox."""
    return f"Modal made no sandbox within {bound:g} s ([modal_executor] create_timeout)"


def refused_for(seconds: float, error: str) -> str:
    """Return the reason of a launch whose creates Modal kept refusing for now."""
    return f"{error}; Modal has refused for {seconds:.0f} s, as long as [scheduler] task_queued_timeout lets a task wait"


def no_capacity(gpus: str, waited: float) -> str:
    """Return the reason of a GPU launch whose wait is used up."""
    return (
        f"Modal had no free {gpus} within {waited:.0f} s; add another GPU to executor_config "
        '{"modal": {"gpu": [...]}}, raise [modal_executor] gpu_wait, or try again later'
    )


def refusal(errors: list[str], subject: str = "") -> str:
    """Return whose configuration was refused, the first of its errors, and how many more the task's log has."""
    if not errors:
        return "the task's configuration was refused without a reason: a defect of modalflow"
    more = len(errors) - 1
    whose = f"{subject} is refused: " if subject else ""
    return whose + errors[0] + (f" (and {more} more {'error' if more == 1 else 'errors'} in the task's log)" if more else "")
