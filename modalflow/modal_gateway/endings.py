"""How a sandbox ended, read from the client's handle.

Flows in: a ``modal.Sandbox`` whose end the client has seen. Flows out: ``SandboxEnd``.
"""

from __future__ import annotations

from collections.abc import Mapping

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
}
"""Modal's ``GenericResult.status`` (modal_proto 1.6.4)."""

EXIT_TIMEOUT = 124
EXIT_TERMINATED = 137
"""What the client's ``returncode`` says for these two ends (1.6.4, ``_result_returncode``)."""


def end_of(sandbox: Sandbox) -> SandboxEnd | None:
    """Return the end of a sandbox, ``None`` while it runs as far as this handle knows.

    The cause is in ``_impl.result``, which is not public. Without it the exit code decides, which cannot tell an eviction or a
    failed start from a failure, nor a process killed by a signal from a termination.
    """
    returncode = sandbox.returncode
    if returncode is None:
        return None
    result = getattr(getattr(sandbox, "_impl", None), "result", None)
    kind = _KINDS.get(getattr(result, "status", None) or 0)
    if kind is None:
        return SandboxEnd(kind=_by_exit_code(returncode), exit_code=returncode)
    return SandboxEnd(kind=kind, exit_code=returncode, detail=str(getattr(result, "exception", "") or ""))


def _by_exit_code(returncode: int) -> EndKind:
    known = {0: EndKind.SUCCESS, EXIT_TIMEOUT: EndKind.TIMEOUT, EXIT_TERMINATED: EndKind.TERMINATED}
    return known.get(returncode, EndKind.FAILURE)
