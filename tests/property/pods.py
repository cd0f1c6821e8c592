"""Generated pods and task templates for the laws: any fields of the kubernetes client, and pods whose parts name each other."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from hypothesis import strategies as st
from kubernetes.client import models as k8s

from modalflow.settings import read_settings
from modalflow.translation.diagnostics import Diagnostic, Severity
from modalflow.translation.inputs import FileContent, LoadedTemplate
from modalflow.translation.origins import Origin

WORDS = ("x", "Never", "nvidia-l4", "true", "amd64", "1", "2Gi", "/x", "us-east-1")


def values(kind: str, depth: int) -> st.SearchStrategy[Any]:
    """Generate a value of a type as the kubernetes client names it."""
    if match := re.fullmatch(r"list\[(.+)\]", kind):
        return st.lists(values(match[1], depth - 1), min_size=1, max_size=2)
    if kind.startswith("dict"):
        keys = st.sampled_from(
            ["cpu", "memory", "nvidia.com/gpu", "team", "cloud.google.com/gke-accelerator", "kubernetes.io/arch"]
        )
        return st.dictionaries(keys, st.sampled_from(WORDS), min_size=1, max_size=3)
    if hasattr(k8s, kind):
        return objects(getattr(k8s, kind), depth)
    return {"int": st.integers(1, 9), "bool": st.booleans()}.get(kind, st.sampled_from(WORDS))


@st.composite
def objects(draw: Callable[[Any], Any], kind: Any, depth: int) -> dict[str, Any]:
    """Generate a few fields of one of the kubernetes client's objects, by their JSON names."""
    types = kind.openapi_types
    flat = [name for name, inner in types.items() if depth > 0 or not ("V1" in inner or "list" in inner or "dict" in inner)]
    chosen = draw(st.lists(st.sampled_from(sorted(flat or types)), min_size=1, max_size=4, unique=True))
    return {kind.attribute_map[name]: draw(values(types[name], depth - 1)) for name in chosen}


@st.composite
def any_pods(draw: Callable[[Any], Any]) -> dict[str, Any]:
    """Any fields, with values that seldom go together."""
    spec = draw(objects(k8s.V1PodSpec, 4))
    spec["containers"] = [
        {"name": "base", **draw(objects(k8s.V1Container, 4))},
        *draw(st.lists(objects(k8s.V1Container, 1), max_size=1)),
    ]
    return {"metadata": draw(objects(k8s.V1ObjectMeta, 2)), "spec": spec}


def some(*words: Any) -> st.SearchStrategy[Any]:
    return st.sampled_from(words)


