"""The shape of a row in the table of diagnostic codes, and short ways to write the example of one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Range = Literal["error", "warning", "notice", "error or warning", "warning or notice", "error or notice", "any"]
"""The severities that a code comes with."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Example:
    """An input whose findings have the code. Whoever renders a row runs it, so that no text is written down twice.

    ``config`` is a task's ``executor_config``; ``options`` the ``[modal_executor]`` options as text, in which ``TMP`` is the
    folder of ``files`` (name to content); ``document`` is a file for ``modalflow translate`` instead of a config.
    ``told`` is the text itself without the code, for what only breaks in operation.
    """

    config: object = None
    options: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    document: str = ""
    told: str = ""


@dataclass(frozen=True, slots=True)
class Code:
    """One code: what its findings mean, why it is so, and how to mend it, each a sentence or two of Markdown."""

    code: str
    severity: Range
    title: str
    means: str
    why: str
    mend: str
    example: Example


def task(config: object, options: Mapping[str, str] | None = None, files: Mapping[str, str] | None = None) -> Example:
    """An ``executor_config``."""
    return Example(config=config, options=options or {}, files=files or {})


def modal(options: Mapping[str, str] | None = None, **keys: object) -> Example:
    """The short form: ``executor_config["modal"]``."""
    return task({"modal": keys}, options)


def base(container: Mapping[str, object], options: Mapping[str, str] | None = None, **spec: object) -> Example:
    """A pod whose first container has these fields, and whose spec has ``spec``."""
    return task({"pod_override": {"spec": {**spec, "containers": [{"name": "base", **container}]}}}, options)


def template(text: str) -> Example:
    """A task template, asked for by its name."""
    return task({"modal": {"template": "mine"}}, files={"mine.yaml": text})


def gpus(count: object = "1", options: Mapping[str, str] | None = None, **spec: object) -> Example:
    """A pod that limits ``nvidia.com/gpu``."""
    return base({"resources": {"limits": {"nvidia.com/gpu": count}}}, options, **spec)


def required(*terms: tuple[str, list[str]]) -> dict[str, object]:
    """Required node affinity, one term for each label and its values."""
    expressions = [{"matchExpressions": [{"key": key, "operator": "In", "values": values}]} for key, values in terms]
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": expressions}}}


def mounted(source: Mapping[str, object], options: Mapping[str, str] | None = None, **mount: object) -> Example:
    """A pod whose container mounts a volume of that source."""
    mounts = [{"name": "data", "mountPath": "/data", **mount}]
    return base({"volumeMounts": mounts}, options, volumes=[{"name": "data", **source}])


def variable(source: Mapping[str, object], options: Mapping[str, str] | None = None) -> Example:
    """A pod whose container has a variable from that source."""
    return base({"env": [{"name": "A", "valueFrom": source}]}, options)
