"""The site's own last word on every task: ``modal_task_mutation_hook`` of ``airflow_local_settings``.

Flows in: a resolved ``TaskSpec`` and the hook. Flows out: the spec as the hook wants it, each changed field read by the reader
of the ``modal`` key of that name, with the hook as its origin. ``executor.hooks`` finds it, ``translate.finish`` calls this.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

from modalflow.translation.diagnostics import Diagnostic, Severity
from modalflow.translation.foreign import is_of_the_process
from modalflow.translation.gpus.catalogue import GpuChoice
from modalflow.translation.gpus.resolve import substituted
from modalflow.translation.hooks.types import TaskFacts
from modalflow.translation.inputs import TranslationOptions
from modalflow.translation.keys import KEYS
from modalflow.translation.plan import BucketPlan, SecretPlan, VolumePlan
from modalflow.translation.report import Place, Root, kind_of, shown
from modalflow.translation.resolve import PLAN_NAMES
from modalflow.translation.spec import TaskSpec
from modalflow.translation.volumes import check_once

log = logging.getLogger(__name__)

NAME = "airflow_local_settings.modal_task_mutation_hook"
HOOK = Root(layer=NAME, prefix=NAME, style="option")
LONGEST_TEXT = 500
"""Characters of an exception's text that are shown."""

_CAN_BE_NONE = frozenset(field.name for field in dataclasses.fields(TaskSpec) if "None" in str(field.type))
_BY_ENTRY = ("env", "tags", "secrets", "volumes", "buckets")
_MOUNTS: Mapping[str, type] = {"volumes": VolumePlan, "buckets": BucketPlan}
_REPLACE = "write return dataclasses.replace(spec, ...)"


def apply_task_hook(
    spec: TaskSpec, places: Mapping[str, Place], task: TaskFacts, options: TranslationOptions, findings: list[Diagnostic]
) -> tuple[TaskSpec, Mapping[str, Place]]:
    """Return what the hook makes of ``spec``, and who set each field. Never raises; ``spec`` stays as it is."""
    found: list[Diagnostic] = []
    place = Place(HOOK, (), found)
    try:
        result = options.task_hook(_locked(spec), task) if options.task_hook is not None else None
        changed = None if result is None else _changed(spec, result, place)
    except BaseException as error:  # the site's own code may call sys.exit, and the loop's thread goes on
        if is_of_the_process(error):
            raise
        log.warning("%s failed for %s.%s", NAME, task.dag_id, task.task_id, exc_info=True)
        place.error("hook-failed", told(error), "the scheduler's log has the traceback")
        changed = None
    if changed:
        spec, places = _Reading(spec, options, found).read(changed, places)
    findings += found
    return spec, places


def told(error: BaseException) -> str:
    """Say what a hook raised, in one line."""
    text = " ".join(str(error).split())
    text = text if len(text) <= LONGEST_TEXT else f"{text[:LONGEST_TEXT]}…"
    return f"raised {type(error).__name__}" + (f": {text}" if text else "")


def _locked(spec: TaskSpec) -> TaskSpec:
    """Return the spec with maps that cannot be changed in place: other tasks share them."""
    return dataclasses.replace(spec, env=MappingProxyType(dict(spec.env)), tags=MappingProxyType(dict(spec.tags)))


def _changed(spec: TaskSpec, result: object, place: Place) -> dict[str, Any] | None:
    if not isinstance(result, TaskSpec):
        place.error("bad-hook-result", f"expected a TaskSpec, or None for no change, got {kind_of(result)}", _REPLACE)
        return None
    names = (field.name for field in dataclasses.fields(TaskSpec))
    return {name: getattr(result, name) for name in names if getattr(result, name) != getattr(spec, name)}


