"""The ``executor_config`` of Airflow 1.x, ``{"KubernetesExecutor": {...}}``, as a pod of the rank of ``pod_override``.

Flows in: the dict. Flows out: a pod as plain data, and a ``LegacyRoot`` by which every finding names the key as it was written.
Airflow 2 still read the form, with a deprecation; Airflow 3's KubernetesExecutor refuses it. Keys: apache-airflow 1.10.2 to
1.10.15 (``KubernetesExecutorConfig.from_dict``, and the parameters of ``pod_generator_deprecated.PodGenerator``), read 2026-09.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from modalflow.translation.diagnostics import Diagnostic, did_you_mean
from modalflow.translation.report import PathKey, Place, Root, kind_of, shown

KEY = "KubernetesExecutor"
LAYER = f'executor_config["{KEY}"]'

Path = tuple[PathKey, ...]

_MAIN: Path = ("spec", "containers", 0)
_NAME: Path = (*_MAIN, "name")
_REQUESTS: Path = (*_MAIN, "resources", "requests")
_LIMITS: Path = (*_MAIN, "resources", "limits")

PLACES: Mapping[str, tuple[Path, ...]] = {
    "image": ((*_MAIN, "image"),),
    "image_pull_policy": ((*_MAIN, "imagePullPolicy"),),
    "cmds": ((*_MAIN, "command"),),
    "args": ((*_MAIN, "args"),),
    "ports": ((*_MAIN, "ports"),),
    "volume_mounts": ((*_MAIN, "volumeMounts"),),
    "resources": ((*_MAIN, "resources"),),
    "request_memory": ((*_REQUESTS, "memory"),),
    "request_cpu": ((*_REQUESTS, "cpu"),),
    "request_ephemeral_storage": ((*_REQUESTS, "ephemeral-storage"),),
    "limit_memory": ((*_LIMITS, "memory"),),
    "limit_cpu": ((*_LIMITS, "cpu"),),
    "limit_ephemeral_storage": ((*_LIMITS, "ephemeral-storage"),),
    "limit_gpu": ((*_LIMITS, "nvidia.com/gpu"),),
    "ephemeral-storage": ((*_REQUESTS, "ephemeral-storage"), (*_LIMITS, "ephemeral-storage")),
    "volumes": (("spec", "volumes"),),
    "node_selectors": (("spec", "nodeSelector"),),
    "affinity": (("spec", "affinity"),),
    "tolerations": (("spec", "tolerations"),),
    "security_context": (("spec", "securityContext"),),
    "service_account_name": (("spec", "serviceAccountName"),),
    "hostnetwork": (("spec", "hostNetwork"),),
    "init_containers": (("spec", "initContainers"),),
    "restart_policy": (("spec", "restartPolicy"),),
    "dnspolicy": (("spec", "dnsPolicy"),),
    "schedulername": (("spec", "schedulerName"),),
    "priority_class_name": (("spec", "priorityClassName"),),
    "name": (("metadata", "name"),),
    "namespace": (("metadata", "namespace"),),
    "labels": (("metadata", "labels"),),
    "annotations": (("metadata", "annotations"),),
}
"""Keys whose value stands in a pod as it is, with its path there; ``ephemeral-storage`` is the request and the limit."""

LISTED = ("envs", "configmaps", "image_pull_secrets")
"""Keys whose value becomes a list of another form."""
APART = ("gcp_service_account_key", "secrets", "extract_xcom")
"""Keys without a place in a pod."""
KNOWN = (*PLACES, *LISTED, *APART)

_BESIDE_RESOURCES = ("request_", "limit_", "ephemeral-storage")


@dataclass(frozen=True, kw_only=True, slots=True)
class LegacyRoot(Root):
    """Spells the paths of the pod as the keys that its values came from. ``spelled`` maps the one to the other."""

    spelled: Mapping[Path, Path]

    def render(self, path: Path) -> str:
        """Spell ``path`` as in the dict of Airflow 1.x."""
        for end in range(len(path), 0, -1):
            written = self.spelled.get(path[:end])
            if written is not None:
                return Root.render(self, written + path[end:])
        return Root.render(self, ())

    @property
    def keys(self) -> frozenset[PathKey]:
        """The keys that became part of the pod."""
        return frozenset(path[0] for path in self.spelled.values())

    def is_written(self, path: Path) -> bool:
        """Tell whether the author wrote what is at ``path``: a container's name was always ``base``."""
        return path != _NAME


