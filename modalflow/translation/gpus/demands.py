"""What the labels of one kind of machine ask for: models that all of them agree on, a region, and what cannot be had.

Flows in: single requirements on labels (``nodeSelector`` entries and expressions of node affinity) from ``pods.nodes``. Flows
out: a ``Wish``, with a finding for every requirement that chooses nothing on Modal.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum
from typing import NamedTuple

from modalflow.translation.diagnostics import Diagnostic, Severity
from modalflow.translation.gpus.catalogue import CATALOGUE, GpuSubstitution, model_of, priced
from modalflow.translation.gpus.label_tables import LabelMatch, union
from modalflow.translation.gpus.labels import (
    ACCELERATOR_KEYS,
    COUNT_KEYS,
    FREE_KEYS,
    INSTANCE_KEYS,
    MANUFACTURER_KEYS,
    MEMORY_KEYS,
    SIZE_KEYS,
    SLICE_KEYS,
    TPU_KEY,
    VAGUE_KEYS,
    is_gpu_key,
    match_bound,
    match_label,
)
from modalflow.translation.inputs import TranslationOptions
from modalflow.translation.pods import verdicts
from modalflow.translation.pods.merge import Piece
from modalflow.translation.regions import REGION_KEYS, WIDE, ZONE_KEYS, modal_region, modal_region_of_zone
from modalflow.translation.report import Place, shown

Values = tuple[str, ...]
_OF_ALL_MACHINES = frozenset(
    {*REGION_KEYS, *ZONE_KEYS, *INSTANCE_KEYS}
    | {"kubernetes.io/arch", "beta.kubernetes.io/arch", "kubernetes.io/os", "beta.kubernetes.io/os", "kubernetes.io/hostname"}
)
_LARGEST = 10_000_000
_OF_SOME_GPUS = (
    *("nvidia.com/mig", "nvidia.com/mps.", "nvidia.com/vgpu.", "nvidia.com/gpu.deploy.", "nvidia.com/gpu.replicas"),
    *("nvidia.com/gpu.sharing-strategy", "nvidia.com/gpu.mode", "cloud.google.com/gke-gpu-driver-version"),
)
"""Starts of labels about how a GPU is shared or managed: a machine without one of them may well have GPUs."""


class Strength(IntEnum):
    """How a requirement narrows the models: excludes some, bounds them by a number, names them, or names a part of one."""

    NONE = 0
    EXCLUDES = 1
    BOUNDS = 2
    NAMES = 3
    SLICE = 4


class Demand(NamedTuple):
    """One requirement that says something about the model. ``strict``: it is about the card, not about its name."""

    models: Values
    strength: Strength
    place: Place
    strict: bool = False


class Unclear(NamedTuple):
    """A label of somebody's own that seems to choose a GPU, as ``key=value``, and the models whose names are in it."""

    place: Place
    label: str
    models: Values