class _Reading:
    """Reads the fields that a hook changed; a field may be written as the ``modal`` key of its name, or as the spec has it."""

    def __init__(self, spec: TaskSpec, options: TranslationOptions, findings: list[Diagnostic]) -> None:
        self._spec = spec
        self._options = options
        self._findings = findings
        self._places: dict[str, Place] = {}

    def read(self, changed: Mapping[str, Any], places: Mapping[str, Place]) -> tuple[TaskSpec, Mapping[str, Place]]:
        self._places = dict(places)
        values = {name: self._field(name, value, Place(HOOK, (name,), self._findings)) for name, value in changed.items()}
        if any(found.severity is Severity.ERROR for found in self._findings):
            return self._spec, places
        spec = dataclasses.replace(self._spec, **values)
        if "volumes" in values or "buckets" in values:
            self._check_mounts(spec)
        if "gpu_wait" in values and (wait := self._places.get("gpu_wait")) is not None:
            self._check_gpu_wait(spec, wait)
        if "region" in values:
            spec = dataclasses.replace(spec, gpu=tuple(dataclasses.replace(choice, regions=()) for choice in spec.gpu))
        if "gpu" in values:
            substituted(spec.gpu, self._places.get("gpu_candidates"), self._options)
        return spec, self._places

    def _check_gpu_wait(self, spec: TaskSpec, place: Place) -> None:
        longest = self._options.longest_gpu_wait
        if spec.gpu and longest is not None and spec.gpu_wait > longest:
            message = (
                f"{spec.gpu_wait:g} s is more than [scheduler] task_queued_timeout ({longest:g}): Airflow takes the task back"
            )
            place.warn("long-gpu-wait", message, f"write {longest:g} or less, or raise task_queued_timeout")

    def _check_mounts(self, spec: TaskSpec) -> None:
        check_once(spec.volumes, self._places, self._findings)
        taken = {volume.mount_path for volume in spec.volumes}
        for mounted in spec.buckets:
            if mounted.mount_path in taken:
                message = f"a Volume is mounted at {mounted.mount_path} already"
                self._places[f"buckets.{mounted.mount_path}"].into(self._findings).error("bad-hook-result", message, "keep one")

    def _field(self, name: str, value: Any, place: Place) -> Any:
        if name in _BY_ENTRY:
            return self._entries(name, value, place)
        plan_name = PLAN_NAMES.get(name, name)
        self._places = {at: was for at, was in self._places.items() if not at.startswith(f"{plan_name}.")}
        self._places[plan_name] = place
        if value is None and name in _CAN_BE_NONE:
            return None
        if name not in KEYS:
            place.error("bad-hook-result", f"{name} cannot be changed here", "change the pod in pod_mutation_hook")
            return None
        if name == "gpu" and isinstance(value, (list, tuple)):
            regions = {choice.text: choice.regions for choice in value if isinstance(choice, GpuChoice)}
            written = [choice.text if isinstance(choice, GpuChoice) else choice for choice in value]
            read: Any = KEYS[name].read(written, place)
            return read and tuple(dataclasses.replace(choice, regions=regions.get(choice.text, ())) for choice in read)
        return KEYS[name].read(value, place)

    def _entries(self, name: str, value: Any, place: Place) -> Any:
        """Read what is new or another; an entry that is as it was keeps its place."""
        known = dict(_named(getattr(self._spec, name)))
        try:
            wanted = dict(_named(value))
        except TypeError:
            KEYS["volumes" if name in _MOUNTS else name].read(value, place)
            if not self._findings:
                place.error("bad-hook-result", f"expected {name} as they were given, got {kind_of(value)}")
            return None
        kept = {entry: what for entry, what in wanted.items() if entry in known and known[entry] == what}
        new = {entry: _written(what) for entry, what in wanted.items() if entry not in kept}
        key = KEYS["volumes" if name in _MOUNTS else name]
        read: Any = (key.read(list(new.values()) if name == "secrets" else new, place) if new else None) or {}
        for entry, what in read.items():
            if name in _MOUNTS and not isinstance(what, _MOUNTS[name]):
                other = "buckets" if name == "volumes" else "volumes"
                place.at(entry).error("bad-hook-result", f"belongs into {other}", f"write {other}={{{shown(entry)}: ...}}")
        # One that is written in another way is still as it was.
        kept |= {entry: what for entry, what in read.items() if entry in known and known[entry] == what}
        found = {entry: kept.get(entry, read.get(entry)) for entry in wanted if entry in kept or entry in read} | {**read, **kept}
        self._keep_places(name, kept, found, place)
        found = {entry: _kept_optional(wanted.get(entry), what) for entry, what in found.items()}
        return found if name in {"env", "tags"} else tuple(found.values())

    def _keep_places(self, name: str, kept: Mapping[str, Any], found: Mapping[str, Any], place: Place) -> None:
        start = f"{name}."
        places = {at: was for at, was in self._places.items() if not at.startswith(start) or at.removeprefix(start) in kept}
        self._places = places | {f"{start}{entry}": place.at(entry) for entry in found if entry not in kept}


def _named(value: Any) -> Iterator[tuple[Any, Any]]:
    """Yield the entries of a map, or of a list of Secrets or Volumes, by name. Raises ``TypeError`` for anything else."""
    if isinstance(value, Mapping):
        yield from ((name, what) for name, what in value.items() if what is not None)
        return
    if not isinstance(value, (list, tuple)):
        raise TypeError
    for entry in value:
        if isinstance(entry, (VolumePlan, BucketPlan)):
            yield entry.mount_path, entry
        elif isinstance(entry, SecretPlan):
            yield entry.name, entry
        elif isinstance(entry, dict) and isinstance(entry.get("name"), str):
            yield entry["name"], entry
        elif isinstance(entry, str):
            yield entry, entry
        else:
            raise TypeError


def _written(value: Any) -> Any:
    """Write a Secret or Volume as the ``modal`` keys have it."""
    if isinstance(value, SecretPlan):
        return {"name": value.name, "required_keys": list(value.required_keys)}
    if isinstance(value, VolumePlan):
        return {"name": value.name, "read_only": value.read_only, **({"sub_path": value.sub_path} if value.sub_path else {})}
    if isinstance(value, BucketPlan):
        bucket = value.bucket
        said = {
            part.name: getattr(bucket, part.name) for part in dataclasses.fields(bucket) if part.name not in {"name", "secret"}
        }
        return {"bucket": bucket.name, **said, "secret": None if bucket.secret is None else bucket.secret.name}
    return value


def _kept_optional(wanted: Any, read: Any) -> Any:
    optional = isinstance(wanted, SecretPlan) and isinstance(read, SecretPlan) and wanted.optional
    return dataclasses.replace(read, optional=True) if optional else read
