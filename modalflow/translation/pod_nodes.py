"""Which machine a pod wants, read from its nodeSelector and node affinity: a GPU model and a region.

Flows in: those two pieces of a pod. Flows out: models that all labels agree on (for ``resolve``), a region, and a finding for
every label that chooses nothing on Modal.
"""

from __future__ import annotations

from typing import Literal

from modalflow.translation import pod_verdicts as verdicts
from modalflow.translation.diagnostics import Diagnostic
from modalflow.translation.gpu_labels import LabelMatch, match_label
from modalflow.translation.gpus import CATALOGUE
from modalflow.translation.merge import Setting
from modalflow.translation.pod_merge import Piece
from modalflow.translation.regions import REGION_KEYS, ZONE_KEYS, modal_region, modal_region_of_zone
from modalflow.translation.report import Place, kind_of, shown

REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"

Values = tuple[str, ...]


class NodeChoice:
    """Collects what the labels of one pod say. ``models`` is empty, and ``label`` ``None``, if no label names a GPU.

    ``refused`` tells that a label named one that Modal does not have.
    """

    def __init__(self, findings: list[Diagnostic], on_unsupported: Literal["error", "warn"]) -> None:
        self.models: Values = ()
        self.label: Place | None = None
        self.refused = False
        self._regions: tuple[Values, Piece] | None = None
        self._findings = findings
        self._on_unsupported = on_unsupported

    def settings(self) -> list[Setting]:
        """Return the region, if a label named one."""
        if self._regions is None:
            return []
        values, piece = self._regions
        return [Setting(key="region", value=values, place=piece.place(self._findings), rank=piece.rank)]

    def read_selector(self, piece: Piece) -> None:
        """Read ``nodeSelector``."""
        if not isinstance(piece.value, dict):
            piece.place(self._findings).error("bad-pod", f"expected a mapping, got {kind_of(piece.value)}")
            return
        for key, value in piece.value.items():
            part = piece.part(value, key)
            if isinstance(key, str) and isinstance(value, str):
                self._label(key, (value,), part)
            else:
                part.place(self._findings).error("bad-pod", f"expected text, got {kind_of(value)}")

    def read_affinity(self, piece: Piece) -> None:
        """Read ``nodeAffinity``: a single required term of ``In`` expressions, whose values are alternatives."""
        if not isinstance(piece.value, dict):
            piece.place(self._findings).error("bad-pod", f"expected a mapping, got {kind_of(piece.value)}")
            return
        for name, value in piece.value.items():
            part = piece.part(value, name)
            if name == PREFERRED:
                self._apply(verdicts.PREFERRED_NODES, part)
            elif name != REQUIRED:
                part.place(self._findings).error("unknown-field", "Kubernetes has no such field")
            else:
                self._required(part)

    def _required(self, piece: Piece) -> None:
        expressions = _single_term(piece.value)
        if expressions is None:
            self._apply(verdicts.REQUIRED_NODES, piece)
            return
        for index, (key, values) in enumerate(expressions):
            self._label(key, values, piece.part(values[0], "nodeSelectorTerms", 0, "matchExpressions", index))

    def _apply(self, verdict: verdicts.Verdict, piece: Piece) -> None:
        verdicts.apply(verdict, piece.value, piece.place(self._findings), self._on_unsupported)

    def _label(self, key: str, values: Values, piece: Piece) -> None:
        matches = [match_label(key, value) for value in values]
        about_gpus = [match for match in matches if match is not None]
        if about_gpus:
            self._gpu(key, values, about_gpus, piece)
        elif key in REGION_KEYS or key in ZONE_KEYS:
            self._region(key, values, piece)
        else:
            for value in values:
                self._apply(verdicts.NODE_LABELS.get(key, verdicts.OTHER_LABEL), piece._replace(value=value))

    def _gpu(self, key: str, values: Values, matches: list[LabelMatch], piece: Piece) -> None:
        place = piece.place(self._findings)
        text = " or ".join(shown(value) for value in values)
        wrong = next((match for match in matches if match.kind in {"near", "absent", "unknown"}), None)
        if wrong is not None:
            self.refused = True
            self._refuse(wrong, text, place)
            return
        named = tuple(dict.fromkeys(model for match in matches for model in match.models))
        if not named:
            place.notice("no-effect", f"has no effect: {key}={text} names no GPU model")
            return
        if self.label is None:
            self.models, self.label = named, place
            return
        agreed = tuple(model for model in self.models if model in named)
        if agreed:
            self.models = agreed
        else:
            place.error("gpu-conflict", f"{text} is not the GPU of {self.label.origin}", "keep one of them")

    def _refuse(self, match: LabelMatch, text: str, place: Place) -> None:
        if match.kind == "near":
            place.error("gpu-not-on-modal", f"Modal has no {text}", f'the nearest is {{"modal": {{"gpu": "{match.models[0]}"}}}}')
        elif match.kind == "absent":
            place.error("gpu-not-on-modal", f"Modal has NVIDIA GPUs only, no {text}", 'write {"modal": {"gpu": MODEL}}')
        else:
            known = ", ".join(model.name for model in CATALOGUE if model.exact)
            place.error("unknown-gpu", f"no GPU is known for {text}", f'write {{"modal": {{"gpu": MODEL}}}}; Modal has {known}')

    def _region(self, key: str, values: Values, piece: Piece) -> None:
        place = piece.place(self._findings)
        zones = key in ZONE_KEYS
        found = tuple(dict.fromkeys(modal_region_of_zone(value) if zones else modal_region(value) for value in values))
        text = " or ".join(shown(value) for value in values)
        regions = tuple(region for region in found if region is not None)
        if len(regions) != len(found):
            place.error("unknown-region", f"no Modal region is known for {text}", 'write {"modal": {"region": REGION}}')
            return
        if zones:
            place.warn("zone", f"Modal offers no zones: {text} is widened to the region {', '.join(regions)}")
        if self._regions is not None and self._regions[0] != regions:
            origin = self._regions[1].place(self._findings).origin
            place.error("region-conflict", f"{text} is not the region of {origin}", "keep one of them")
            return
        self._regions = self._regions or (regions, piece)


def _single_term(required: object) -> list[tuple[str, Values]] | None:
    """Return (key, values) of each expression if ``required`` is one term of well-formed ``In`` expressions."""
    terms = required.get("nodeSelectorTerms") if isinstance(required, dict) and len(required) == 1 else None
    if not isinstance(terms, list) or len(terms) != 1 or not isinstance(terms[0], dict) or set(terms[0]) != {"matchExpressions"}:
        return None
    found: list[tuple[str, Values]] = []
    expressions = terms[0]["matchExpressions"]
    for expression in expressions if isinstance(expressions, list) else [None]:
        if not isinstance(expression, dict) or set(expression) != {"key", "operator", "values"} or expression["operator"] != "In":
            return None
        key, values = expression["key"], expression["values"]
        if not isinstance(key, str) or not isinstance(values, list) or not values or not all(isinstance(v, str) for v in values):
            return None
        found.append((key, tuple(values)))
    return found or None