class Wish:
    """Requirements that one machine must meet all of.

    ``without_gpu`` is where it is said to have none. ``pinned``: an H100 that Modal makes an H200 would not meet them.
    """

    def __init__(self, findings: list[Diagnostic], options: TranslationOptions, base: Wish | None = None) -> None:
        self.findings = findings
        self.demands: list[Demand] = [] if base is None else list(base.demands)
        self.regions: tuple[Values, Piece] | None = None if base is None else base.regions
        self.without_gpu: Place | None = None if base is None else base.without_gpu
        self.unclear: list[Unclear] = [] if base is None else list(base.unclear)
        self.pinned: bool = False if base is None else base.pinned
        self._options = options

    @property
    def failed(self) -> bool:
        """Tell whether some requirement cannot be met."""
        return any(finding.severity is Severity.ERROR for finding in self.findings)

    @property
    def failed_for_its_region(self) -> bool:
        """Tell whether nothing but the region is wrong: the models still hold."""
        wrong = {finding.code for finding in self.findings if finding.severity is Severity.ERROR}
        return bool(wrong) and wrong <= {"unknown-region", "region-conflict", "region-excluded"}

    @property
    def strongest(self) -> Demand | None:
        """The first of the most telling requirements: the one that chose the model."""
        return max(self.demands, key=lambda demand: demand.strength, default=None)

    def models(self) -> Values:
        """Return the models that meet every requirement, best first; empty if none says anything."""
        leader = self.strongest
        if leader is None or leader.strength is Strength.SLICE:
            return () if leader is None else leader.models
        models = tuple(m for m in leader.models if all(m in demand.models for demand in self.demands))
        if leader.strength < Strength.NAMES:
            models = tuple(m for m in models if model_of(m).exact)
        elif "A100" in models and len(leader.models) > 1 and not {"A100-40GB", "A100-80GB"} <= set(models):
            models = tuple(m for m in models if m != "A100")  # Modal might make it the one that is not allowed
        return models

    def require(self, key: str, operator: str, values: Values, piece: Piece) -> None:
        """Read one requirement. ``operator`` is one of Kubernetes', with as many values as it takes."""
        if operator == "In":
            self._in(key, values, piece)
        elif operator == "NotIn":
            self._not_in(key, values, piece)
        elif operator == "Exists":
            self._exists(key, piece)
        elif operator == "DoesNotExist":
            self._does_not_exist(key, piece)
        else:
            self._bound(key, operator, values[0], piece)

    def _place(self, piece: Piece) -> Place:
        return piece.place(self.findings)

    def _matches(self, key: str, values: Values) -> Iterator[tuple[str, LabelMatch]]:
        for value in values:
            match = match_label(key, value, self._options.labels)
            if match is not None:
                yield value, match

    def _in(self, key: str, values: Values, piece: Piece) -> None:
        matches = list(self._matches(key, values))
        if len(matches) == 1 and matches[0][1].plain:  # nearly always
            self._demand(Demand(models=matches[0][1].models, strength=Strength.NAMES, place=self._place(piece)), _either(values))
        elif any(match.kind != "unclear" for _, match in matches):
            self._gpu(key, values, matches, piece)
        elif key in REGION_KEYS or key in ZONE_KEYS:
            self._region(key, values, piece)
        else:
            if matches:
                label = f"{key}={matches[0][0]}"
                self.unclear.append(Unclear(self._place(piece), label, union(match for _, match in matches)))
            verdict = verdicts.NODE_LABELS.get(key, verdicts.OTHER_LABEL)
            harmless = [value for value in values if value in verdict.harmless]
            for value in harmless[:1] or values:
                verdicts.apply(verdict, value, self._place(piece))

    def _not_in(self, key: str, values: Values, piece: Piece) -> None:
        place = self._place(piece)
        text = _either(values)
        verdict = verdicts.NODE_LABELS.get(key)
        if key in REGION_KEYS:
            place.error("region-excluded", f"regions can be named, not excluded: {text}", 'write {"modal": {"region": [...]}}')
        elif key in ZONE_KEYS:
            place.warn("zone", f"Modal offers no zones: {text} cannot be excluded")
        elif verdict is not None and any(value in verdict.harmless for value in values):
            place.error("refused-field", f"excludes {text}: {verdict.reason}", verdict.hint)
        elif key in MANUFACTURER_KEYS and "nvidia" in {value.lower() for value in values}:
            place.error("gpu-not-on-modal", f"excludes {text}: Modal has NVIDIA GPUs only", "remove it")
        elif key in VAGUE_KEYS and key not in COUNT_KEYS and "true" in {value.lower() for value in values}:
            if key.startswith(_OF_SOME_GPUS):
                place.notice("no-effect", "this is how a sandbox is anyway")
            else:
                self._forbid_gpu(place)
        elif key in INSTANCE_KEYS:
            place.notice("no-effect", f"has no effect: it excludes the machine {text}, not a GPU model")
        else:
            gone = set(union(match for _, match in self._matches(key, values) if match.kind in {"exact", "bound"}))
            self._exclude(gone, text, place)

    def _exclude(self, gone: set[str], text: str, place: Place) -> None:
        if not gone:
            place.notice("no-effect", f"has no effect: Modal has no machine of {text}")
            return
        # A name that lets Modal choose goes with any model that it may become: A100 with A100-80GB. An H100 can be pinned.
        left = tuple(m.name for m in CATALOGUE if m.name not in gone and (m.exact or not gone.intersection(m.becomes)))
        self._demand(Demand(models=left, strength=Strength.EXCLUDES, place=place, strict=True), f"without {text}")

    def _exists(self, key: str, piece: Piece) -> None:
        place = self._place(piece)
        if key == TPU_KEY or key in ACCELERATOR_KEYS:
            place.error("gpu-not-on-modal", "Modal has NVIDIA GPUs only", 'write {"modal": {"gpu": MODEL}}')
        elif is_gpu_key(key) or key in FREE_KEYS:
            place.notice("no-effect", f"has no effect: that {key} exists names no GPU model")
        elif key in _OF_ALL_MACHINES:
            place.notice("no-effect", "this is how a sandbox is anyway")
        else:
            verdict = verdicts.NODE_LABELS.get(key, verdicts.OTHER_LABEL)
            verdicts.apply(verdict, next(iter(verdict.harmless), None), place)

    def _does_not_exist(self, key: str, piece: Piece) -> None:
        place = self._place(piece)
        if key in _OF_ALL_MACHINES:
            place.error("refused-field", f"every machine has {key}", "remove it")
        elif key != TPU_KEY and key not in ACCELERATOR_KEYS and is_gpu_key(key) and not key.startswith(_OF_SOME_GPUS):
            self._forbid_gpu(place)
        else:
            place.notice("no-effect", "this is how a sandbox is anyway")

    def _forbid_gpu(self, place: Place) -> None:
        self.without_gpu = self.without_gpu or place
        place.notice("no-effect", "has no effect: a sandbox has a GPU only if the task asks for one")

    def _bound(self, key: str, operator: str, value: str, piece: Piece) -> None:
        place = self._place(piece)
        if not (value.isascii() and value.removeprefix("-").isdigit() and len(value) < len(str(_LARGEST))):
            place.error("bad-pod", f"{operator} compares with one whole number, got {shown(value)}")
            return
        match = match_bound(key, int(value), above=operator == "Gt")
        if match is None:
            verdicts.apply(verdicts.OTHER_LABEL, value, place)
        elif match.kind == "vague":
            place.notice("no-effect", f"has no effect: {key} names no GPU model")
        elif not match.models:
            sign = ">" if operator == "Gt" else "<"
            place.error("no-gpu-fits", f"no GPU of Modal's has {key} {sign} {value}", f"Modal has {_known()}")
        else:
            strict = key in MEMORY_KEYS or key in SIZE_KEYS
            self._demand(Demand(models=match.models, strength=Strength.BOUNDS, place=place, strict=strict), f"{operator} {value}")

    def _gpu(self, key: str, values: Values, matches: list[tuple[str, LabelMatch]], piece: Piece) -> None:
        place = self._place(piece)
        text = _either(values)
        usable = [(value, match) for value, match in matches if match.kind in {"exact", "bound"}]
        lacking = [(value, match) for value, match in matches if match.kind in {"near", "absent", "unknown"}]
        if lacking and not usable:
            usable = self._lacking(lacking, place)
            if not usable:
                return
        elif lacking:
            left_out = _either(tuple(value for value, _ in lacking))
            place.notice("alternative-not-on-modal", f"Modal has no {left_out}; the other values remain")
        models = union(match for _, match in usable)
        if not models and key in VAGUE_KEYS and not key.startswith(_OF_SOME_GPUS) and _are_no(values):
            self._forbid_gpu(place)
            return
        if not models:
            place.notice("no-effect", f"has no effect: {key}={text} names no GPU model")
            return
        self._tell(usable, place)
        if key in SLICE_KEYS and any(match.share for _, match in usable):
            self.demands.append(Demand(models=models, strength=Strength.SLICE, place=place))
            return
        bound = all(match.kind == "bound" for _, match in usable)
        if key in SIZE_KEYS:  # in words of the site's own: it may also be the memory of all GPUs of a machine
            self.unclear.append(Unclear(place, f"{key}={values[0]}", ()))
            bound = True
        strength = Strength.BOUNDS if bound else Strength.NAMES
        self._demand(Demand(models=models, strength=strength, place=place, strict=key in MEMORY_KEYS or key in SIZE_KEYS), text)

    def _lacking(self, lacking: list[tuple[str, LabelMatch]], place: Place) -> list[tuple[str, LabelMatch]]:
        """Report what Modal lacks, and return what stands in for it under ``gpu_substitution = nearest``."""
        near = [(value, match) for value, match in lacking if match.kind == "near"]
        if near:
            text = _either(tuple(value for value, _ in near))
            substitute(text, union(match for _, match in near), _reason(near), place, self._options.gpu_substitution)
            return near if self._options.gpu_substitution == "nearest" else []
        value, match = lacking[0]
        if match.kind == "absent":
            refuse_absent(shown(value), match.reason, place)
        else:
            known = ", ".join(model.name for model in CATALOGUE if model.exact)
            hint = f'write {{"modal": {{"gpu": MODEL}}}}; Modal has {known}'
            place.error("unknown-gpu", f"no GPU is known for {_either(tuple(v for v, _ in lacking))}", hint)
        return []

    def _tell(self, matches: list[tuple[str, LabelMatch]], place: Place) -> None:
        """Say what a label does not say by itself."""
        for value, match in matches:
            if match.free:
                models = ("A100",) if match.models[0] == "A100" else match.models
                place.warn("free-text-label", f"{shown(value)} is taken for the GPU {' or '.join(models)}")
            if match.share and match.kind == "exact":
                place.notice(
                    "whole-gpu", f"{shown(value)} is a share of a GPU; Modal rents whole ones: {' or '.join(match.models)}"
                )

    def _demand(self, new: Demand, text: str) -> None:
        if new.strict and "H100" in new.models and not set(model_of("H100").becomes) <= set(new.models):
            self.pinned = True
        before = self.models() if self.demands else ()
        self.demands.append(new)
        if not before or self.models():
            return
        self.demands.pop()
        clashing = [d.place for d in self.demands if not set(d.models) & set(new.models)] or [d.place for d in self.demands]
        origins = " and ".join(str(place.origin) for place in clashing)
        new.place.error("gpu-conflict", f"{text} is not the GPU of {origins}", "keep one of them")

    def _region(self, key: str, values: Values, piece: Piece) -> None:
        place = self._place(piece)
        zones = key in ZONE_KEYS
        found = tuple(dict.fromkeys(modal_region_of_zone(value) if zones else modal_region(value) for value in values))
        text = _either(values)
        regions = tuple(region for region in found if region is not None)
        if len(regions) != len(found):
            place.error("unknown-region", f"no Modal region is known for {text}", 'write {"modal": {"region": REGION}}')
            return
        if zones:
            place.warn("zone", f"Modal offers no zones: {text} is widened to the region {', '.join(regions)}")
        elif wide := [region for region in regions if region in WIDE]:
            place.warn("region-widened", f"Modal names no region as narrow as {text}: it is widened to {', '.join(wide)}")
        if self.regions is not None and self.regions[0] != regions:
            both = tuple(region for region in self.regions[0] if region in regions)
            if not both:
                origin = self._place(self.regions[1]).origin
                place.error("region-conflict", f"{text} is not the region of {origin}", "keep one of them")
                return
            regions, piece = both, self.regions[1] if len(both) == len(self.regions[0]) else piece
        self.regions = regions, piece


