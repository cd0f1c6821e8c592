"""Containers beside the task's: those that serve the cluster and not the task are left out with a word of what is lost.

Flows in: a container of the merged pod, and ``[modal_executor] dropped_sidecars``. Flows out: the verdict, which ``pods.fields``
applies. A sandbox has one container: every other sidecar is refused.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from modalflow.translation.pods.merge import ContainerPieces
from modalflow.translation.pods.verdicts import SIDECAR, Loss, Verdict

_LOGS = ("left out: what the task prints is in Airflow's log and in Modal's anyway", "")
_MESH = ("left out: the task's traffic does not go through the mesh", "see that what it calls can be reached without")
_METRICS = ("left out: metrics that are sent to it are lost", "send them to an address that the sandbox can reach")
_SECRETS = ("left out: the secrets that it writes into files are not there", 'write {"modal": {"secrets": [NAME]}}')
_DAGS = ("left out: Airflow 3 brings a task its DAG as a bundle", "configure a GitDagBundle, or [modal_executor] dags_volume")

KNOWN: Mapping[str, tuple[str, str]] = {
    **dict.fromkeys(("fluent-bit", "fluentd", "filebeat", "promtail", "vector", "logstash"), _LOGS),
    **dict.fromkeys(("istio-proxy", "linkerd-proxy"), _MESH),
    **dict.fromkeys(("statsd-exporter",), _METRICS),
    "vault-agent": _SECRETS,
    "git-sync": _DAGS,
}
"""What is lost with each sidecar that is left out unless the site says otherwise, and what to do about it."""
_OTHER = ("left out: [modal_executor] dropped_sidecars names it", "")

_ALSO_CALLED: Mapping[str, str] = {
    "proxyv2": "istio-proxy",
    "vault": "vault-agent",
    "vault-k8s": "vault-agent",
    "aws-for-fluent-bit": "fluent-bit",
    "statsd_exporter": "statsd-exporter",
}
"""Names of their images, and other names that people give them."""


def verdict_on(container: ContainerPieces, dropped: Collection[str]) -> Verdict:
    """Return what becomes of a container beside the task's."""
    for name in _names(container):
        if name in dropped:
            reason, hint = KNOWN.get(name, _OTHER)
            return Verdict(Loss.SMALL, reason, hint)
    return SIDECAR


def _names(container: ContainerPieces) -> list[str]:
    """Return what the container may be known by: its name, and its image without registry and tag."""
    found = []
    for field in ("name", "image"):
        piece = container.fields.get(field)
        if piece is not None and isinstance(piece.value, str):
            name = piece.value.rpartition("/")[2].partition("@")[0].partition(":")[0]
            found += [name, _ALSO_CALLED.get(name, name)]
    return found
