"""The seam between launching and Modal: what the driver asks for, and how it can fail.

``modal_gateway.ModalGateway`` implements it with the real client; ``launch`` never imports ``modal``. Every method is a
coroutine that may be cancelled, and raises only ``GatewayError`` subclasses.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from modalflow.translation.plan import SandboxPlan


class EndKind(StrEnum):
    """How a sandbox ended, in Modal's own distinctions (``GenericResult.status``)."""

    SUCCESS = "success"
    FAILURE = "failure"
    TERMINATED = "terminated"
    TIMEOUT = "timeout"
    INIT_FAILURE = "init-failure"
    INTERNAL_FAILURE = "internal-failure"
    IDLE_TIMEOUT = "idle-timeout"
    EVICTED = "evicted"
    OUT_OF_MEMORY = "out-of-memory"


@dataclass(frozen=True, kw_only=True, slots=True)
class SandboxEnd:
    """The end of a sandbox. ``exit_code`` is the process's own (124 after a timeout, 137 after termination)."""

    kind: EndKind
    exit_code: int
    detail: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class SandboxStatus:
    """One sandbox as Modal lists it; ``end`` is ``None`` while it runs, ``waits`` true while it has no machine yet.

    ``made_at`` is when it was created, by Modal's clock, where a listing says so; no part of what it is compared by.
    """

    sandbox_id: str
    name: str
    tags: Mapping[str, str]
    end: SandboxEnd | None = None
    waits: bool = False
    made_at: datetime | None = field(default=None, compare=False)


class GatewayError(Exception):
    """Base of all. ``str(error)`` is one sentence fit for the task's log; it never carries a secret."""


class Unavailable(GatewayError):
    """Modal did not answer (network, restart, deadline). Transient; the request may or may not have been carried out."""


class RateLimited(GatewayError):
    """Modal refused for now (RESOURCE_EXHAUSTED). ``retry_after`` in seconds if it said so."""

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class CapacityExhausted(GatewayError):
    """No machine for this request (Modal's "Insufficient capacity"): try the next GPU candidate."""


class NameTaken(GatewayError):
    """A running sandbox already carries this name: look it up rather than create another."""


class NotFound(GatewayError):
    """A named Secret, Volume, App, Environment or sandbox does not exist."""


class InvalidRequest(GatewayError):
    """Modal refuses the parameters. Permanent."""


class Unauthenticated(GatewayError):
    """Missing or wrong Modal credentials. Permanent until somebody acts."""


class ImageBuildFailed(GatewayError):
    """The image did not build; the message carries the last lines of the build log. Permanent."""


class DagCodeError(GatewayError):
    """The code of the task's DAG cannot be brought to Modal as it is. Permanent until somebody changes the folder."""


class Gateway(Protocol):
    """What the driver may ask of Modal."""

    async def check(self) -> str:
        """Ask Modal whether it takes the credentials, make the App, and return in words whose they are. Holds no secret."""
        ...

    async def prepare(self, plan: SandboxPlan) -> None:
        """Make everything that ``create`` needs and may take long: the App, and the image, built if it must be.

        Cheap when it was done before. Apart from ``create`` so that neither ``create_timeout`` nor a GPU wait counts a build.
        """
        ...

    async def create(
        self,
        plan: SandboxPlan,
        *,
        name: str,
        gpu: str | None,
        argv: Sequence[str],
        secret_env: Mapping[str, str],
    ) -> str:
        """Create a sandbox called ``name`` and return its id.

        ``gpu`` is the candidate of this attempt (``None`` on CPU); a GPU create returns only once scheduled. ``secret_env``
        goes into the create call as an inline secret and nowhere else.
        """
        ...

    async def hand_over(self, sandbox_id: str, payload: bytes) -> None:
        """Write ``payload`` to the sandbox's stdin and close it."""
        ...

    async def find(self, name: str) -> SandboxStatus | None:
        """Return the newest sandbox of that name, running or ended, as far as Modal can tell; ``None`` if there is none."""
        ...

    async def status(self, sandbox_id: str) -> SandboxStatus | None:
        """Return the sandbox's state by id (works after its end); ``None`` if Modal does not know it."""
        ...

    async def wait(self, sandbox_id: str) -> SandboxEnd:
        """Return when the sandbox has ended, however long that takes."""
        ...

    async def terminate(self, sandbox_id: str) -> None:
        """End the sandbox at once and return when it is gone; no error if it already ended."""
        ...

    async def start_in(self, sandbox_id: str, argv: Sequence[str]) -> None:
        """Start a further process in a running sandbox and return; nobody waits for its end."""
        ...

    async def list_running(self, tags: Mapping[str, str]) -> list[SandboxStatus]:
        """All running sandboxes of the app that carry all these tags."""
        ...

    def running_ids(self, tags: Mapping[str, str]) -> AsyncGenerator[list[str], None]:
        """Yield the ids of all running sandboxes that carry all these tags, a page a call of Modal's."""
        ...

    async def list_launch(self, tags: Mapping[str, str]) -> list[SandboxStatus]:
        """All sandboxes that carry all these tags, one of which is ``launch``; ended ones too, as far as Modal can tell."""
        ...

    async def output_tail(self, sandbox_id: str, *, max_bytes: int) -> str:
        """Return the last part of stdout and stderr, for the reason of a failure. Never fails: empty if not to be had."""
        ...

    async def append_log(self, volume: str, path: str, text: str) -> None:
        """Add ``text`` to the file ``path`` of the log Volume (created if missing)."""
        ...

    def ping(self, answer: Callable[[], None]) -> None:
        """Have whatever makes the calls to Modal call ``answer``, from any thread. Never blocks."""
        ...

    def stack(self) -> str:
        """Where that is right now, if it is a thread of its own; else empty."""
        ...

    def successor(self) -> Gateway:
        """Return a gateway like this one, whose first call ends all calls of this one. This one serves nobody from now on.

        For another loop than this one's, which may be stuck.
        """
        ...

    async def close(self) -> None:
        """Release connections. Running sandboxes are left alone."""
        ...
