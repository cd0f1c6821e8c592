"""The support matrix: for every leaf of a Kubernetes pod, what becomes of it, found by translating a pod that has it.

Flows in: ``pod_leaves.json``, every leaf of ``V1Pod`` below ``metadata`` and ``spec`` with its type (a test holds it to the
installed kubernetes client, so that a field added there fails until it is listed and has a verdict). Flows out: ``Row``s for
``modalflow fields`` and for ``docs/reference/fields.md`` (``python -m modalflow.cli.field_matrix`` prints the page).
"""

from __future__ import annotations

import itertools
import json
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from modalflow.cli.field_cases import CASES
from modalflow.settings import read_settings
from modalflow.templates import TemplateFolders
from modalflow.translation.account import Fate, Leaf, account
from modalflow.translation.allowances import REFUSED
from modalflow.translation.diagnostics import Diagnostic, Severity
from modalflow.translation.inputs import TaskContext
from modalflow.translation.layers import POD_OVERRIDE
from modalflow.translation.translate import translate

LEAVES_FILE = Path(__file__).parent / "pod_leaves.json"
VERDICTS = {Severity.NOTICE: "harmless", Severity.WARNING: "warned", Severity.ERROR: "refused"}

_BY_TYPE: dict[str, object] = {"int": 1, "bool": True, "datetime": "2026-01-01T00:00:00Z", "float": 1.5}
_SAMPLES: dict[str, object] = {
    "image": "me/train:1.2",
    "workingDir": "/work",
    "mountPath": "/models",
    "activeDeadlineSeconds": 3600,
    "operator": "In",
    "fieldPath": "metadata.name",
    "resource": "limits.cpu",
    "medium": "Memory",
    "sizeLimit": "1Gi",
    "path": "file",
    "ip": "10.0.0.1",
    "subPath": "part",
    "restartPolicy": "OnFailure",
    "divisor": "1",
    "defaultMode": 0o440,
    "mode": 0o440,
}
"""Values that mean something where ``x`` and ``1`` do not, by the field's name."""
_RESOURCES = (
    *("cpu", "memory", "ephemeral-storage", "hugepages-2Mi", "nvidia.com/gpu", "nvidia.com/gpu.shared", "nvidia.com/mig-1g.5gb"),
    *("amd.com/gpu", "google.com/tpu", "aws.amazon.com/neuron", "vpc.amazonaws.com/efa", "rdma/hca", "example.com/fpga"),
)
_LABELS = {
    "cloud.google.com/gke-accelerator": "nvidia-l4",
    "topology.kubernetes.io/region": "us-east-1",
    "node.kubernetes.io/instance-type": "g6.xlarge",
    "kubernetes.io/arch": "arm64",
    "kubernetes.io/os": "linux",
    "karpenter.sh/capacity-type": "spot",
    "example.com/pool": "x",
}
_NAMED: tuple[tuple[str, dict[str, object]], ...] = (
    (r"(.*\.env\[\])\..*", {"name": "A"}),
    (r"(.*(?:secretKeyRef|configMapKeyRef))\..*", {"name": "source", "key": "KEY"}),
    (r"(.*fieldRef)\..*", {"fieldPath": "metadata.name"}),
    (r"(.*resourceFieldRef)\..*", {"resource": "limits.cpu"}),
    (r"(.*volumeMounts\[\])\..*", {"name": "v", "mountPath": "/models"}),
    (r"(spec\.volumes\[\])\..*", {"name": "v"}),
    (r"(.*httpGet)\..*", {"port": 8080}),
    (r"(.*httpHeaders\[\])\..*", {"name": "X", "value": "x"}),
    (r"(.*serviceAccountToken)\..*", {"path": "token"}),
    (r"(spec\.hostAliases\[\])\..*", {"ip": "10.0.0.1", "hostnames": ["db"]}),
    (r"(spec\.initContainers\[\])\..*", {"name": "setup", "command": ["prepare"]}),
    (r"(spec\.ephemeralContainers\[\])\..*", {"name": "setup"}),
    (
        r"(.*nodeAffinity.*matchExpressions\[\])\..*",
        {"key": "cloud.google.com/gke-accelerator", "operator": "In", "values": ["nvidia-l4"]},
    ),
)
"""Neighbours without which a leaf has no meaning, by the path of the object that holds them."""


