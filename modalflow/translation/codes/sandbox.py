"""Codes of what a pod has done in its sandbox before, around and at the end of the task. Rows of ``codes.table``."""

from __future__ import annotations

from modalflow.translation.codes.row import Code, base, mounted, task

ROWS: tuple[Code, ...] = (
    Code(
        "bad-user",
        "error",
        "A user or group that is none",
        "Kubernetes takes numbers here, not names, and true or false for runAsNonRoot.",
        "A name would mean another user in each image.",
        "Write the number that the image has for it, e.g. 50000 for `airflow` in apache/airflow's images.",
        base({}, securityContext={"runAsUser": "airflow"}),
    ),
    Code(
        "root-user",
        "error",
        "Root that is not to be root",
        "The pod promises not to be root, and says that it is.",
        "Kubernetes refuses to start such a container.",
        "Write another runAsUser, or remove runAsNonRoot.",
        base({}, securityContext={"runAsNonRoot": True, "runAsUser": 0}),
    ),
    Code(
        "overruled-user",
        "notice",
        "The container's own user holds",
        "Pod and container say it both; the container's value counts.",
        "It is Kubernetes' rule.",
        "Nothing needs to be done.",
        task(
            {
                "pod_override": {
                    "spec": {
                        "securityContext": {"runAsUser": 1},
                        "containers": [{"name": "base", "securityContext": {"runAsUser": 50000}}],
                    }
                }
            }
        ),
    ),
    Code(
        "volume-group",
        "warning",
        "A group that a Modal Volume does not take on",
        "fsGroup is given to the task and to what is set up for it, but not to the files of a Modal Volume.",
        "Modal mounts a Volume with owners of its own.",
        "Nothing needs to be done if the task only reads; else try it with the user that the task has.",
        task(
            {
                "pod_override": {
                    "spec": {
                        "securityContext": {"fsGroup": 2000},
                        "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}],
                        "containers": [{"name": "base", "volumeMounts": [{"name": "data", "mountPath": "/data"}]}],
                    }
                }
            },
            {"claims": '{"data": "datasets"}'},
        ),
    ),
    Code(
        "mount-conflict",
        "error",
        "Two things at one path",
        "An init container mounts at a path something else than the task's container does.",
        "It runs in the task's sandbox, which has one file system.",
        "Mount one of them at another path.",
        base(
            {"volumeMounts": [{"name": "a", "mountPath": "/data"}]},
            initContainers=[{"name": "fill", "command": ["fill"], "volumeMounts": [{"name": "b", "mountPath": "/data"}]}],
            volumes=[{"name": "a", "emptyDir": {}}, {"name": "b", "emptyDir": {}}],
        ),
    ),
    Code(
        "bad-grace",
        "error",
        "A grace period that is none",
        "terminationGracePeriodSeconds is a whole number of seconds, at most a day.",
        "A sandbox lives a day.",
        "Write seconds, e.g. 30.",
        base({}, terminationGracePeriodSeconds=-1),
    ),
    Code(
        "bad-signal",
        "error",
        "A signal that Linux does not have",
        "stopSignal is the name of a signal, with its SIG.",
        "The task would not be asked to stop.",
        "Write e.g. SIGTERM or SIGINT.",
        base({"lifecycle": {"stopSignal": "TERM"}}),
    ),
    Code(
        "bad-hook",
        "error",
        "A lifecycle hook that is none",
        "A hook is one of exec with a command, sleep with seconds, and httpGet with the number of a port.",
        "Kubernetes would refuse the pod, or take the port from a name that a sandbox does not know.",
        "Write one of them.",
        base({"lifecycle": {"preStop": {"httpGet": {"port": "http"}}}}),
    ),
    Code(
        "bad-repository",
        "error",
        "A repository or revision that is not cloned",
        "git takes https, http, ssh, git and file addresses and `user@host:path` here, without a password, and the name of a "
        "revision.",
        "Other transports run programs, and an address with a password would show it to everybody who sees the sandbox.",
        "Write the plain address; clone what needs a password in the task.",
        mounted({"gitRepo": {"repository": "ext::sh -c id"}}),
    ),
    Code(
        "cloned-once",
        "warning",
        "git-sync's volume is cloned once",
        "The task finds there what git-sync would bring before it starts, and nothing newer.",
        "A sandbox runs nothing beside its task.",
        "Nothing needs to be done if the task reads it once.",
        base(
            {"volumeMounts": [{"name": "data", "mountPath": "/data"}]},
            initContainers=[
                {
                    "name": "git-sync",
                    "image": "registry.k8s.io/git-sync/git-sync:v4.4.0",
                    "args": ["--repo=https://github.com/me/data.git", "--root=/git"],
                    "volumeMounts": [{"name": "data", "mountPath": "/git"}],
                }
            ],
            volumes=[{"name": "data", "emptyDir": {}}],
        ),
    ),
    Code(
        "memory-volume",
        "notice",
        "A volume in memory counts as memory",
        "The `sizeLimit` of an `emptyDir` with `medium: Memory` is added to the memory that the pod requests, up to its limit.",
        "What is written there takes the sandbox's memory, as it takes the pod's in a cluster.",
        "Nothing needs to be done. If the request has the volume in it already, remove `sizeLimit`.",
        base(
            {
                "resources": {"requests": {"memory": "2Gi"}, "limits": {"memory": "4Gi"}},
                "volumeMounts": [{"name": "cache", "mountPath": "/cache"}],
            },
            volumes=[{"name": "cache", "emptyDir": {"medium": "Memory", "sizeLimit": "1Gi"}}],
        ),
    ),
    Code(
        "modal-token",
        "warning",
        "Modal's token in the place of the cluster's",
        "The file holds the token of the sandbox's identity that Modal signed, for Modal's own audience.",
        "A sandbox has no identity in a cluster, and Modal's token has one audience.",
        "Let the cloud's role trust Modal's OIDC provider.",
        task(
            {
                "modal": {"oidc": True},
                "pod_override": {
                    "spec": {
                        "containers": [{"name": "base", "volumeMounts": [{"name": "t", "mountPath": "/var/run/secrets/tokens"}]}],
                        "volumes": [
                            {"name": "t", "projected": {"sources": [{"serviceAccountToken": {"path": "aws", "audience": "sts"}}]}}
                        ],
                    }
                },
            }
        ),
    ),
)
