"""A pod's device claims (dynamic resource allocation) as the GPUs that the site says they are.

Flows in: ``spec.resourceClaims`` and a container's ``resources.claims``. A claim itself lives outside the pod, where nobody but
the cluster can read it: ``[modal_executor] resource_claims`` says what it stands for. Flows out: a ``GpuRequest``, for
``gpus.resolve``.
"""

from __future__ import annotations

from collections.abc import Mapping

from modalflow.translation.diagnostics import Diagnostic, did_you_mean
from modalflow.translation.gpus.catalogue import GpuRequest
from modalflow.translation.pods.merge import Piece
from modalflow.translation.report import Place, kind_of, shown

_SOURCES = ("resourceClaimTemplateName", "resourceClaimName")


class Claims:
    """Collects the claims of one pod; ``settle`` after both sides are read."""

    def __init__(self, findings: list[Diagnostic], known: Mapping[str, GpuRequest]) -> None:
        self.refused = False
        self._findings = findings
        self._known = known
        self._declared: dict[str, Piece] = {}
        self._used: dict[str, Piece] = {}

    def read_declared(self, piece: Piece) -> None:
        """Read ``spec.resourceClaims``."""
        for part in self._entries(piece, ("name", *_SOURCES)):
            self._keep(self._declared, part)

    def read_used(self, piece: Piece) -> None:
        """Read ``resources.claims``."""
        for part in self._entries(piece, ("name", "request")):
            if "request" in part.value:
                self._place(part.part(None, "request")).notice("no-effect", "has no effect: a task has all of a claim")
            self._keep(self._used, part)

    def _keep(self, known: dict[str, Piece], part: Piece) -> None:
        name = part.value["name"]
        if name in known:
            self._place(part).error("bad-pod", f"the claim {shown(name)} is there twice", "remove one of them")
        known.setdefault(name, part)

    def settle(self) -> tuple[GpuRequest, Piece] | None:
        """Return the GPUs of the claim that the task's container uses, and where it is declared."""
        chosen: tuple[GpuRequest, Piece] | None = None
        for name, part in self._used.items():
            if name not in self._declared:
                hint = did_you_mean(name, self._declared) or "add it to spec.resourceClaims"
                self._place(part).error("bad-pod", f"no claim {shown(name)} is declared", hint)
        for name, part in self._declared.items():
            if name not in self._used:
                self._place(part).notice("no-effect", "has no effect: the task's container does not use this claim")
                continue
            request = self._meaning(part)
            if request is None:
                self.refused = True
            elif chosen is not None and request:
                origin = self._place(chosen[1]).origin
                self._place(part).error("gpu-conflict", f"asks for GPUs beside {origin}", "keep one of them")
            elif request:
                chosen = request, part
        return chosen

    def _meaning(self, part: Piece) -> GpuRequest | None:
        sources = [part.value[source] for source in _SOURCES if source in part.value]
        if len(sources) != 1 or not isinstance(sources[0], str):
            self._place(part).error("bad-pod", f"expected either {' or '.join(_SOURCES)}")
            return None
        if sources[0] not in self._known:
            self._place(part).error(
                "unknown-claim",
                f"nobody says which GPU the claim {shown(sources[0])} is: it lives in the cluster",
                f'add {{{shown(sources[0])}: {{"gpu": MODEL}}}} to [modal_executor] resource_claims, or write '
                '{"modal": {"gpu": MODEL}}',
            )
            return None
        request = self._known[sources[0]]
        if not request:
            self._place(part).notice("no-effect", "has no effect: [modal_executor] resource_claims says that it is no GPU")
        return request

    def _entries(self, piece: Piece, known: tuple[str, ...]) -> list[Piece]:
        if not isinstance(piece.value, list):
            self._place(piece).error("bad-pod", f"expected a list, got {kind_of(piece.value)}")
            return []
        found = []
        for index, entry in enumerate(piece.value):
            part = piece.part(entry, index)
            if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
                self._place(part).error("bad-pod", "expected a claim with a name")
                continue
            for name in entry:
                if name not in known:
                    hint = did_you_mean(name, known) if isinstance(name, str) else ""
                    self._place(part.part(None, name)).error("unknown-field", "Kubernetes has no such field", hint)
            found.append(part)
        return found

    def _place(self, piece: Piece) -> Place:
        return piece.place(self._findings)
