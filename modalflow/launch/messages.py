"""What the lifecycle of one launch is told, and what it asks for.

Happenings are in the past tense and flow in, commands are imperatives and flow out; ``driver`` performs commands and turns
their results into happenings. Plain data: no asyncio, no clock.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from modalflow.launch.events import LaunchEvent
from modalflow.launch.gateway import GatewayError, SandboxEnd, SandboxStatus
from modalflow.translation.plan import SandboxPlan
from modalflow.translation.result import Translation

Level = Literal["error", "warning", "info"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Taken:
    """The launch's turn to be translated came."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Translated:
    """Translation is done; it may have refused."""

    translation: Translation


@dataclass(frozen=True, kw_only=True, slots=True)
class Prepared:
    """App, image and DAG code are there. ``plan`` is the plan with the place of the code, ``None`` if it is as it was."""

    plan: SandboxPlan | None = None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class PrepareFailed:
    """App or image could not be made, or the DAG code not be brought."""

    error: GatewayError


@dataclass(frozen=True, kw_only=True, slots=True)
class SlotGranted:
    """The sandbox may be created now: a place for CPU creates is this launch's, or GPUs are (``gpu``, one of those asked for)."""

    gpu: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class SlotRefused:
    """None of the GPUs ``gpus`` that were asked for can ever be had."""

    gpus: tuple[str, ...]
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class SlotSlow:
    """The launch has stood in line for a while; ``why`` says what it waits for. ``gpu`` is the first that it asks for."""

    gpu: str | None
    why: str


@dataclass(frozen=True, kw_only=True, slots=True)
class QueuedLong:
    """Most of the seconds are over after which Airflow takes a queued task back: ``queued`` of ``limit``.

    ``why`` says what a launch in line waits for, empty for one that is not in line.
    """

    queued: float
    limit: float
    why: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Created:
    """The create call returned."""

    sandbox_id: str


@dataclass(frozen=True, kw_only=True, slots=True)
class CreateFailed:
    """The create call failed; whether a sandbox exists depends on the error."""

    error: GatewayError


@dataclass(frozen=True, kw_only=True, slots=True)
class CreateTimedOut:
    """The create call was cancelled at its bound; whether a sandbox exists is unknown."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CreateSlow:
    """The create call of this attempt has not returned after ``Create.slow_after``."""

    attempt: int


@dataclass(frozen=True, kw_only=True, slots=True)
class LookedUp:
    """Modal answered for a name, or for all attempts of a launch: ``attempt`` is then the number of the latest."""

    status: SandboxStatus | None
    attempt: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class LookupFailed:
    """Modal did not answer for a name."""

    error: GatewayError


@dataclass(frozen=True, kw_only=True, slots=True)
class Terminated:
    """The sandbox is gone."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TerminateFailed:
    """Whether the sandbox is gone is unknown."""

    error: GatewayError


@dataclass(frozen=True, kw_only=True, slots=True)
class PauseOver:
    """A ``Pause`` elapsed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class HandedOver:
    """The workload is in the sandbox's stdin."""


@dataclass(frozen=True, kw_only=True, slots=True)
class HandOverFailed:
    """The workload could not be written."""

    error: GatewayError


@dataclass(frozen=True, kw_only=True, slots=True)
class SandboxEnded:
    """The sandbox ended by itself."""

    end: SandboxEnd


@dataclass(frozen=True, kw_only=True, slots=True)
class FailedAndKept:
    """Airflow knows the task as failed; its sandbox runs on, to be looked into."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WaitFailed:
    """Waiting for the end broke off; the sandbox may well run."""

    error: GatewayError


@dataclass(frozen=True, kw_only=True, slots=True)
class Checked:
    """Modal answered for a sandbox id."""

    status: SandboxStatus | None


@dataclass(frozen=True, kw_only=True, slots=True)
class CheckFailed:
    """Modal did not answer for a sandbox id."""

    error: GatewayError


@dataclass(frozen=True, kw_only=True, slots=True)
class Recalled:
    """Airflow says whether the task can still be launched: it has not begun, and the request was made anew."""

    possible: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class TailRead:
    """The last output of the ended sandbox, possibly empty."""

    text: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Listed:
    """Adoption's one listing is done; ``status`` is this launch's running sandbox, if it has one, and ``attempt`` its latest."""

    status: SandboxStatus | None
    attempt: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class AskedToStop:
    """The workload's own program for its end was started in the sandbox."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AskFailed:
    """That program could not be started."""

    error: GatewayError