_BY_VALUE = "by its value"
"""Reason of a row whose sample is no value of the field, which is read nevertheless."""
_OF_GPUS = ("cloud.google.com/gke-accelerator", "node.kubernetes.io/instance-type")
"""Labels that say something of a task with a GPU only."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One leaf (``spec.containers[].image``): its verdict, the plan fields it decides, and the finding about it.

    ``value`` is the sample that was tried. ``cases``: the same leaf with other values, if not all come to the same.
    """

    path: str
    verdict: str
    fields: tuple[str, ...] = ()
    code: str = ""
    reason: str = ""
    hint: str = ""
    value: object = None
    cases: tuple[Row, ...] = ()

    def told(self, mark: str = "") -> str:
        """What the leaf becomes, or why not; of each value that was tried, where they differ. ``mark`` goes around names."""
        if not self.cases:
            return ", ".join(f"{mark}{field}{mark}" for field in self.fields) or "; ".join(filter(None, (self.reason, self.hint)))
        values: dict[str, list[str]] = {}
        for case in (*self.cases, replace(self, cases=())):
            verdict = "malformed" if case.reason == _BY_VALUE else case.shown_verdict
            outcome = f"{verdict}, {told}" if verdict != "malformed" and (told := case.told(mark)) else verdict
            values.setdefault(outcome, []).append(f"{mark}{json.dumps(case.value)}{mark}")
        return " \u2014 ".join(f"{', '.join(same)}: {outcome}" for outcome, same in values.items())

    @property
    def shown_verdict(self) -> str:
        """The verdict, and whether ``[modal_executor] allow`` can lift it."""
        if self.cases:
            return _BY_VALUE
        return f"{self.verdict}, can be allowed" if self.verdict == "refused" and self.code == REFUSED else self.verdict


@lru_cache(maxsize=1)
def pod_leaves() -> dict[str, str]:
    """Return every leaf of a pod with its type, as the kubernetes client names them."""
    found: dict[str, str] = json.loads(LEAVES_FILE.read_text(encoding="utf-8"))
    return found


def rows(prefix: str = "") -> Iterator[Row]:
    """Yield the rows of all leaves at or below ``prefix``, in the order of the API."""
    for path, kind in pod_leaves().items():
        for key, value in _values(path, kind):
            name = f'{path}["{key}"]' if key else path
            if _is_below(name, prefix):
                yield _with_cases(_one(name, path, key, value), path, key)


def _one(name: str, path: str, key: str, value: object) -> Row:
    return replace(_row(name, path, {key: value} if key else value, (key,) if key else ()), value=value)


def _with_cases(row: Row, path: str, key: str) -> Row:
    """Try the further values of a leaf; they are told of if what becomes of it depends on them."""
    cases = tuple(_one(row.path, path, key, value) for value in CASES.get(row.path, ()))
    same = {(row.shown_verdict, row.fields) for row in (row, *cases)}
    return replace(row, cases=cases) if len(same) > 1 else row


def _is_below(path: str, prefix: str) -> bool:
    bare, asked = path.replace("[]", ""), re.sub(r"\[\d*\]", "", prefix)
    return not asked or bare == asked or bare.startswith((f"{asked}.", f"{asked}["))


def _values(path: str, kind: str) -> Iterator[tuple[str, object]]:
    name = path.rpartition(".")[2]
    if re.search(r"\.resources\.(limits|requests)$", path):
        yield from ((key, "1Gi" if key in {"memory", "ephemeral-storage"} else "1") for key in _RESOURCES)
    elif name == "nodeSelector":
        yield from _LABELS.items()
    elif kind.startswith("dict"):
        yield "x", "1"
    else:
        value = _SAMPLES.get(name.removesuffix("[]"), _BY_TYPE.get(kind, "1" if kind == "object" else "x"))
        yield "", value


def _row(name: str, path: str, value: object, inner: tuple[str, ...]) -> Row:
    pod: dict[str, Any] = {"spec": {"containers": [{"name": "base"}]}}
    where = _put(pod, path, value)
    for pattern, siblings in _NAMED:
        if match := re.fullmatch(pattern, path):
            for key, sibling in siblings.items():
                _put(pod, f"{match.group(1)}.{key}", sibling, only_missing=True)
    _with_mounts(pod, path)
    if inner == ("nvidia.com/gpu",):
        pod["spec"]["nodeSelector"] = {"cloud.google.com/gke-accelerator": "nvidia-l4"}
    elif "nodeAffinity" in path or (inner and inner[0] in _OF_GPUS):
        pod["spec"]["containers"][0]["resources"] = {"limits": {"nvidia.com/gpu": 1}}
    return _judged(name, pod, POD_OVERRIDE.render((*where, *inner)))


def _with_mounts(pod: dict[str, Any], path: str) -> None:
    """Give a volume its mount and a mount its volume: alone, neither means anything."""
    container = pod["spec"]["containers"][0]
    if path.startswith("spec.volumes[]"):
        container.setdefault("volumeMounts", [{"name": pod["spec"]["volumes"][0]["name"], "mountPath": "/models"}])
    elif path.startswith("spec.containers[].volumeMounts[]"):
        pod["spec"]["volumes"] = [{"name": container["volumeMounts"][0]["name"], "emptyDir": {}}]


