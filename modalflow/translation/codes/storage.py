"""Codes of a pod's Secrets, ConfigMaps, files and volumes. Rows of ``codes.table``."""

from __future__ import annotations

from modalflow.translation.codes.row import Code, base, mounted, task

ROWS: tuple[Code, ...] = (
    # -- Secrets, ConfigMaps and files
    Code(
        "unknown-config-map",
        "error",
        "Nobody says where the ConfigMap is",
        "Modal has no ConfigMaps, and modalflow cannot ask the cluster.",
        "What it holds would be missing in the task.",
        "Name its file, or a Modal Secret, in `[modal_executor] config_maps`.",
        base({"envFrom": [{"configMapRef": {"name": "site"}}]}),
    ),
    Code(
        "unreadable-config-map",
        "error",
        "The ConfigMap's file cannot be read",
        "`[modal_executor] config_maps` names a file that is not there, or no ConfigMap.",
        "What it holds would be missing in the task.",
        "Mend the file or the option.",
        base({"envFrom": [{"configMapRef": {"name": "site"}}]}, {"config_maps": '{"site": "/nonexistent/site.yaml"}'}),
    ),
    Code(
        "absent",
        "notice",
        "An optional ConfigMap, or a file of it, is left out",
        "The pod calls it optional, and nobody says where it is, or it has no such key.",
        "Kubernetes leaves it out too where it is not there.",
        "Name it in `[modal_executor] config_maps` to have it.",
        base({"envFrom": [{"configMapRef": {"name": "site", "optional": True}}]}),
    ),
    Code(
        "duplicate-file",
        "warning",
        "A volume has the file twice",
        "Two items of one volume have the same path; the later one wins.",
        "One file has one content.",
        "Remove one of them, or give it another path.",
        base(
            {"volumeMounts": [{"name": "about", "mountPath": "/about"}]},
            volumes=[
                {
                    "name": "about",
                    "downwardAPI": {
                        "items": [
                            {"path": "name", "fieldRef": {"fieldPath": "metadata.name"}},
                            {"path": "name", "fieldRef": {"fieldPath": "metadata.uid"}},
                        ]
                    },
                }
            ],
        ),
    ),
    Code(
        "unknown-keys",
        "error",
        "The keys of a Secret are not known",
        "The pod takes the whole Secret as files, or with a prefix, and modalflow does not know which keys it has.",
        "Modal gives Secrets as variables, and tells nobody their names.",
        "List the keys in `items`, or in `[modal_executor] kubernetes_secrets`.",
        mounted({"secret": {"secretName": "tls"}}),
    ),
    Code(
        "no-such-key",
        "error",
        "The ConfigMap or volume has no such key",
        "A key or file that the pod names is not there.",
        "Kubernetes would not start the pod.",
        "Write one of the keys that the text lists, or call it optional.",
        task(
            {
                "pod_override": {
                    "spec": {
                        "containers": [
                            {
                                "name": "base",
                                "env": [{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "app", "key": "mood"}}}],
                            }
                        ]
                    }
                }
            },
            {"config_maps": '{"app": "TMP/app.yaml"}'},
            {"app.yaml": "{kind: ConfigMap, data: {mode: fast}}"},
        ),
    ),
    Code(
        "skipped-key",
        "notice",
        "A key that cannot name a variable",
        "`envFrom` leaves the key out.",
        "Kubernetes does the same.",
        "Take the key by `valueFrom` under another name.",
        task(
            {"pod_override": {"spec": {"containers": [{"name": "base", "envFrom": [{"configMapRef": {"name": "app"}}]}]}}},
            {"config_maps": '{"app": "TMP/app.yaml"}'},
            {"app.yaml": "{kind: ConfigMap, data: {app.ini: '[a]'}}"},
        ),
    ),
    Code(
        "secret-collision",
        "error",
        "Two Modal Secrets give the same variable",
        "One would replace the other's value.",
        "Modal gives Secrets as variables of their keys' names, and the later one wins.",
        "Give one of them another key on Modal, and name it in `[modal_executor] kubernetes_secrets`.",
        base(
            {
                "env": [
                    {"name": name, "valueFrom": {"secretKeyRef": {"name": name.lower(), "key": "password"}}}
                    for name in ("DB", "FTP")
                ]
            }
        ),
    ),
    Code(
        "unknown-pull-secret",
        "error",
        "Nobody says which Modal Secret pulls the image",
        "The pod's `imagePullSecrets` are in the cluster.",
        "Modal could not pull the image.",
        "Name the Modal Secret in `[modal_executor] registry_secrets`, or as `registry_secret`.",
        base({"image": "ghcr.io/me/train:1.2"}, imagePullSecrets=[{"name": "pull"}]),
    ),
    Code(
        "bad-mode",
        "error",
        "No file mode",
        "A file's mode is outside 0 to 0777.",
        "Kubernetes' API would refuse it.",
        "Write it in octal in YAML (`0400`), in decimal in JSON and Python's dicts (`0o400`).",
        mounted({"secret": {"secretName": "tls", "defaultMode": 4096, "items": [{"key": "a", "path": "a"}]}}),
    ),
    Code(
        "withheld-file",
        "notice",
        "Airflow's own configuration is left out",
        "`airflow.cfg` of the cluster is not given to the task.",
        "modalflow configures Airflow in a sandbox itself, without the secrets in that file.",
        "Remove it.",
        mounted({"configMap": {"name": "site"}}, mountPath="/opt/airflow/airflow.cfg", subPath="airflow.cfg"),
    ),
    Code(
        "large-setup",
        "error",
        "Too much text for a sandbox",
        "Variables and files that the sandbox writes itself are too large.",
        "They travel in a variable of the sandbox, which Modal bounds.",
        "Put large files into the image or a Modal Volume.",
        task(
            {
                "pod_override": {
                    "spec": {
                        "containers": [{"name": "base", "volumeMounts": [{"name": "data", "mountPath": "/data"}]}],
                        "volumes": [{"name": "data", "configMap": {"name": "app"}}],
                    }
                }
            },
            {"config_maps": '{"app": "TMP/app.yaml"}'},
            {"app.yaml": "{kind: ConfigMap, data: {table.csv: LONG}}"},
        ),
    ),
    # -- volumes
    Code(
        "unknown-claim",
        "error",
        "Nobody says what the claim is",
        "A PersistentVolumeClaim or device claim lives in the cluster.",
        "The task would run without its data, or its GPU.",
        "Name the Modal Volume in `[modal_executor] claims`, the GPU in `resource_claims`, or write them under `modal`.",
        mounted({"persistentVolumeClaim": {"claimName": "data"}}),
    ),
    Code(
        "unknown-bucket",
        "error",
        "Nobody says how the bucket is opened",
        "A CSI volume is a bucket, which the pod's service account or the node could open in the cluster.",
        "A sandbox has neither: the task would run without its data.",
        "Add the bucket to `[modal_executor] buckets` with a `secret` or a `role_arn`, or as `{}` if it is public.",
        mounted({"csi": {"driver": "s3.csi.aws.com", "volumeAttributes": {"bucketName": "raw"}}}),
    ),
    Code(
        "no-such-volume",
        "error",
        "The pod has no such volume",
        "A mount names a volume that is not declared.",
        "Kubernetes' API would refuse the pod too.",
        "Declare it, or remove the mount.",
        base({"volumeMounts": [{"name": "data", "mountPath": "/data"}]}),
    ),
    Code(
        "shared-mount",
        "warning",
        "A read-only mount can be written",
        "The same claim is also mounted for writing.",
        "Modal mounts a Volume once, and the other path is a link to it.",
        "Mount it read-only at both, or once.",
        base(
            {"volumeMounts": [{"name": "d", "mountPath": "/in", "readOnly": True}, {"name": "d", "mountPath": "/out"}]},
            {"claims": '{"data": "datasets"}'},
            volumes=[{"name": "d", "persistentVolumeClaim": {"claimName": "data"}}],
        ),
    ),
)
