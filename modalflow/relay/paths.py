"""Which requests are the execution API's. Pure.

In: the request line and headers as they came. Out: the rest of the path behind ``/execution/``, or why it is refused. A path is
refused if any reading of it, decoded once or more, leads out of ``/execution/``: what lies before the API (nginx, a load
balancer) may decode and tidy paths in its own way. Encoded slashes as such are the task SDK's own (keys of the task store,
Airflow 3.3.2).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import unquote

PREFIX = "/execution/"
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"})
LONGEST_TARGET = 8190
"""Bytes of path and query: what the parser takes of a request line too."""

_ALLOWED = re.compile(r"[!$&'()*+,\-./0-9:;=@A-Z_a-z~%]*", re.ASCII)
_QUERY = re.compile(r"[!$&'()*+,\-./0-9:;=@A-Z_a-z~%?]*", re.ASCII)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_DECODINGS = 4

PASSED_ON = frozenset(
    {
        "accept", "accept-encoding", "airflow-api-version", "authorization", "content-type", "content-encoding", "correlation-id",
        "traceparent", "tracestate", "baggage", "user-agent",
    }
)  # fmt: skip
"""Headers of a request that reach the API (what the task SDK sends, and tracing). Not ``host``, ``cookie``, ``forwarded`` and the
like: a task shall not tell the API who it is or by which name it came."""

ANSWERED_WITH = frozenset({"content-type", "content-encoding", "correlation-id", "refreshed-api-token", "retry-after", "vary"})
"""Headers of an answer that reach the task, beside the API's own ``airflow-*`` and ``x-airflow-*``."""


class Refused(Exception):
    """A request that does not come through; ``status`` is what it is answered, the text why."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


def below(method: str, target: str) -> str:
    """Return path and query behind ``/execution/``, as they came. Raises ``Refused``."""
    if method not in METHODS:
        raise Refused(405, "this method is not the execution API's")
    path, mark, query = target.partition("?")
    if len(target) > LONGEST_TARGET or not path.startswith(PREFIX):
        raise Refused(404, "only the execution API is here")
    if not _ALLOWED.fullmatch(path) or not _QUERY.fullmatch(query):
        raise Refused(400, "a path or query that is not written as a URL is")
    for reading in _readings(path):
        if _CONTROL.search(reading) or _climbs(reading):
            raise Refused(404, "only the execution API is here")
    return f"{path.removeprefix(PREFIX)}{mark}{query}"


def _readings(path: str) -> Iterable[str]:
    yield path
    for _ in range(_DECODINGS):
        decoded = unquote(path, errors="replace")
        if decoded == path:
            return
        yield decoded
        path = decoded
    raise Refused(404, "only the execution API is here")


def _climbs(path: str) -> bool:
    """Whether a segment is ``.`` or ``..``, also as Windows and Java servers spell them."""
    return any(part.partition(";")[0] in {".", ".."} for part in re.split(r"[/\\]", path))


def check_upgrade(headers: Iterable[str]) -> None:
    """Refuse what asks for another protocol. Raises ``Refused``."""
    if any(name.lower() in {"upgrade", "http2-settings"} for name in headers):
        raise Refused(400, "the execution API speaks HTTP only")


def passes(name: str) -> bool:
    """Whether a header of a request reaches the API."""
    return name.lower() in PASSED_ON


def comes_back(name: str) -> bool:
    """Whether a header of an answer reaches the task."""
    low = name.lower()
    return low in ANSWERED_WITH or low.startswith(("airflow-", "x-airflow-"))
