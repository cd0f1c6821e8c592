"""Which machine a pod wants, read from its nodeSelector and node affinity: GPU models and a region.

Flows in: those two pieces of a pod. Flows out: for ``resolve``, the models that meet what is required, ranked by what is
preferred; a region; and a finding for every requirement that chooses nothing on Modal. ``gpus.demands`` reads single labels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from modalflow.translation.diagnostics import Diagnostic, Severity, did_you_mean
from modalflow.translation.gpus.demands import Demand, Strength, Unclear, Values, Wish
from modalflow.translation.inputs import TranslationOptions
from modalflow.translation.merge import Setting
from modalflow.translation.pods.merge import Piece
from modalflow.translation.pods.node_terms import join
from modalflow.translation.report import Place, kind_of, shown

REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"

_OPERATORS = ("In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt")
_WITHOUT_VALUES = ("Exists", "DoesNotExist")
_WITH_ONE_VALUE = ("Gt", "Lt")
_HEAVIEST = 100
_EXAMPLE = "{key: nvidia.com/gpu.product, operator: In, values: [NVIDIA-L4]}"

_Expression = tuple[str, str, Values, Piece]


class NodeChoice:
    """Collects what the labels of one pod say; complete after ``settle``.

    ``models`` are those that meet what is required, best first (empty: nothing is said about models), ``strength`` how firmly.
    ``preferred`` are models that are merely preferred, best first. ``label`` and ``preferred_label`` are where they are named.
    ``refused`` tells that hardware was named that Modal does not have; ``without_gpu`` is where the machine is said to have none.
    ``pairs`` are the regions of each model where they differ (``()``: anywhere), ``paired`` where the first of them is named.
    ``unclear`` are labels that may choose a GPU by a word of their own; ``pinned`` tells that an H100 may not become an H200.
    """

    def __init__(self, findings: list[Diagnostic], options: TranslationOptions) -> None:
        self.models: Values = ()
        self.strength = Strength.NONE
        self.label: Place | None = None
        self.preferred: Values = ()
        self.preferred_label: Place | None = None
        self.refused = False
        self.without_gpu: Place | None = None
        self.unclear: tuple[Unclear, ...] = ()
        self.pinned = False
        self.pairs: Mapping[str, Values] = {}
        self.paired: Piece | None = None
        self._findings = findings
        self._options = options
        self._base = Wish(findings, options)
        self._regions: tuple[Values, Piece] | None = None
        self._affinity: Piece | None = None

    def settings(self) -> list[Setting]:
        """Return the region, if a label named one."""
        if self._regions is None:
            return []
        values, piece = self._regions
        return [Setting(key="region", value=values, place=piece.place(self._findings), rank=piece.rank)]

    def read_selector(self, piece: Piece) -> None:
        """Read ``nodeSelector``."""
        if not isinstance(piece.value, dict):
            self._malformed(piece, "expected a mapping")
            return
        before = len(self._findings)
        for key, value in piece.value.items():
            part = piece.part(value, key)
            if isinstance(key, str) and isinstance(value, str):
                self._base.require(key, "In", (value,), part)
            else:
                self._malformed(part, "expected text")
        self.refused = any(d.code in _REFUSED for d in self._findings[before:] if d.severity is Severity.ERROR)

    def read_affinity(self, piece: Piece) -> None:
        """Keep ``nodeAffinity`` for ``settle``: it is read on top of the whole ``nodeSelector``."""
        self._affinity = piece

    def settle(self) -> None:
        """Decide, once the selector is read."""
        chosen, preferences = self._base, None
        if self._affinity is not None:
            for part in self._fields(self._affinity, (REQUIRED, PREFERRED)):
                if part.path[-1] == PREFERRED:
                    preferences = part
                else:
                    chosen = self._required(part)
        self._regions = chosen.regions
        self.pinned = chosen.pinned
        if chosen.unclear:
            self.unclear = tuple(entry._replace(place=entry.place.into(self._findings)) for entry in chosen.unclear)
        self.without_gpu = None if chosen.without_gpu is None else chosen.without_gpu.into(self._findings)
        leader = chosen.strongest
        if leader is not None:
            self.models, self.strength, self.label = chosen.models(), leader.strength, leader.place.into(self._findings)
        if preferences is not None:
            self._prefer(preferences)
        # A label that leaves the memory open means "A100", which Modal may make an A100-80GB by itself.
        is_open = self.strength is Strength.NAMES and "A100" in self.models and not self.pairs
        open_size = self.models.index("A100") if is_open else len(self.models)
        self.models = tuple(m for i, m in enumerate(self.models) if i <= open_size or not m.startswith("A100-"))

    def narrow(self, named: Values, limit: Place) -> None:
        """Hold what the labels allow against the models that the limit's own name stands for (``nvidia.com/a100``)."""
        both = tuple(model for model in self.models if model in named) if self.strength else named
        if not both and self.label is not None:
            self.label.error("gpu-conflict", f"does not allow {named[0]} of {limit.origin}", "keep one of them")
            self.refused = True
            return
        self.models = ("A100",) if both[0] == "A100" else both
        self.strength, self.label = Strength.NAMES, limit

    def _required(self, piece: Piece) -> Wish:
        """Return the one wish that the terms, which are alternatives, come to."""
        alternatives: list[Wish] = []
        for part in self._fields(piece, ("nodeSelectorTerms",)):
            if not isinstance(part.value, list) or not part.value:
                self._malformed(part, "expected a list of at least one term")
                return self._base
            for index, term in enumerate(part.value):
                wish = Wish([], self._options, self._base)
                self._term(part.part(term, index), wish)
                alternatives.append(wish)
        if not alternatives:
            return self._base
        possible = [wish for wish in alternatives if not wish.failed]
        if not possible and (nowhere := [wish for wish in alternatives if wish.failed_for_its_region]):
            self._findings += [finding for wish in alternatives for finding in wish.findings]
            return self._together(nowhere)
        if not possible:
            for wish in alternatives:
                self._findings += wish.findings
            self.refused = self.refused or any(d.code in _REFUSED for wish in alternatives for d in wish.findings)
            return self._base
        for wish in alternatives:
            self._findings += (
                [_left_out(d) for d in wish.findings if d.severity is Severity.ERROR] if wish.failed else wish.findings
            )
        return self._together(possible)

    def _together(self, possible: list[Wish]) -> Wish:
        joined = join(possible)
        self.pairs, self.paired = joined.pairs, joined.paired
        for wish in joined.unused:
            self._tell_unused(wish)
        return joined.wish

    def _tell_unused(self, wish: Wish) -> None:
        place = wish.strongest.place if wish.strongest else wish.regions[1].place(self._findings) if wish.regions else None
        if place is not None:
            message = "this alternative is left out: it leaves the model open, and another one names it"
            place.into(self._findings).notice("alternative-left-out", message)

    def _prefer(self, piece: Piece) -> None:
        """Rank by the weights of the preferences that each model meets. What cannot be had is no error: it was a preference."""
        if not isinstance(piece.value, list):
            self._malformed(piece, "expected a list")
            return
        met: list[tuple[int, Demand, Values]] = []
        for index, entry in enumerate(piece.value):
            wish = Wish([], self._options)
            weight = self._preference(piece.part(entry, index), wish)
            self._findings += [_no_effect(d) for d in wish.findings]
            near = self._near(wish)
            if wish.regions is not None and not near:
                wish.regions[1].place(self._findings).warn(
                    "dropped",
                    "is not honoured: a region that is named on Modal is a must, and raises the price",
                    'write {"modal": {"region": REGION}} to have it',
                )
            leader = wish.strongest
            if near and weight is not None and not wish.failed and self.label is not None:
                met.append((weight, leader or Demand(near, Strength.EXCLUDES, self.label), near))
            elif weight is not None and not wish.failed and leader is not None:
                met.append((weight, leader, wish.models()))
        score: dict[str, int] = {}
        for weight, _, models in met:
            for model in models:
                score[model] = score.get(model, 0) + weight
        named = [(leader, models) for _, leader, models in met if leader.strength >= Strength.BOUNDS]
        pool = self.models or tuple(dict.fromkeys(model for _, models in named for model in models))
        ranked = tuple(sorted(pool, key=lambda model: -score.get(model, 0)))
        if self.models and self.strength >= Strength.BOUNDS:
            self.models = ranked
        elif named:
            self.preferred = tuple(m for m in ranked if score.get(m, 0) > 0)
            best = next((leader for leader, models in named if self.preferred[:1] and self.preferred[0] in models), named[0][0])
            self.preferred_label = best.place.into(self._findings)

    def _near(self, preference: Wish) -> Values:
        """Return the models of a preference that are asked for in no region but its own, where models have their own regions."""
        if preference.regions is None:
            return ()
        wanted, named = set(preference.regions[0]), preference.models()
        there = [model for model, regions in self.pairs.items() if regions and wanted.issuperset(regions)]
        return tuple(model for model in there if not named or model in named)

    def _preference(self, piece: Piece, wish: Wish) -> int | None:
        weight: object = None
        for part in self._fields(piece, ("weight", "preference")):
            if part.path[-1] == "preference":
                self._term(part, wish)
            elif type(part.value) is int and 1 <= part.value <= _HEAVIEST:
                weight = part.value
            else:
                part.place(self._findings).error("bad-pod", f"expected a weight of 1 to {_HEAVIEST}, got {shown(part.value)}")
                return None
        if weight is None:
            self._malformed(piece, f"expected a weight of 1 to {_HEAVIEST} and a preference")
        return weight if isinstance(weight, int) else None

    def _term(self, piece: Piece, wish: Wish) -> None:
        parts = self._fields(piece, ("matchExpressions", "matchFields"))
        expressions = 0
        for part in parts:
            if not isinstance(part.value, list):
                self._malformed(part, "expected a list")
                continue
            for index, entry in enumerate(part.value):
                expressions += 1
                expression = self._expression(part.part(entry, index))
                if part.path[-1] == "matchFields":
                    part.part(entry, index).place(wish.findings).error("refused-field", "there is no such node", "remove it")
                elif expression is not None:
                    wish.require(*expression)
        if not expressions:
            piece.place(wish.findings).error("bad-pod", "an empty term matches no machine", f"write e.g. {_EXAMPLE}")

    def _expression(self, piece: Piece) -> _Expression | None:
        before = len(self._findings)
        found = {part.path[-1]: part.value for part in self._fields(piece, ("key", "operator", "values"))}
        if len(self._findings) > before:
            return None
        key, operator, values = found.get("key"), found.get("operator"), found.get("values", [])
        if not isinstance(key, str) or not isinstance(values, list) or not all(isinstance(value, str) for value in values):
            self._malformed(piece, "expected a key, an operator and a list of texts", f"write e.g. {_EXAMPLE}")
            return None
        if operator not in _OPERATORS:
            hint = did_you_mean(operator, _OPERATORS) if isinstance(operator, str) else ""
            piece.place(self._findings).error(
                "bad-pod", f"unknown operator {shown(operator)}", hint or f"known: {', '.join(_OPERATORS)}"
            )
            return None
        takes = "no values" if operator in _WITHOUT_VALUES else "one value" if operator in _WITH_ONE_VALUE else "values"
        fits = {"no values": not values, "one value": len(values) == 1, "values": bool(values)}[takes]
        if not fits:
            piece.place(self._findings).error("bad-pod", f"{operator} takes {takes}, got {len(values)}")
            return None
        return key, operator, tuple(values), piece.part(values[0] if values else operator)

    def _fields(self, piece: Piece, known: tuple[str, ...]) -> list[Piece]:
        """Return the parts of a mapping; a field that Kubernetes does not have is reported."""
        if not isinstance(piece.value, dict):
            self._malformed(piece, "expected a mapping")
            return []
        for name in piece.value:
            if name not in known:
                hint = did_you_mean(name, known) if isinstance(name, str) else ""
                piece.part(None, name).place(self._findings).error("unknown-field", "Kubernetes has no such field", hint)
        return [piece.part(piece.value[name], name) for name in piece.value if name in known]

    def _malformed(self, piece: Piece, expected: str, hint: str = "") -> None:
        piece.place(self._findings).error("bad-pod", f"{expected}, got {kind_of(piece.value)}", hint)


_REFUSED = frozenset({"gpu-not-on-modal", "unknown-gpu", "gpu-conflict", "no-gpu-fits", "bad-pod"})


def _left_out(finding: Diagnostic) -> Diagnostic:
    message = f"this alternative is left out: {finding.message}"
    return replace(finding, code="alternative-not-on-modal", severity=Severity.NOTICE, message=message, hint="")


def _no_effect(finding: Diagnostic) -> Diagnostic:
    """Turn what a requirement would fail with into what a preference merely loses."""
    if finding.severity is not Severity.ERROR:
        return finding
    message = f"this preference has no effect: {finding.message}"
    return replace(finding, code="preference-not-on-modal", severity=Severity.NOTICE, message=message, hint="")
