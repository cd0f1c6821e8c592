"""Modal's exceptions and ours, in one table.

Flows in: whatever the modal client raised (1.6.4; its ``_grpc_client._STATUS_TO_EXCEPTION`` maps gRPC codes to these classes).
Flows out: ``launch.gateway`` errors with one sentence that carries no secret. Used by every call of ``gateway``.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpclib.exceptions
import h2.exceptions
from modal import exception as modal_errors

from modalflow.launch.gateway import (
    CapacityExhausted,
    GatewayError,
    ImageBuildFailed,
    InvalidRequest,
    NameTaken,
    NotFound,
    RateLimited,
    Unauthenticated,
    Unavailable,
)
from modalflow.launch.outcomes import redact

LONGEST_TEXT = 1500
"""Characters of Modal's own words kept in a sentence; of a failed build these are the last ones, where the cause is."""

INSUFFICIENT_CAPACITY = "insufficient capacity"
"""What the client says (1.6.4, ``sandbox/_impl_v1.py``) when a create was not scheduled; a rate limit has the same class."""

# First match wins, so a subclass stands before its base.
_TABLE: tuple[tuple[type[BaseException], type[GatewayError], str], ...] = (
    (modal_errors.AuthError, Unauthenticated, "Modal refused the credentials"),
    (modal_errors.PermissionDeniedError, InvalidRequest, "Modal does not permit it"),
    (modal_errors.AlreadyExistsError, NameTaken, "Modal has it already"),
    (modal_errors.NotFoundError, NotFound, "Modal does not know it"),
    (modal_errors.ImageBuildError, ImageBuildFailed, "the image could not be built"),
    (modal_errors.ResourceExhaustedError, RateLimited, "Modal refused for now"),
    (modal_errors.ConflictError, InvalidRequest, "Modal refused"),
    (modal_errors.InvalidError, InvalidRequest, "Modal refused the parameters"),
    (modal_errors.ServiceError, Unavailable, "Modal did not answer"),
    (modal_errors.InternalError, Unavailable, "Modal failed"),
    (modal_errors.ConnectionError, Unavailable, "Modal could not be reached"),
    (modal_errors.TimeoutError, Unavailable, "Modal did not answer in time"),
    (modal_errors.ClientClosed, Unavailable, "the connection to Modal is closed"),
    (modal_errors.Error, InvalidRequest, "Modal refused"),
    (grpclib.exceptions.StreamTerminatedError, Unavailable, "the connection to Modal broke off"),
    (h2.exceptions.ProtocolError, Unavailable, "the connection to Modal broke off"),  # of streams
    (grpclib.exceptions.GRPCError, Unavailable, "Modal did not answer"),
    (OSError, Unavailable, "Modal could not be reached"),
)
"""Class of Modal's, class of ours, how the sentence begins. Classes that are not here are defects and are not caught."""

_CAUGHT = tuple(theirs for theirs, _, _ in _TABLE)


def translate_error(error: BaseException, doing: str) -> GatewayError:
    """Return our error for one of Modal's; ``doing`` says what was tried (``create the sandbox``)."""
    for theirs, ours, beginning in _TABLE:
        if isinstance(error, theirs):
            return _build(ours, f"could not {doing}: {beginning}{_words(error)}", error)
    raise error


def _build(ours: type[GatewayError], sentence: str, error: BaseException) -> GatewayError:
    if ours is RateLimited:
        if INSUFFICIENT_CAPACITY in str(error).lower():
            return CapacityExhausted(sentence)
        return RateLimited(sentence, _retry_after(error))
    return ours(sentence)


def _words(error: BaseException) -> str:
    text = redact(str(error)).strip().rstrip(".")
    if not text:
        return f" ({type(error).__name__})"
    return f": {text}" if len(text) <= LONGEST_TEXT else f": …{text[-LONGEST_TEXT:]}"


def _retry_after(error: BaseException) -> float | None:
    """Return the seconds that the server asked for: ``RPCRetryPolicy`` among the status details (modal_proto 1.6.4)."""
    for detail in getattr(error, "_grpc_details", None) or ():
        seconds = getattr(detail, "retry_after_secs", None)
        if isinstance(seconds, int | float):
            return float(seconds)
    return None


@asynccontextmanager
async def bounded(doing: str, seconds: float | None) -> AsyncIterator[None]:
    """Run a block of Modal calls for at most ``seconds`` and with our errors; ``doing`` as in ``translate_error``.

    The client alone needs about a minute to find out that a server is dead.
    """
    try:
        async with asyncio.timeout(seconds) as scope:
            yield
    except TimeoutError as error:
        if scope.expired():
            raise Unavailable(f"could not {doing}: Modal did not answer within {seconds:g} s") from error
        raise translate_error(error, doing) from error
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        # Nobody cancelled this: the client lost the task that made its call. Unheard, a launch would wait for ever.
        raise Unavailable(f"could not {doing}: the call to Modal was cut off") from error
    except _CAUGHT as error:
        raise translate_error(error, doing) from error


@asynccontextmanager
async def ended_before_it_ran(*, v1: bool) -> AsyncIterator[None]:
    """Tell a sandbox that ended while its create waited for a machine from parameters that Modal refuses.

    The client (1.6.4, ``sandbox/_impl_v1.py``) raises ``ConflictError`` in a V1 create once the sandbox has an end: by hand, by
    another scheduler, by Modal. None of it is the task's doing, and nothing of the task ran.
    """
    try:
        yield
    except modal_errors.ConflictError as error:
        if not v1:
            raise
        raise Unavailable(f"could not create the sandbox: it ended before it ran{_words(error)}") from error
