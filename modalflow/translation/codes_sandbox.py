"""Codes of what a pod has done in its sandbox before, around and at the end of the task. Rows of ``codes``."""

from __future__ import annotations

from modalflow.translation.code_row import Code, base, task

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
)
