"""What becomes of each pod field that modalflow does not translate: the support matrix as data.

``pods.fields`` reads the fields that have a meaning on Modal and looks every other one up here. A field in neither is unknown to
Kubernetes. Fields: kubernetes client 36; reasons: Modal's documentation, 2026-09.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from modalflow.translation.report import Place


class Loss(StrEnum):
    """What dropping a field costs.

    ``NONE``: nothing, a notice. ``SMALL``: the task runs, with a warning (``[modal_executor] on_unsupported`` says otherwise).
    ``REFUSED``: data, hardware, security or the result would change, so an error (but what ``allow`` names).
    """

    NONE = "none"
    SMALL = "small"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Verdict:
    """``harmless`` lists values that ask for what Modal does anyway; they are a notice whatever the loss."""

    loss: Loss
    reason: str
    hint: str = ""
    harmless: tuple[object, ...] = ()


def _none(reason: str) -> Verdict:
    return Verdict(Loss.NONE, reason)


def _small(reason: str, hint: str = "", harmless: tuple[object, ...] = ()) -> Verdict:
    return Verdict(Loss.SMALL, reason, hint, harmless)


def _refused(reason: str, hint: str = "", harmless: tuple[object, ...] = ()) -> Verdict:
    return Verdict(Loss.REFUSED, reason, hint, harmless)


_OURS = _none("modalflow names and labels its sandboxes itself")

METADATA: Mapping[str, Verdict] = {
    "name": _OURS,
    "generateName": _OURS,
    "namespace": _small(
        "[modal_executor] namespaces does not say where it is on Modal",
        'add {NAMESPACE: "ENVIRONMENT/APP"}, or "" for modalflow\'s own',
        harmless=("default",),
    ),
    "uid": _OURS,
    "ownerReferences": _OURS,
    "finalizers": _OURS,
    "managedFields": _OURS,
    "creationTimestamp": _OURS,
    "deletionTimestamp": _OURS,
    "deletionGracePeriodSeconds": _OURS,
    "generation": _OURS,
    "resourceVersion": _OURS,
    "selfLink": _OURS,
}

_IDENTITY = _small(
    "a sandbox has no Kubernetes identity: cloud calls made by it are refused",
    'give the task a Modal Secret with keys, or write {"modal": {"oidc": True}} and let the cloud role trust Modal',
    harmless=("default",),
)

_MODALS_IDENTITY = _small(
    "a sandbox has Modal's identity (oidc) in its place",
    "let the cloud role trust Modal, and log in with the token in MODAL_IDENTITY_TOKEN",
    harmless=("default",),
)

SPEC: Mapping[str, Verdict] = {
    "automountServiceAccountToken": _small("a sandbox has no Kubernetes identity", "remove it", harmless=(False,)),
    "dnsConfig": _small("name servers of a sandbox cannot be set"),
    "dnsPolicy": _small("name servers of a sandbox cannot be set", harmless=("ClusterFirst", "Default")),
    "enableServiceLinks": _none("there are no Services"),
    "ephemeralContainers": _none("for debugging only"),
    "hostIPC": _refused("a sandbox shares nothing with a host", "remove it", harmless=(False,)),
    "hostNetwork": _refused(
        "a sandbox has no host network", "make what the task reaches there public, or use a Proxy", harmless=(False,)
    ),
    "hostPID": _refused("a sandbox shares nothing with a host", "remove it", harmless=(False,)),
    "hostUsers": _none("a sandbox is isolated from the host's users"),
    "hostname": _small("a sandbox's host name is modalflow's own"),
    "hostnameOverride": _small("a sandbox's host name is modalflow's own"),
    "setHostnameAsFQDN": _small("a sandbox's host name is modalflow's own", harmless=(False,)),
    "subdomain": _small("a sandbox's host name is modalflow's own"),
    "nodeName": _refused("there is no such node", "remove it"),
    "os": _refused("sandboxes run Linux", "remove it", harmless=({"name": "linux"},)),
    "overhead": _none("set by Kubernetes"),
    "preemptionPolicy": _none("Modal has no pod priority"),
    "priority": _none("Modal has no pod priority"),
    "priorityClassName": _small("Modal has no pod priority"),
    "readinessGates": _none("nothing waits for a task to be ready"),
    "restartPolicy": _small("Airflow retries tasks", harmless=("Never",)),
    "schedulerName": _small("Modal schedules sandboxes", harmless=("default-scheduler",)),
    "schedulingGates": _small("Modal schedules sandboxes"),
    "schedulingGroup": _small("Modal schedules sandboxes one by one"),
    "serviceAccount": _IDENTITY,
    "serviceAccountName": _IDENTITY,
    "shareProcessNamespace": _none("a sandbox has one container"),
    "tolerations": _none("Modal has no taints"),
    "topologySpreadConstraints": _none("each task has a sandbox of its own"),
}
SPEC_WITH_OIDC: Mapping[str, Verdict] = {**SPEC, **dict.fromkeys(("serviceAccount", "serviceAccountName"), _MODALS_IDENTITY)}
"""``SPEC`` for a task that asks for ``oidc``."""

PULL_POLICY = _small(
    "Modal keeps the image it pulled first",
    "change the tag to pull anew, or set [modal_executor] pull_always",
    harmless=("IfNotPresent",),
)

CONTAINER: Mapping[str, Verdict] = {
    "args": _refused("arguments replace Airflow's own command, so the task would never run", "move them into the task"),
    "imagePullPolicy": PULL_POLICY,
    "livenessProbe": _small("Airflow's own heartbeat watches the task"),
    "ports": _none("a task serves nobody"),
    "readinessProbe": _none("nothing waits for a task to be ready"),
    "resizePolicy": _none("a sandbox is not resized"),
    "restartPolicy": _none("Airflow retries tasks"),
    "restartPolicyRules": _none("Airflow retries tasks"),
    "startupProbe": _none("nothing waits for a task to start"),
    "stdin": _none("a task reads nothing there"),
    "stdinOnce": _none("a task reads nothing there"),
    "terminationMessagePath": _none("modalflow keeps the reason of each end"),
    "terminationMessagePolicy": _none("modalflow keeps the reason of each end"),
    "tty": _small("a task has no terminal", harmless=(False,)),
    "volumeDevices": _refused("a sandbox has no block devices", 'write {"modal": {"volumes": {PATH: NAME}}}'),
}

NEVER_PULLED = _refused("there is no node that has the image already", "push it to a registry, and remove this")

_ISOLATED = _none("a sandbox is isolated at least as well")

SECURITY_CONTEXT: Mapping[str, Verdict] = {
    "allowPrivilegeEscalation": _none("a sandbox is isolated from the host either way"),
    "appArmorProfile": _ISOLATED,
    "fsGroupChangePolicy": _none("what a sandbox is given is new, and its group is set at once"),
    "privileged": _refused("a sandbox is never privileged", "remove it", harmless=(False,)),
    "procMount": _refused("a sandbox's /proc cannot be chosen", "remove it", harmless=("Default",)),
    "readOnlyRootFilesystem": _small("a sandbox's file system can be written", harmless=(False,)),
    "seLinuxChangePolicy": _ISOLATED,
    "seLinuxOptions": _ISOLATED,
    "seccompProfile": _ISOLATED,
    "sysctls": _refused("kernel settings of a sandbox cannot be changed", "remove them"),
    "windowsOptions": _refused("sandboxes run Linux", "remove it"),
}
CAPABILITIES: Mapping[str, Verdict] = {
    "add": _refused("a sandbox gets no further capabilities", "remove it"),
    "drop": _ISOLATED,
}

AFFINITY: Mapping[str, Verdict] = {
    "podAffinity": _small("each task has a sandbox of its own, near no other"),
    "podAntiAffinity": _none("each task has a sandbox of its own"),
}

RUNTIME_CLASS = _small(
    "Modal has gVisor and virtual machines only", 'write "gvisor" or "kata", or remove it', harmless=("nvidia",)
)

SIDECAR = _refused(
    "a sandbox has one container",
    "start it in the task, or bake it into the image; name it in [modal_executor] dropped_sidecars if the task runs without it",
)
INIT_CONTAINER = _refused(
    "its image is another one than the task's, and a sandbox has one", "bake what it prepares into the image or a Volume"
)
INIT_LIFECYCLE = _refused("Kubernetes allows no hooks of an init container", "remove it")
INIT_RESOURCES = _small("it runs in the task's sandbox, with what the task has", "give the task what it needs")
GIT_SYNC = _small(
    "git-sync is not run: Airflow 3 brings a task its DAG as a bundle",
    "configure a GitDagBundle, or [modal_executor] dags_volume, and remove it",
)

_VOLUME = 'put the data into a Modal Volume and write {"modal": {"volumes": {PATH: NAME_OF_A_MODAL_VOLUME}}}'
_BLOCK = _refused("a sandbox has no block devices", _VOLUME)
_NETWORK = _refused("a sandbox cannot mount network file systems", _VOLUME)

VOLUME_SOURCES: Mapping[str, Verdict] = {
    "awsElasticBlockStore": _BLOCK,
    "azureDisk": _BLOCK,
    "azureFile": _NETWORK,
    "cephfs": _NETWORK,
    "cinder": _BLOCK,
    "fc": _BLOCK,
    "flexVolume": _refused("drivers of a cluster are not in a sandbox", _VOLUME),
    "flocker": _NETWORK,
    "gcePersistentDisk": _BLOCK,
    "glusterfs": _NETWORK,
    "image": _refused("images are not mounted into a sandbox", "copy what it holds into the task's image"),
    "iscsi": _BLOCK,
    "nfs": _NETWORK,
    "photonPersistentDisk": _BLOCK,
    "portworxVolume": _NETWORK,
    "quobyte": _NETWORK,
    "rbd": _BLOCK,
    "scaleIO": _BLOCK,
    "storageos": _NETWORK,
    "vsphereVolume": _BLOCK,
}
PROJECTED: Mapping[str, Verdict] = {
    "clusterTrustBundle": _refused("a sandbox has no cluster whose certificates it could trust", "put them into a Modal Secret"),
    "podCertificate": _refused("nobody issues a certificate to a sandbox", "put one into a Modal Secret"),
}
UNMOUNTED = _none("declared, but not mounted by the task's container")

NODE_LABELS: Mapping[str, Verdict] = {
    **dict.fromkeys(
        ("kubernetes.io/arch", "beta.kubernetes.io/arch"),
        _refused("Modal's machines are amd64", "build the image for amd64", harmless=("amd64",)),
    ),
    **dict.fromkeys(
        ("kubernetes.io/os", "beta.kubernetes.io/os"), _refused("sandboxes run Linux", "remove it", harmless=("linux",))
    ),
    **dict.fromkeys(
        ("karpenter.sh/capacity-type", "eks.amazonaws.com/capacityType", "cloud.google.com/gke-provisioning"),
        _small("GPU sandboxes can be preempted, others cannot; this cannot be chosen", harmless=("spot", "SPOT")),
    ),
    **dict.fromkeys(
        ("cloud.google.com/gke-spot", "cloud.google.com/gke-preemptible", "kubernetes.azure.com/scalesetpriority"),
        _none("GPU sandboxes can be preempted, others cannot"),
    ),
    **dict.fromkeys(
        ("cloud.google.com/gke-gpu-sharing-strategy", "cloud.google.com/gke-max-shared-clients-per-gpu"),
        _none("Modal rents whole GPUs, shared by nobody"),
    ),
    "kubernetes.io/hostname": _refused("there is no such node", "remove it"),
}
OTHER_LABEL = _small("chooses nothing that Modal has")


def apply(verdict: Verdict, value: object, place: Place) -> None:
    """Report one field by its verdict."""
    if any(value is known if isinstance(known, bool) else value == known for known in verdict.harmless):
        place.notice("no-effect", "this is how a sandbox is anyway")
    elif verdict.loss is Loss.NONE:
        place.notice("no-effect", f"has no effect: {verdict.reason}")
    elif verdict.loss is Loss.SMALL:
        place.warn("dropped", f"is not honoured: {verdict.reason}", verdict.hint)
    else:
        place.error("refused-field", verdict.reason, verdict.hint)
