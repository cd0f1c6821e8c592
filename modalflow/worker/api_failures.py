"""What an exception of Airflow's supervisor says about the execution API, as one sentence and an exit code.

Part of the sandbox's program, see ``bootstrap``. Read in Airflow 3.3.2's task SDK (2026-11-24).
"""

# Imports stand where they are used: a task that goes well needs none of them.

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from modalflow.worker.errors import EXIT_API_UNREACHABLE, EXIT_CRASHED, EXIT_START_REFUSED, Failure

SERVER_ERROR = 500


def api_failure(error: BaseException, server: str) -> Failure | None:
    """Return what an exception of the supervisor says about the execution API, or ``None`` if it says nothing."""
    import urllib.parse

    import httpx

    parts = urllib.parse.urlsplit(server)
    # Not the whole URL: behind the relay its path is a secret.
    api = f"the execution API at {parts.scheme}://{parts.netloc.rpartition('@')[2]}"
    found = next((one for one in chain_of(error) if isinstance(one, (httpx.HTTPStatusError, httpx.RequestError))), None)
    if found is None:
        return None
    starting = not request_path(found) or request_path(found).endswith("/run")
    if isinstance(found, httpx.RequestError):
        what = "could not be reached" if starting else "could not be reached when the task had ended"
        return Failure(EXIT_API_UNREACHABLE, f"{api} {what} ({type(found).__name__}: {found})")
    status = found.response.status_code
    said = str(getattr(found, "detail", None) or found.response.reason_phrase)[:300]
    if status >= SERVER_ERROR:
        return Failure(EXIT_API_UNREACHABLE, f"{api} failed ({status}: {said})")
    if starting:
        why = REFUSALS.get(status, "it was refused")
        return Failure(EXIT_START_REFUSED, f"Airflow did not let the task start: {why} ({status}: {said})")
    return Failure(EXIT_CRASHED, f"{api} refused a report about the task ({status}: {said})")


REFUSALS = {
    401: "the token was not accepted",
    403: (
        "the token was not accepted, as when scheduler and API server differ in [api_auth] jwt_secret (each makes up its own "
        "where none is set), or when it is older than [scheduler] task_queued_timeout"
    ),
    404: "it is not there any more, as after a clear",
    409: "it runs or ended elsewhere",
    410: "it was replaced by a newer try",
}


def chain_of(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an exception and those it came from."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def request_path(error: Any) -> str:
    """Return the path that an HTTP error was about, or nothing where the request never came to be."""
    try:
        return str(error.request.url.path)
    except RuntimeError:
        return ""