def _put(pod: dict[str, Any], path: str, value: object, *, only_missing: bool = False) -> tuple[str | int, ...]:
    """Write ``value`` at ``spec.volumes[].name`` into ``pod`` and return where that is."""
    steps: list[str | int] = []
    for word in path.split("."):
        steps += [word.removesuffix("[]"), 0] if word.endswith("[]") else [word]
    here: Any = pod
    for step, following in itertools.pairwise(steps):
        empty: object = [] if following == 0 else {}
        if isinstance(here, list):
            if not here:
                here.append(empty)
        else:
            here.setdefault(step, empty)
        here = here[step]
    if isinstance(here, list):
        here[:] = here if only_missing and here else [value]
    elif not (only_missing and steps[-1] in here):
        here[steps[-1]] = value
    return tuple(steps)


def _judged(name: str, pod: dict[str, Any], path: str) -> Row:
    config, context, options = {"pod_override": pod}, TaskContext(), read_settings({}).translation
    templates = TemplateFolders()
    leaf = next(
        (found for found in account(config, context=context, options=options, templates=templates) if found.origin.path == path),
        None,
    )
    findings = translate(config, context=context, options=options, templates=templates).diagnostics
    return Row(path=name, verdict="unaccounted") if leaf is None else _row_of(name, leaf, findings)


def _row_of(name: str, leaf: Leaf, findings: Sequence[Diagnostic]) -> Row:
    about = [found for found in findings if found.code in leaf.codes and leaf.origin.path.startswith(found.origin.path)]
    about.sort(key=lambda found: list(VERDICTS).index(found.severity), reverse=True)
    told = about[0] if about else None
    if leaf.fate is Fate.HONOURED:
        return Row(path=name, verdict="translated", fields=leaf.fields)
    if told is None:
        return Row(path=name, verdict="translated" if leaf.codes else str(leaf.fate), code=", ".join(leaf.codes))
    if told.code.startswith("bad-"):  # the field is read; only our sample is no value of it
        return Row(path=name, verdict="translated", code=told.code, reason=_BY_VALUE)
    return Row(path=name, verdict=VERDICTS[told.severity], code=told.code, reason=told.message, hint=told.hint)


def folded(all_rows: Iterable[Row]) -> list[Row]:
    """Write rows that say the same of everything below one path as one row, ``spec.tolerations[].…``."""
    return list(_fold(list(all_rows), 0))


_BETWEEN = re.compile(r"\.(?![^\[\]]*\])")
"""The dots between fields, not those in a key such as ``["nvidia.com/gpu"]``."""


def _fold(group: list[Row], depth: int) -> Iterator[Row]:
    if len({(row.verdict, row.fields, row.code, row.reason, row.hint, row.cases) for row in group}) == 1 and depth > 1:
        row = group[0]
        above = ".".join(_BETWEEN.split(row.path)[:depth])
        yield (
            row
            if len(group) == 1
            else Row(path=f"{above}.…", verdict=row.verdict, fields=row.fields, code=row.code, reason=row.reason, hint=row.hint)
        )
        return
    groups: dict[str, list[Row]] = {}
    for row in group:
        words = _BETWEEN.split(row.path)
        groups.setdefault(words[depth] if depth < len(words) else row.path, []).append(row)
    if len(groups) == len(group):
        yield from group
        return
    for inner in groups.values():
        yield from _fold(inner, depth + 1)


INTRODUCTION = """# Every pod field

What becomes of each field of a Kubernetes pod, with the default options. Generated by `make docs` from what
translation does with a pod that has the field; `modalflow fields [PREFIX]` prints the same, leaf by leaf.

- **translated**: it decides what the last column names.
- **harmless**: without effect, and nothing is lost: a notice.
- **warned**: the task runs without it, and its log says so.
- **refused**: the task is not started: dropping the field would change data, hardware, security or the result.
- **by its value**: several values were tried, and not all come to the same; each is named with what becomes of it.
  `"x"` stands for any other text.
- **refused, can be allowed**: `[modal_executor] allow` can say that all tasks run without it, with a warning. Its entries are
  these paths, with `[*]` for `[]`.

| field | verdict | becomes, or why not |
|---|---|---|"""


def page() -> str:
    """Return ``docs/reference/fields.md``."""
    lines = [INTRODUCTION]
    lines += [f"| `{row.path}` | {row.shown_verdict} | {row.told('`').replace('|', '&#124;')} |" for row in folded(rows())]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(page())