WRITTEN = Root(layer=LAYER, prefix=LAYER, style="subscript")
"""Where paths are the keys as they were written."""


def read_legacy(
    content: object, *, beside_override: bool, findings: list[Diagnostic]
) -> tuple[LegacyRoot, dict[str, Any]] | None:
    """Return the pod and its root; ``None`` where there is nothing, or nothing that may be used, which has been reported.

    ``beside_override``: the same config has a ``pod_override``, which KubernetesExecutor has always refused.
    """
    place = Place(WRITTEN, (), findings)
    written = _Written(findings)
    if not content:
        return None
    if not isinstance(content, Mapping):
        place.error("bad-config", f"expected a dict, got {kind_of(content)}")
        return None
    if beside_override:
        place.error("legacy-conflict", 'stands beside "pod_override", which KubernetesExecutor refuses too', "keep one of them")
        return None
    for key, value in content.items():
        written.take(key, value, content)
    if not written.spelled:
        return None
    pod = written.pod()
    hint = f'write {{"pod_override": {_outline(pod, written.shown)}}}'
    place.notice("legacy-config", "the form of Airflow 1.x, read as a pod_override", hint)
    return LegacyRoot(layer=LAYER, prefix=LAYER, style="subscript", spelled=written.spelled), pod


class _Written:
    """Takes one key after the other. ``spelled`` maps the paths of the pod to what was written."""

    def __init__(self, findings: list[Diagnostic]) -> None:
        self.spelled: dict[Path, Path] = {}
        self.shown: set[Path] = set()
        """Paths whose value a hint may repeat: no variable, which may be a secret."""
        self._values: dict[Path, Any] = {}
        self._findings = findings

    def take(self, key: object, value: object, content: Mapping[Any, object]) -> None:
        """Read one key of ``content``."""
        place = Place(WRITTEN, (key if isinstance(key, (str, int)) else shown(key),), self._findings)
        if not isinstance(key, str) or key not in KNOWN:
            hint = did_you_mean(key, KNOWN) if isinstance(key, str) else ""
            place.error("unknown-key", "Airflow 1.x has no such key", hint or f"known: {', '.join(KNOWN)}")
        elif value is None:
            return
        elif key.startswith(_BESIDE_RESOURCES) and content.get("resources") is not None:
            place.notice("no-effect", 'has no effect beside "resources", as in Airflow 1.x')
        elif key in APART:
            _report_apart(key, value, place)
        elif key in LISTED:
            self._take_list(key, value, place)
        else:
            self._take_as_it_is(key, value, place)

    def _take_as_it_is(self, key: str, value: object, place: Place) -> None:
        other = next((self.spelled[path][0] for path in PLACES[key] if path in self.spelled), None)
        if other is not None:
            place.error("legacy-conflict", f"says the same as {shown(other)}", "keep one of them")
            return
        for path in PLACES[key]:
            self.spelled[path] = (key,)
            self._values[path] = value
            self.shown.add(path)

    def _take_list(self, key: str, value: object, place: Place) -> None:
        entries = {"envs": _variables, "configmaps": _config_maps, "image_pull_secrets": _pull_secrets}[key](value, place)
        if entries is None:
            return
        at: Path = {
            "envs": (*_MAIN, "env"),
            "configmaps": (*_MAIN, "envFrom"),
            "image_pull_secrets": ("spec", "imagePullSecrets"),
        }[key]
        self.spelled[at] = (key,)
        self._values[at] = [entry for _, entry in entries]
        for index, (inner, entry) in enumerate(entries):
            here, there = (*at, index), (key, *inner)
            self.spelled[here] = there
            if isinstance(value, (dict, str)) or key == "configmaps":
                self.spelled.update({(*here, *path): there for path in _leaves(entry)})

    def pod(self) -> dict[str, Any]:
        """Return the pod. Shares the values that were given and changes none."""
        pod: dict[str, Any] = {}
        container: dict[str, Any] = {"name": "base"}
        for path, value in self._values.items():
            in_container = path[: len(_MAIN)] == _MAIN
            target: dict[Any, Any] = container if in_container else pod
            steps = path[len(_MAIN) :] if in_container else path
            for step in steps[:-1]:
                target = target.setdefault(step, {})
            target[steps[-1]] = value
        if len(container) > 1:
            pod.setdefault("spec", {})["containers"] = [container]
        return pod