def _are_no(values: Values) -> bool:
    return all(value.lower() in {"false", "0", "no"} for value in values)


def substitute(text: str, models: Values, reason: str, place: Place, substitution: GpuSubstitution) -> None:
    """Report hardware that Modal lacks: an error that lists the nearest, or a warning that the nearest is used."""
    told = f"; {reason}" if reason else ""
    if substitution == "nearest":
        place.warn("gpu-substituted", f"Modal has no {text}: the nearest is used, {priced(models)}{told}")
        return
    hint = f'write {{"modal": {{"gpu": "{models[0]}"}}}}, or [modal_executor] gpu_substitution = nearest'
    place.error("gpu-not-on-modal", f"Modal has no {text}; the nearest: {priced(models)}{told}", hint)


def refuse_absent(text: str, reason: str, place: Place) -> None:
    """Refuse hardware that nothing of Modal's is like; ``reason`` finishes the sentence "… is"."""
    place.error("gpu-not-on-modal", f"{text} is {reason}; Modal has NVIDIA GPUs on amd64 only", 'write {"modal": {"gpu": MODEL}}')


def _reason(matches: list[tuple[str, LabelMatch]]) -> str:
    if any(match.share for _, match in matches):
        return "Modal rents whole GPUs, no parts of them"
    return next((match.reason for _, match in matches if match.reason), "")


def _known() -> str:
    return ", ".join(f"{m.name} ({m.memory} GiB, {m.capability})" for m in CATALOGUE if m.exact)


def _either(values: Values) -> str:
    return " or ".join(shown(value) for value in values)
