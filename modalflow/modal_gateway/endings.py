"""How a sandbox ended, read from the client's handle.

Flows in: a ``modal.Sandbox`` whose end the client has seen. Flows out: ``SandboxEnd``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from modal import Sandbox
from modal_proto import api_pb2

from modalflow.launch.gateway import EndKind, SandboxEnd

_RESULT = api_pb2.GenericResult

_KINDS: Mapping[int, EndKind] = {
    _RESULT.GENERIC_STATUS_SUCCESS: EndKind.SUCCESS,
    _RESULT.GENERIC_STATUS_FAILURE: EndKind.FAILURE,
    _RESULT.GENERIC_STATUS_TERMINATED: EndKind.TERMINATED,
    _RESULT.GENERIC_STATUS_TIMEOUT: EndKind.TIMEOUT,
    _RESULT.GENERIC_STATUS_INIT_FAILURE: EndKind.INIT_FAILURE,
    _RESULT.GENERIC_STATUS_INTERNAL_FAILURE: EndKind.INTERNAL_FAILURE,
    _RESULT.GENERIC_STATUS_IDLE_TIMEOUT: EndKind.IDLE_TIMEOUT,
    _RESULT.GENERIC_STATUS_MEMORY_MANAGER_EVICTION: EndKind.EVICTED,
    _RESULT.GENERIC_STATUS_MEMORY_THRASHING_EVICTION: EndKind.EVICTED,
    _RESULT.GENERIC_STATUS_KERNEL_OOM_KILL: EndKind.OUT_OF_MEMORY,
}
"""Modal's ``GenericResult.status`` (modal_proto 1.6.4)."""

EXIT_TIMEOUT = 124
EXIT_TERMINATED = 137
"""What the client's ``returncode`` says for these two ends (1.6.4, ``_result_returncode``)."""


def end_of(sandbox: Sandbox) -> SandboxEnd | None:
    """Return the end of a sandbox, ``None`` while it runs as far as this handle knows.

    ``returncode`` is public; the cause is only in the handle's metadata, which is not. Without it the exit code decides, which
    cannot tell an eviction or a failed start from a failure, nor a process killed by a signal from a termination.
    """
    returncode = sandbox.returncode
    if returncode is None:
        return None
    result = _result_of(sandbox)
    found = end_of_result(result) if result is not None else None
    if found is None:
        return SandboxEnd(kind=_by_exit_code(returncode), exit_code=returncode)
    return replace(found, exit_code=returncode)


def end_of_result(result: api_pb2.GenericResult) -> SandboxEnd | None:
    """Return the end that a result on the wire tells of, ``None`` while there is none (or one that we do not know)."""
    kind = _KINDS.get(result.status)
    if kind is None:
        return None
    exit_code = {EndKind.TIMEOUT: EXIT_TIMEOUT, EndKind.TERMINATED: EXIT_TERMINATED}.get(kind, result.exitcode)
    return SandboxEnd(kind=kind, exit_code=exit_code, detail=result.exception)


def _result_of(sandbox: object) -> api_pb2.GenericResult | None:
    """Return ``GenericResult`` of a handle whose wait is over (modal 1.6.4: ``_Sandbox._get_metadata``), ``None`` if it moved."""
    read = getattr(sandbox, "_get_metadata", None)
    result = getattr(read(), "result", None) if callable(read) else None
    return result if isinstance(result, api_pb2.GenericResult) else None


def _by_exit_code(returncode: int) -> EndKind:
    known = {0: EndKind.SUCCESS, EXIT_TIMEOUT: EndKind.TIMEOUT, EXIT_TERMINATED: EndKind.TERMINATED}
    return known.get(returncode, EndKind.FAILURE)