_Entries = list[tuple[Path, Any]]


def _variables(value: object, place: Place) -> _Entries | None:
    if isinstance(value, dict):
        return [((name,), {"name": name, "value": text}) for name, text in value.items()]
    if isinstance(value, list):
        return [((index,), entry) for index, entry in enumerate(value)]
    place.error("bad-config", f"expected a dict of variables, got {kind_of(value)}")
    return None


def _config_maps(value: object, place: Place) -> _Entries | None:
    names = _names(value, place)
    return None if names is None else [(path, {"configMapRef": {"name": name}}) for path, name in names]


def _pull_secrets(value: object, place: Place) -> _Entries | None:
    if isinstance(value, list) and not all(isinstance(entry, str) for entry in value):
        return [((index,), entry) for index, entry in enumerate(value)]
    names = _names(value, place)
    return None if names is None else [(path, {"name": name}) for path, name in names]


def _names(value: object, place: Place) -> _Entries | None:
    """Read a list of names, or text with commas between them."""
    if isinstance(value, str):
        return [((), name.strip()) for name in value.split(",") if name.strip()]
    if isinstance(value, (list, tuple)) and all(isinstance(name, str) for name in value):
        return [((index,), name) for index, name in enumerate(value)]
    place.error("bad-config", f"expected a list of names, got {kind_of(value)}")
    return None


def _report_apart(key: str, value: object, place: Place) -> None:
    if key == "extract_xcom":
        place.notice("no-effect", "has no effect: tasks push their XComs themselves")
    elif key == "secrets":
        place.error(
            "unsupported", "Secret objects cannot be read", 'write {"modal": {"secrets": [NAME_OF_A_MODAL_SECRET]}} beside it'
        )
    else:
        place.warn(
            "dropped",
            f"{shown(value)} gives no identity on Modal",
            'put the key into a Modal Secret and write {"modal": {"secrets": [NAME]}}',
        )


def _leaves(value: object, path: Path = ()) -> Iterator[Path]:
    yield path
    if isinstance(value, dict):
        for key, child in value.items():
            yield from _leaves(child, (*path, key))


def _outline(value: Any, may_be_shown: set[Path], path: Path = ()) -> str:
    """Write the pod in the words of today, for a hint: only what is one word, and no variable, with its value."""
    if path in may_be_shown:
        if isinstance(value, (dict, list, tuple)):
            return "{...}" if isinstance(value, dict) else "[...]"
        return shown(value) if type(value) in {str, int, float, bool} else "..."
    if isinstance(value, dict):
        return "{" + ", ".join(f'"{key}": {_outline(child, may_be_shown, (*path, key))}' for key, child in value.items()) + "}"
    if path == ("spec", "containers"):
        return f"[{_outline(value[0], may_be_shown, _MAIN)}]"
    return shown(value) if path == _NAME else "[...]"
