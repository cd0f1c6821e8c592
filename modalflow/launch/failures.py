"""Why a launch failed, as one of a few classes: for metrics, for the table of launches, and for what is done about it.

Flows in: an error of Modal's, or the end of a sandbox. Flows out: a ``FailureClass``, and what its user can do. The sentence that
Airflow shows is made in ``outcomes``; the page docs/reference/failures.md is made of these tables (``failures_page``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from modalflow.launch import exit_codes as code
from modalflow.launch.gateway import (
    CapacityExhausted,
    DagCodeError,
    EndKind,
    GatewayError,
    ImageBuildFailed,
    InvalidRequest,
    NameTaken,
    NotFound,
    RateLimited,
    SandboxEnd,
    Unauthenticated,
    Unavailable,
)


class FailureClass(StrEnum):
    """What a launch failed of. The values are those of metrics and commands: they do not change."""

    USER = "user"
    SET_UP = "set-up"
    IMAGE = "image"
    IMAGE_BUILD = "image-build"
    DAG_CODE = "dag-code"
    REFUSED = "refused"
    OUT_OF_MEMORY = "out-of-memory"
    TIMEOUT = "timeout"
    PREEMPTED = "preempted"
    INIT = "init"
    MODAL = "modal"
    CAPACITY = "capacity"
    CREDENTIALS = "credentials"
    QUOTA = "quota"
    NETWORK = "network"
    AIRFLOW = "airflow"
    LOST = "lost"
    INTERNAL = "internal"


class Budget(StrEnum):
    """The option that bounds how often a task that has not begun is launched again."""

    LAUNCH = "launch_retries"
    INFRA = "infra_retries"


@dataclass(frozen=True, kw_only=True, slots=True)
class Meaning:
    """One class for its reader: what happened, and what to do about it."""

    what: str
    to_do: str


MEANINGS: Mapping[FailureClass, Meaning] = {
    FailureClass.USER: Meaning(
        what="The sandbox's process ended with an exit code that is not modalflow's. (A task whose code raises reports that to "
        "Airflow itself; this launch then succeeded.)",
        to_do="Read the last lines of output in the reason, and the task's log.",
    ),
    FailureClass.SET_UP: Meaning(
        what="What the task's pod has done before the task failed: files, users, init containers, clones.",
        to_do="Mend the pod; the task's log has the words of the command that failed.",
    ),
    FailureClass.IMAGE: Meaning(
        what="The image has no Python, or no Airflow of the scheduler's minor version.",
        to_do="Use an image with the scheduler's Airflow, or `image = auto`.",
    ),
    FailureClass.IMAGE_BUILD: Meaning(
        what="Modal could not build the image.",
        to_do="Mend the image or `requirements`; the reason ends with its last lines.",
    ),
    FailureClass.DAG_CODE: Meaning(
        what="The folder of the DAG's bundle cannot be brought to Modal as it is: a file is unreadable, or it is too large.",
        to_do="Do what the reason says, then clear the task: see [DAG code](../how-to/dag-code.md).",
    ),
    FailureClass.REFUSED: Meaning(
        what="modalflow or Modal refused what the task asks for, or a Secret or Volume that it names does not exist.",
        to_do="Correct the task's `executor_config` or the `[modal_executor]` options; `explain` shows what they become.",
    ),
    FailureClass.OUT_OF_MEMORY: Meaning(what="The task used more memory than its sandbox had.", to_do="Raise `memory`."),
    FailureClass.TIMEOUT: Meaning(
        what="The sandbox reached its timeout.", to_do="Raise `timeout` (at most 24 h), or divide the task."
    ),
    FailureClass.PREEMPTED: Meaning(
        what="The sandbox was taken away: preempted, evicted from its host, or terminated by somebody else.",
        to_do="Give the task `retries`; for memory pressure of hosts raise the `memory` request.",
    ),
    FailureClass.INIT: Meaning(
        what="Modal could not start the sandbox.",
        to_do="Modal's words in the reason say what: often a mount, a bucket's credentials or the image.",
    ),
    FailureClass.MODAL: Meaning(
        what="The sandbox failed inside Modal.", to_do="Clear the task; if it fails so again, ask Modal."
    ),
    FailureClass.CAPACITY: Meaning(
        what="No machine of this kind was free for as long as the task may wait.",
        to_do="Name more GPUs (`gpu` takes a list), raise `gpu_wait`, or widen `region`.",
    ),
    FailureClass.CREDENTIALS: Meaning(
        what="Modal did not accept the scheduler's token.",
        to_do="Mend the token that the reason names ([credentials](../how-to/credentials.md)); then clear the task.",
    ),
    FailureClass.QUOTA: Meaning(
        what="Modal's limits refused the launch for as long as Airflow lets a task wait, or until its tries were used up.",
        to_do="Launch less at once (pools, `max_gpus`, `cpu_create_rate`, `gpu_create_rate`), or ask Modal for more.",
    ),
    FailureClass.NETWORK: Meaning(
        what="Modal did not answer, or could not be reached, until the launch's tries were used up.",
        to_do="Look at Modal's status page and at the scheduler's way to the internet.",
    ),
    FailureClass.AIRFLOW: Meaning(
        what="The sandbox could not reach Airflow's execution API, or that refused the task or its report.",
        to_do="The task's log says which: an address (`execution_api_url`), a token, a task cleared or started elsewhere.",
    ),
    FailureClass.LOST: Meaning(
        what="Modal does not know the sandbox any more; whether its task finished is unknown.",
        to_do="Clear the task; it is safe if the task may run twice.",
    ),
    FailureClass.INTERNAL: Meaning(
        what="A defect of modalflow.", to_do="The scheduler's log has the traceback: please report it."
    ),
}

BY_EXIT_CODE: Mapping[int, FailureClass] = {
    code.EXIT_CRASHED: FailureClass.AIRFLOW,
    code.EXIT_WORKLOAD_UNREADABLE: FailureClass.IMAGE,
    code.EXIT_NO_WORKLOAD: FailureClass.NETWORK,
    code.EXIT_AIRFLOW_UNUSABLE: FailureClass.IMAGE,
    code.EXIT_START_REFUSED: FailureClass.AIRFLOW,
    code.EXIT_API_UNREACHABLE: FailureClass.AIRFLOW,
    code.EXIT_NOT_SET_UP: FailureClass.SET_UP,
    code.EXIT_ROOT: FailureClass.SET_UP,
    code.EXIT_COMMAND_FAILED: FailureClass.SET_UP,
    code.EXIT_NOT_CLONED: FailureClass.SET_UP,
    code.EXIT_CALLBACK_FAILED: FailureClass.USER,
    code.EXIT_NOT_FOUND: FailureClass.IMAGE,
    code.EXIT_KILLED: FailureClass.OUT_OF_MEMORY,
    code.EXIT_SIGTERM: FailureClass.PREEMPTED,
}
"""Of a sandbox whose program ended by itself; any other code is ``USER``."""

BY_KIND: Mapping[EndKind, FailureClass] = {
    EndKind.TERMINATED: FailureClass.PREEMPTED,
    EndKind.TIMEOUT: FailureClass.TIMEOUT,
    EndKind.INIT_FAILURE: FailureClass.INIT,
    EndKind.INTERNAL_FAILURE: FailureClass.MODAL,
    EndKind.IDLE_TIMEOUT: FailureClass.TIMEOUT,
    EndKind.EVICTED: FailureClass.PREEMPTED,
    EndKind.OUT_OF_MEMORY: FailureClass.OUT_OF_MEMORY,
}
"""Of a sandbox that Modal ended; in the two other kinds the exit code decides."""

_BY_ERROR: tuple[tuple[type[GatewayError], FailureClass, str], ...] = (
    (Unavailable, FailureClass.NETWORK, ""),
    (RateLimited, FailureClass.QUOTA, ""),
    (CapacityExhausted, FailureClass.CAPACITY, ""),
    (NameTaken, FailureClass.MODAL, ""),
    (
        NotFound,
        FailureClass.REFUSED,
        "create it, or correct its name in executor_config or the [modal_executor] options",
    ),
    (InvalidRequest, FailureClass.REFUSED, "correct executor_config or the [modal_executor] options"),
    (Unauthenticated, FailureClass.CREDENTIALS, ""),
    (DagCodeError, FailureClass.DAG_CODE, ""),
    (ImageBuildFailed, FailureClass.IMAGE_BUILD, "mend the image or `requirements`, then clear the task"),
)
"""Class of the error, of the failure, and what to do where the error itself does not say so."""


AGAIN: Mapping[FailureClass, Budget] = {
    FailureClass.INIT: Budget.LAUNCH,
    FailureClass.MODAL: Budget.LAUNCH,
    FailureClass.NETWORK: Budget.LAUNCH,
    FailureClass.PREEMPTED: Budget.INFRA,
}
"""Classes of ends after which a task that has not begun is launched again, and which option bounds that."""


def budget_of(end: SandboxEnd) -> Budget | None:
    """Return what bounds further launches after this end, ``None`` where another one would end no better."""
    if end.kind is EndKind.FAILURE and end.exit_code == code.EXIT_API_UNREACHABLE:
        return Budget.LAUNCH
    return AGAIN.get(of_end(end))


def of_error(error: GatewayError) -> FailureClass:
    """Return the class of a launch that ended with this error of Modal's."""
    return next((failure for kind, failure, _ in _BY_ERROR if isinstance(error, kind)), FailureClass.MODAL)


def with_hint(error: GatewayError) -> str:
    """Return the sentence of an error that is not tried again, with what to do about it."""
    hint = next((hint for kind, _, hint in _BY_ERROR if isinstance(error, kind)), "")
    return f"{error}; {hint}" if hint else str(error)


def of_end(end: SandboxEnd) -> FailureClass:
    """Return the class of a launch whose sandbox ended like this, which is not a success."""
    return BY_KIND.get(end.kind) or BY_EXIT_CODE.get(end.exit_code, FailureClass.USER)
