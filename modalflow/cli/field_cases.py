"""Further values of pod fields whose verdict depends on the value, beside the one sample that ``field_matrix`` gives each.

Flows in: nothing. Flows out: by the row of the matrix, the values to try. A value is written where the sample stands, so one of a
map's entry is the entry's. No verdict is written down here: each is found by translating.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

_ROOT = (0, 1000)
_FIELD_PATHS = (
    "metadata.labels['team']",
    "metadata.labels['dag_id']",
    "spec.serviceAccountName",
    "spec.nodeName",
    "status.podIP",
    "status.hostIP",
    "spec.x",
)
CASES: Mapping[str, Sequence[object]] = {
    "spec.automountServiceAccountToken": (False,),
    "spec.dnsPolicy": ("ClusterFirst", "Default", "None", "ClusterFirstWithHostNet"),
    "spec.hostIPC": (False,),
    "spec.hostNetwork": (False,),
    "spec.hostPID": (False,),
    "spec.os.name": ("linux", "windows"),
    "spec.restartPolicy": ("Never", "Always"),
    "spec.runtimeClassName": ("gvisor", "kata", "nvidia"),
    "spec.serviceAccountName": ("default",),
    "spec.schedulerName": ("default-scheduler", "volcano"),
    "spec.shareProcessNamespace": (False,),
    "spec.terminationGracePeriodSeconds": (30, 600),
    "spec.securityContext.runAsNonRoot": (False,),
    "spec.securityContext.runAsUser": _ROOT,
    "spec.securityContext.runAsGroup": _ROOT,
    "spec.topologySpreadConstraints[].whenUnsatisfiable": ("DoNotSchedule", "ScheduleAnyway"),
    "spec.tolerations[].key": ("nvidia.com/gpu",),
    "spec.containers[].command[]": ("bash", "airflow"),
    "spec.containers[].imagePullPolicy": ("IfNotPresent", "Always", "Never"),
    "spec.containers[].securityContext.allowPrivilegeEscalation": (False,),
    "spec.containers[].securityContext.capabilities.add[]": ("SYS_ADMIN", "NET_BIND_SERVICE"),
    "spec.containers[].securityContext.capabilities.drop[]": ("ALL",),
    "spec.containers[].securityContext.privileged": (False,),
    "spec.containers[].securityContext.procMount": ("Default", "Unmasked"),
    "spec.containers[].securityContext.readOnlyRootFilesystem": (False,),
    "spec.containers[].securityContext.runAsNonRoot": (False,),
    "spec.containers[].securityContext.runAsUser": _ROOT,
    "spec.containers[].env[].name": ("AIRFLOW__CORE__FERNET_KEY", "MODALFLOW_X", "1x"),
    "spec.containers[].env[].valueFrom.fieldRef.fieldPath": _FIELD_PATHS,
    "spec.containers[].volumeMounts[].readOnly": (False,),
    "spec.containers[].volumeMounts[].mountPropagation": ("None", "Bidirectional"),
    "spec.initContainers[].restartPolicy": ("Always",),
    "spec.volumes[].emptyDir.medium": ("", "HugePages"),
    "spec.volumes[].hostPath.path": ("/dev/shm", "/tmp", "/var/run/docker.sock", "/data"),  # noqa: S108 - paths in pods
    "spec.volumes[].csi.driver": (
        "s3.csi.aws.com",
        "gcsfuse.csi.storage.gke.io",
        "efs.csi.aws.com",
        "ebs.csi.aws.com",
        "file.csi.azure.com",
    ),
    'spec.nodeSelector["cloud.google.com/gke-accelerator"]': ("nvidia-tesla-a100", "nvidia-tesla-v100", "x"),
    'spec.nodeSelector["kubernetes.io/arch"]': ("amd64",),
    'spec.nodeSelector["kubernetes.io/os"]': ("windows",),
    'spec.nodeSelector["topology.kubernetes.io/region"]': ("europe-west4", "nowhere"),
    'spec.nodeSelector["node.kubernetes.io/instance-type"]': ("p5.48xlarge", "p3.2xlarge", "m5.large"),
}
"""The field paths, drivers and labels are those that the corpus of the tests has."""
