"""A pod as plain data with Kubernetes' own names, whatever form it came in.

Flows in: a ``V1Pod`` object, or a dict (a YAML template, or a ``pod_override`` written as a dict; camelCase or snake_case). Flows
out: nested dicts, lists and scalars, ``None`` left out. ``kubernetes`` is not imported: its objects describe themselves.
"""

from __future__ import annotations

import re
from typing import Any

from modalflow.translation.report import Place, kind_of, shown

DEEPEST = 32
"""Nesting beyond which a pod is taken for one that holds itself; the API's own types are 12 levels deep."""

MOST_VALUES = 20_000
"""Bound on the parts of one pod, each counted as often as it is referred to."""

FREE_MAPS = frozenset(
    {"labels", "annotations", "nodeSelector", "limits", "requests", "matchLabels", "overhead"}
    | {"volumeAttributes", "options", "userAnnotations", "allocatedResources"}
)
"""Fields whose keys are the user's own words, not names of the API."""

_IRREGULAR = {
    "_exec": "exec",
    "container_id": "containerID",
    "dataset_uuid": "datasetUUID",
    "disk_uri": "diskURI",
    "downward_api": "downwardAPI",
    "host_ip": "hostIP",
    "host_ips": "hostIPs",
    "host_ipc": "hostIPC",
    "host_pid": "hostPID",
    "image_id": "imageID",
    "pd_id": "pdID",
    "pod_ip": "podIP",
    "pod_ips": "podIPs",
    "resource_id": "resourceID",
    "scale_io": "scaleIO",
    "set_hostname_as_fqdn": "setHostnameAsFQDN",
    "storage_policy_id": "storagePolicyID",
    "target_wwns": "targetWWNs",
    "volume_id": "volumeID",
}
"""Attributes of the client, as ``V1Pod.to_dict()`` writes them, of another name than their camelCase (kubernetes 36.0.3)."""
_SNAKE = re.compile(r"_([a-z0-9])", re.ASCII)

PlainPod = dict[str, Any]


class _Null:
    """The type of ``NULL``."""

    def __repr__(self) -> str:
        return "null"


NULL = _Null()
"""An explicit ``null``, where it means something: it removes what a weaker layer says."""


def keep_nulls(value: Any, depth: int = 0) -> Any:
    """Return plain data with ``NULL`` for ``None``, so that ``read_pod_form`` keeps it.

    Leaves the client's objects alone: there ``None`` is a field that nobody set.
    """
    if depth > DEEPEST:
        return value
    if isinstance(value, dict):
        return {key: NULL if child is None else keep_nulls(child, depth + 1) for key, child in value.items()}
    return [keep_nulls(child, depth + 1) for child in value] if isinstance(value, (list, tuple)) else value


class _Malformed(Exception):
    """The pod cannot be read; the text says why, and ``hint`` what to write."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


def is_model(value: object) -> bool:
    """Tell whether a value is one of the kubernetes client's objects."""
    return isinstance(getattr(type(value), "attribute_map", None), dict)


def read_pod_form(content: object, place: Place) -> PlainPod | None:
    """Return the pod as plain data; anything that is no pod is reported."""
    if is_model(content):
        name = type(content).__name__
        if name != "V1Pod":
            place.error("bad-pod", f"expected a V1Pod, got a {name}", "write V1Pod(spec=V1PodSpec(containers=[...]))")
            return None
    elif not isinstance(content, dict):
        place.error("bad-pod", f"expected a kubernetes.client.models.V1Pod or a dict, got {kind_of(content)}")
        return None
    try:
        pod: PlainPod = _plain(content, "", 0, [MOST_VALUES])
    except _Malformed as error:
        place.error("bad-pod", str(error), error.hint)
        return None
    return pod


_names: dict[type, dict[str, str]] = {}
"""Of each class seen so far, its fields: where an instance keeps one, and the JSON name. A few hundred classes."""


def _fields_of(kind: Any) -> dict[str, str]:
    found = _names[kind] = {f"_{name}": field for name, field in kind.attribute_map.items()}
    return found


def _plain(value: Any, name: str, depth: int, left: list[int]) -> Any:
    kind = type(value)
    if kind is str or kind is int or kind is bool:
        return value
    fields = _names.get(kind)
    if fields is None and is_model(value):
        fields = _fields_of(kind)
    left[0] -= 1 if fields is not None else len(value) if isinstance(value, (dict, list, tuple)) else 0
    if depth > DEEPEST or left[0] < 0:
        raise _Malformed(f"more than {MOST_VALUES} parts, or more than {DEEPEST} levels of them, or it holds itself")
    if fields is not None:
        return _plain_model(value, fields, depth, left)
    if isinstance(value, dict):
        return _plain_dict(value, name, depth, left)
    if isinstance(value, (list, tuple)):
        return [child if type(child) is str else _plain(child, "", depth + 1, left) for child in value]
    # A text of a class of the user's, an enum for one, is text: its own comparing and hashing must not reach the scheduler.
    return str.__str__(value) if isinstance(value, str) else value


def _plain_model(value: Any, fields: dict[str, str], depth: int, left: list[int]) -> PlainPod:
    # The client's models keep each field behind a property of the same name (kubernetes 36.0.3), in the order of the map; reading
    # past the properties halves the time, and most fields are None.
    kept = vars(value)
    if next(iter(fields), "") not in kept:
        kept = {private: getattr(value, private[1:]) for private in fields}
    return {
        fields[private]: child if type(child) is str else _plain(child, fields[private], depth + 1, left)
        for private, child in kept.items()
        if child is not None and private in fields
    }


def _plain_dict(value: dict[Any, Any], name: str, depth: int, left: list[int]) -> PlainPod:
    free = name in FREE_MAPS
    found: PlainPod = {}
    for key, child in value.items():
        if not isinstance(key, str):
            raise _Malformed(f"the key {shown(key)} is no text", "write it in quotes")
        if child is None:
            continue
        field = key if free else field_name(key)
        if field in found:
            raise _Malformed(f"the field {shown(field)} is there twice, once as {shown(key)}", "keep one of them")
        found[field] = _plain(child, "" if free else field, depth + 1, left)
    return found


def field_name(key: str) -> str:
    """Return a field's name as Kubernetes spells it: ``node_selector`` becomes ``nodeSelector``."""
    if "_" not in key:
        return key
    return _IRREGULAR.get(key) or _SNAKE.sub(lambda match: match.group(1).upper(), key)