def having(required: Mapping[str, Any] | None = None, **optional: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(dict(required or {}), optional=optional)


OBJECT_NAMES = some("listed", "open", "texts", "elsewhere", "Bad Name")
KEYS = some("key", "tls.crt", "none", "A")
MODES = some(0o440, 0o600, 99999)
ITEMS = st.lists(having({"key": KEYS}, path=some("a", "b/c", "../d", "key"), mode=MODES), min_size=1, max_size=3)
FIELD_REFS = having(
    {"fieldPath": some("metadata.name", "status.hostIP", "metadata.labels['team']", "spec.x")}, apiVersion=some("v1")
)
RESOURCE_REFS = having(
    {"resource": some("limits.cpu", "requests.memory", "limits.x")},
    divisor=some("1", "1Mi", "x"),
    containerName=some("base", "side"),
)
DOWNWARD_ITEMS = st.lists(
    having({"path": some("labels", "b", "/c")}, fieldRef=FIELD_REFS, resourceFieldRef=RESOURCE_REFS, mode=MODES),
    min_size=1,
    max_size=3,
)
KEY_REFS = having({"name": OBJECT_NAMES, "key": KEYS}, optional=st.booleans())
ENV = having(
    {"name": some("A", "B", "C", "1bad", "AIRFLOW__CORE__FERNET_KEY")},
    value=some("x", "$(A)/y", "$(D)", ""),
    valueFrom=st.one_of(
        having({"secretKeyRef": KEY_REFS}),
        having({"configMapKeyRef": KEY_REFS}),
        having({"fieldRef": FIELD_REFS}),
        having({"resourceFieldRef": RESOURCE_REFS}),
        having({"fileKeyRef": having({"key": KEYS, "path": some("/a"), "volumeName": some("v1")})}),
    ),
)
ENV_FROM = st.one_of(
    *(
        having({kind: having({"name": OBJECT_NAMES}, optional=st.booleans())}, prefix=some("P_", "1", ""))
        for kind in ("secretRef", "configMapRef")
    ),
    having(prefix=some("P_"), secretRef=having(name=OBJECT_NAMES), configMapRef=having(name=OBJECT_NAMES)),
)
PROJECTED = st.lists(
    st.one_of(
        having({"secret": having({"name": OBJECT_NAMES}, items=ITEMS, optional=st.booleans())}),
        having({"configMap": having({"name": OBJECT_NAMES}, items=ITEMS, optional=st.booleans())}),
        having({"downwardAPI": having(items=DOWNWARD_ITEMS)}),
        having(
            {"serviceAccountToken": having({"path": some("token")}, audience=some("sts"), expirationSeconds=st.integers(1, 9))}
        ),
    ),
    min_size=1,
    max_size=3,
)
SOURCES = st.one_of(
    having({"emptyDir": having(medium=some("Memory", "x", ""), sizeLimit=some("1Gi", "9Ti", "x"))}),
    having({"persistentVolumeClaim": having({"claimName": some("data", "other")}, readOnly=st.booleans())}),
    having({"hostPath": having({"path": some("/dev/shm", "/var")}, type=some("Directory"))}),
    having({"configMap": having({"name": OBJECT_NAMES}, items=ITEMS, defaultMode=MODES, optional=st.booleans())}),
    having({"secret": having({"secretName": OBJECT_NAMES}, items=ITEMS, defaultMode=MODES, optional=st.booleans())}),
    having({"downwardAPI": having(items=DOWNWARD_ITEMS, defaultMode=MODES)}),
    having({"projected": having({"sources": PROJECTED}, defaultMode=MODES)}),
    having({"nfs": having({"server": some("s"), "path": some("/x")}, readOnly=st.booleans())}),
    having({"csi": having({"driver": some("s3.csi.aws.com")}, readOnly=st.booleans())}),
    having(
        {
            "ephemeral": having(
                volumeClaimTemplate=having(spec=having(resources=having(requests=having(storage=some("1Gi", "9Ti")))))
            )
        }
    ),
    having(emptyDir=having(), nfs=having()),
)
VOLUME_NAMES = some("v1", "v2", "v3")
VOLUMES = st.tuples(VOLUME_NAMES, SOURCES).map(lambda pair: {"name": pair[0], **pair[1]})
MOUNTS = having(
    {
        "name": some("v1", "v2", "v3", "v4"),
        "mountPath": some("/a", "/b", "/c", "/dev/shm", "relative", "/opt/airflow/airflow.cfg"),
    },
    subPath=some("a", "part", "../x", "/abs", ""),
    subPathExpr=some("$(A)", "x"),
    readOnly=st.booleans(),
    mountPropagation=some("None", "Bidirectional"),
    recursiveReadOnly=some("Disabled"),
)
ALIASES = having(ip=some("10.0.0.1", "10.0.0.2", ""), hostnames=st.lists(some("db", "two words"), min_size=1, max_size=2))
AMOUNTS = having(
    None,
    **{"cpu": some("1", "250m", "x"), "memory": some("1Gi", "512Mi"), "nvidia.com/gpu": some(1, "2"), "amd.com/gpu": some(1)},
    **{"ephemeral-storage": some("1Gi")},
)
CONTAINERS = having(
    {"name": some("base")},
    env=st.lists(ENV, max_size=4),
    envFrom=st.lists(ENV_FROM, max_size=3),
    volumeMounts=st.lists(MOUNTS, max_size=4),
    resources=having(
        limits=AMOUNTS,
        requests=AMOUNTS,
        claims=st.lists(having({"name": some("c1", "c2")}, request=some("r")), max_size=2, unique_by=lambda c: c["name"]),
    ),
    image=some("me/train:1", "me/train"),
)
SPECS = having(
    {"containers": st.lists(CONTAINERS, min_size=1, max_size=1)},
    volumes=st.lists(VOLUMES, max_size=3),
    hostAliases=st.lists(ALIASES, max_size=3),
    resourceClaims=st.lists(
        having({"name": some("c1", "c2"), "resourceClaimName": some("l4", "unheard")}), max_size=2, unique_by=lambda c: c["name"]
    ),
    nodeSelector=having(
        None, **{"cloud.google.com/gke-accelerator": some("nvidia-l4", "x"), "kubernetes.io/arch": some("amd64", "arm64")}
    ),
    imagePullSecrets=st.lists(having({"name": some("registry", "other")}), max_size=3),
)
WIRED_PODS = having({"spec": SPECS}, metadata=having(labels=having(team=some("ml", "a b")), annotations=having(team=some("x"))))
"""Pods whose volumes, mounts, variables and claims name each other, and what ``OPTIONS`` and ``Files`` know; often wrongly."""

OPTIONS = read_settings(
    {
        "default_gpu": "T4",
        "kubernetes_secrets": '{"listed": {"name": "m", "keys": {"key": "KEY", "tls.crt": "CRT"}}, "open": "open-on-modal"}',
        "config_maps": '{"texts": "/texts", "listed": {"secret": "configuration", "keys": {"key": "CONFIG_KEY"}}}',
        "claims": '{"data": "data-on-modal/team"}',
        "registry_secrets": '{"registry": "registry-on-modal"}',
        "resource_claims": '{"l4": {"gpu": "L4"}}',
    }
).translation


class Files:
    """A template source with one ConfigMap and no templates."""

    def load(self, name: str, *, asked_by: Origin) -> LoadedTemplate | Diagnostic:
        return Diagnostic(code="template-not-found", severity=Severity.ERROR, origin=asked_by, message=f"no template {name}")

    def config_map(self, path: str) -> Mapping[str, FileContent] | str:
        return {"key": "text", "A": "1", "tls.crt": b"AAAA"} if path == "/texts" else "no such file"


def leaves(value: object, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    if isinstance(value, dict) and value:
        for key, child in value.items():
            yield from leaves(child, (*path, key))
    elif isinstance(value, list) and value:
        for index, child in enumerate(value):
            yield from leaves(child, (*path, index))
    else:
        yield path


def at(value: Any, path: tuple[str | int, ...]) -> Any:
    for key in path:
        value = value[key]
    return value
