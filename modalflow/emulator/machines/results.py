"""How an end is told: from why we ended it, how the process ended and what failed afterwards to a ``GenericResult``."""

from __future__ import annotations

from modal_proto import api_pb2

from modalflow.emulator.machines.processes import Exit

Status = api_pb2.GenericResult


def result_of(
    verdict: api_pb2.GenericResult.GenericStatus.ValueType | None, end: Exit, failure: str = ""
) -> api_pb2.GenericResult:
    """Return the result. ``verdict``: why we ended it, if we did; ``failure``: what went wrong after its end."""
    if verdict == Status.GENERIC_STATUS_TIMEOUT:
        return Status(status=verdict, exitcode=124, exception="Sandbox timed out")
    if verdict == Status.GENERIC_STATUS_TERMINATED:
        return Status(status=verdict, exitcode=137, exception="Sandbox was terminated")
    if verdict == Status.GENERIC_STATUS_IDLE_TIMEOUT:
        return Status(status=verdict, exitcode=137, exception="Sandbox was idle for longer than its idle timeout")
    if verdict is not None:
        return Status(status=verdict, exitcode=end.code, exception=end.error)
    if failure:
        return Status(status=Status.GENERIC_STATUS_INTERNAL_FAILURE, exitcode=end.code, exception=failure)
    status = Status.GENERIC_STATUS_FAILURE if end.code else Status.GENERIC_STATUS_SUCCESS
    return Status(status=status, exitcode=end.code, exception=end.error)