@dataclass(frozen=True, kw_only=True, slots=True)
class GraceOver:
    """The sandbox has not ended within its grace period."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Revoked:
    """Airflow wants this launch no more."""

    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Broke:
    """Our own code raised; ``message`` is fit for the task's log."""

    message: str


Happening = (
    Taken | Translated | Prepared | PrepareFailed | SlotGranted | SlotRefused | SlotSlow | QueuedLong | Created | CreateFailed
    | CreateTimedOut | CreateSlow | LookedUp | LookupFailed | Terminated | TerminateFailed | PauseOver | HandedOver
    | HandOverFailed | SandboxEnded | FailedAndKept | WaitFailed | Checked | CheckFailed | Recalled | TailRead
    | Listed | AskedToStop | AskFailed | GraceOver | Revoked | Broke
)  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class Translate:
    """Call the request's ``translate``."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Prepare:
    """Make App and image of the plan, and bring its DAG code."""

    plan: SandboxPlan


@dataclass(frozen=True, kw_only=True, slots=True)
class RequestSlot:
    """Stand in line by priority for one of ``gpus``, or for a CPU create if there are none."""

    gpus: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class ReleaseSlot:
    """Give back the place of a CPU create, or the GPUs."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Create:
    """Create the sandbox of one attempt, for at most ``bound`` seconds; say so once if it takes ``slow_after`` seconds."""

    plan: SandboxPlan
    name: str
    attempt: int
    gpu: str | None
    bound: float
    slow_after: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Find:
    """Look a sandbox up by name."""

    name: str


@dataclass(frozen=True, kw_only=True, slots=True)
class FindAttempts:
    """Look for all sandboxes of a launch of an earlier scheduler; ``sandbox_id`` is the one that Airflow keeps, if any."""

    sandbox_id: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """Look a sandbox up by id."""

    sandbox_id: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Terminate:
    """End a sandbox and make sure that it is gone."""

    sandbox_id: str


@dataclass(frozen=True, kw_only=True, slots=True)
class HandOver:
    """Mint the workload and write it to the sandbox's stdin."""

    sandbox_id: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Wait:
    """Wait for the end of the sandbox, or for the failure of the task instance ``kept_for``, which leaves it running."""

    sandbox_id: str
    kept_for: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class AskToStop:
    """Start the program in the sandbox that runs the pod's preStop and signals the workload."""

    sandbox_id: str


@dataclass(frozen=True, kw_only=True, slots=True)
class AwaitEnd:
    """Wait for the end of the sandbox, for at most ``seconds``."""

    sandbox_id: str
    seconds: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Recall:
    """Ask Airflow whether the task has not begun, and make its request anew."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ReadTail:
    """Read the last output of an ended sandbox."""

    sandbox_id: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Pause:
    """Do nothing for ``seconds``."""

    seconds: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Emit:
    """Put an event into the queue that the executor drains."""

    event: LaunchEvent


@dataclass(frozen=True, kw_only=True, slots=True)
class WriteLog:
    """Add a line of the executor's to the task's log."""

    level: Level
    text: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Keep:
    """The sandbox runs on for ``seconds`` without this launch: its GPUs stay counted."""

    sandbox_id: str
    seconds: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Forget:
    """The launch is over; nothing follows."""


Step = (
    Translate | Prepare | Create | Find | FindAttempts | Check | Terminate | HandOver | Wait | AskToStop | AwaitEnd | Recall
    | ReadTail | Pause
)  # fmt: skip
"""Commands that take time. A launch has at most one under way: a new one supersedes the one before (which is cancelled)."""

Command = Step | RequestSlot | ReleaseSlot | Emit | WriteLog | Keep | Forget
