"""What a pod has done at the start and the end of its container: lifecycle hooks, the stop signal, the grace period.

Flows in: ``terminationGracePeriodSeconds`` and the main container's ``lifecycle``. Flows out: a ``GracePlan``, which ``launch``
and ``worker/stopping.py`` carry out when Airflow takes the task back, and the ``HookPlan`` of postStart.
"""

from __future__ import annotations

import signal
from typing import Any

from modalflow.translation.diagnostics import Diagnostic, did_you_mean
from modalflow.translation.pods.merge import Piece
from modalflow.translation.report import kind_of, shown
from modalflow.translation.setup_plan import GracePlan, HookPlan

KUBERNETES_GRACE = 30
"""Seconds that Kubernetes gives a pod that does not say."""
LONGEST_GRACE = 86_400
_HANDLERS = ("exec", "httpGet", "sleep", "tcpSocket")
_LIFECYCLE = ("preStop", "postStart", "stopSignal")
_REQUEST = ("path", "port", "host", "scheme", "httpHeaders")


class EndOfPod:
    """Reads how a pod starts and ends. ``post_start`` holds its hook; ``grace`` is known once both fields were read."""

    def __init__(self, findings: list[Diagnostic]) -> None:
        self.post_start: HookPlan | None = None
        self._findings = findings
        self._seconds: int | None = None
        self._signal: str | None = None
        self._pre_stop: HookPlan | None = None

    @property
    def grace(self) -> GracePlan | None:
        """The time (0: none) and the manner in which a task ends that is to stop; ``None``: the pod does not say."""
        if self._seconds is None and self._signal is None and self._pre_stop is None:
            return None
        seconds = KUBERNETES_GRACE if self._seconds is None else self._seconds
        return GracePlan(seconds=seconds, signal=self._signal or "SIGTERM", pre_stop=self._pre_stop)

    def read_period(self, piece: Piece) -> None:
        """Read ``terminationGracePeriodSeconds``."""
        place, value = piece.place(self._findings), piece.value
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= LONGEST_GRACE:
            place.error("bad-grace", f"expected seconds from 0 to {LONGEST_GRACE}, got {shown(value)}", "write 30")
            return
        self._seconds = value

    def read_lifecycle(self, piece: Piece) -> None:
        """Read the main container's ``lifecycle``."""
        if not isinstance(piece.value, dict):
            piece.place(self._findings).error("bad-pod", f"expected a mapping, got {kind_of(piece.value)}")
            return
        for name, value in piece.value.items():
            part = piece.part(value, name)
            if name == "preStop":
                self._pre_stop = self._hook(part)
            elif name == "postStart":
                self.post_start = self._hook(part)
            elif name == "stopSignal":
                self._signal = self._read_signal(part)
            else:
                hint = did_you_mean(name, _LIFECYCLE)
                part.place(self._findings).error("unknown-field", "Kubernetes has no such field", hint)

    def _read_signal(self, piece: Piece) -> str | None:
        if isinstance(piece.value, str) and piece.value in signal.Signals.__members__:
            return piece.value
        piece.place(self._findings).error("bad-signal", f"expected a signal of Linux, got {shown(piece.value)}", "write SIGTERM")
        return None

    def _hook(self, piece: Piece) -> HookPlan | None:
        place, value = piece.place(self._findings), piece.value
        if not isinstance(value, dict) or len(value) != 1:
            place.error("bad-hook", "expected one of exec, httpGet and sleep")
            return None
        ((kind, content),) = value.items()
        part = piece.part(content, kind)
        if kind not in _HANDLERS:
            part.place(self._findings).error("unknown-field", "Kubernetes has no such field", did_you_mean(kind, _HANDLERS))
        elif kind == "tcpSocket":
            part.place(self._findings).notice("no-effect", "has no effect: Kubernetes does not run it either")
        elif not isinstance(content, dict):
            part.place(self._findings).error("bad-pod", f"expected a mapping, got {kind_of(content)}")
        else:
            known = {"exec": ("command",), "sleep": ("seconds",), "httpGet": _REQUEST}[kind]
            for field in content:
                if field not in known:
                    unknown = part.place(self._findings).at(field)
                    unknown.error("unknown-field", "Kubernetes has no such field", did_you_mean(field, known))
            read = {"exec": self._command, "sleep": self._sleep, "httpGet": self._request}[kind]
            return read(part, content)
        return None

    def _command(self, piece: Piece, content: dict[str, Any]) -> HookPlan | None:
        words = content.get("command")
        if isinstance(words, list) and words and all(isinstance(word, str) for word in words):
            return HookPlan(argv=tuple(words))
        piece.place(self._findings).error("bad-hook", "expected a command, a list of words")
        return None

    def _sleep(self, piece: Piece, content: dict[str, Any]) -> HookPlan | None:
        seconds = content.get("seconds")
        if isinstance(seconds, int) and not isinstance(seconds, bool) and 0 <= seconds <= LONGEST_GRACE:
            return HookPlan(sleep=seconds)
        piece.place(self._findings).error("bad-hook", f"expected seconds, got {shown(seconds)}")
        return None

    def _request(self, piece: Piece, content: dict[str, Any]) -> HookPlan | None:
        place = piece.place(self._findings)
        port, path, scheme = content.get("port"), content.get("path", "/"), content.get("scheme", "HTTP")
        host, headers = content.get("host", "127.0.0.1"), content.get("httpHeaders", [])
        if isinstance(port, str) and port.isascii() and port.isdigit():
            port = int(port)
        if not isinstance(port, int) or isinstance(port, bool) or not 0 < port < 65_536:  # noqa: PLR2004 - ports of TCP
            place.error("bad-hook", f"expected the number of a port, got {shown(port)}")
        elif scheme not in {"HTTP", "HTTPS"}:
            place.error("bad-hook", f"expected HTTP or HTTPS, got {shown(scheme)}")
        elif not all(isinstance(text, str) and text.isprintable() and " " not in text for text in (path, host)):
            place.error("bad-hook", "expected a path and a host without spaces")
        elif not isinstance(headers, list) or not all(_is_header(header) for header in headers):
            place.error("bad-hook", "expected httpHeaders as a list of mappings with name and value")
        else:
            url = f"{scheme.lower()}://{host}:{port}/{path.lstrip('/')}"
            return HookPlan(url=url, headers=tuple((header["name"], header["value"]) for header in headers))
        return None


def _is_header(header: object) -> bool:
    if not isinstance(header, dict) or set(header) != {"name", "value"}:
        return False
    return all(isinstance(text, str) and text.isprintable() for text in header.values())
