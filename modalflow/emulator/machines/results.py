"""How an end is told.

Flows in: why we ended it, how the process ended, what failed afterwards. Flows out: a ``GenericResult``. ``sandboxes`` and
``sidecars`` keep it; a script may ask for another (``told``).
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping

from modal_proto import api_pb2

from modalflow.emulator.machines.processes import Exit

Status = api_pb2.GenericResult
OUT_OF_MEMORY = "Sandbox was killed: it used more memory than its limit"

_OURS: Mapping[api_pb2.GenericResult.GenericStatus.ValueType, tuple[int, str]] = {
    Status.GENERIC_STATUS_TIMEOUT: (124, "Sandbox timed out"),
    Status.GENERIC_STATUS_TERMINATED: (137, "Sandbox was terminated"),
    Status.GENERIC_STATUS_IDLE_TIMEOUT: (137, "Sandbox was idle for longer than its idle timeout"),
}
"""Exit code and text of the ends that we bring about."""


def result_of(
    verdict: api_pb2.GenericResult.GenericStatus.ValueType | None, end: Exit, failure: str = ""
) -> api_pb2.GenericResult:
    """Return the result. ``verdict``: why we ended it, if we did; ``failure``: what went wrong after its end."""
    if verdict is not None and verdict in _OURS:
        code, text = _OURS[verdict]
        return Status(status=verdict, exitcode=code, exception=text)
    if verdict is not None:
        return Status(status=verdict, exitcode=end.code, exception=end.error)
    if end.out_of_memory:
        return Status(status=Status.GENERIC_STATUS_KERNEL_OOM_KILL, exitcode=end.code, exception=OUT_OF_MEMORY)
    if failure:
        return Status(status=Status.GENERIC_STATUS_INTERNAL_FAILURE, exitcode=end.code, exception=failure)
    status = Status.GENERIC_STATUS_FAILURE if end.code else Status.GENERIC_STATUS_SUCCESS
    return Status(status=status, exitcode=end.code, exception=end.error)


_USUAL: Mapping[str, tuple[int, str]] = {
    "SUCCESS": (0, ""),
    "FAILURE": (1, ""),
    "TERMINATED": (137, "Sandbox was terminated"),
    "TIMEOUT": (124, "Sandbox timed out"),
    "INIT_FAILURE": (1, "Sandbox could not be started"),
    "INTERNAL_FAILURE": (1, "Sandbox failed: internal error"),
    "IDLE_TIMEOUT": (137, "Sandbox was idle for longer than its idle timeout"),
    "KERNEL_OOM_KILL": (137, OUT_OF_MEMORY),
    "MEMORY_MANAGER_EVICTION": (137, "Sandbox was evicted: its host ran out of memory"),
}
"""Exit code and text by status, where nobody asks for others."""


def told(status: str, exitcode: int | None, exception: str | None) -> api_pb2.GenericResult:
    """Return the result that a script asks for. ``ValueError`` for a status that there is not."""
    name = status.upper().removeprefix("GENERIC_STATUS_")
    if name not in _USUAL:
        near = difflib.get_close_matches(name, _USUAL, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(_USUAL)}"
        raise ValueError(f"no status of a sandbox is called {status!r}; {hint}")
    code, text = _USUAL[name]
    return Status(
        status=Status.GenericStatus.Value(f"GENERIC_STATUS_{name}"),
        exitcode=code if exitcode is None else exitcode,
        exception=text if exception is None else exception,
    )
