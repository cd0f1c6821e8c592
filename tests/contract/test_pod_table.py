"""The table of pod fields that are honoured, row by row, from the pod to what Modal is asked for and what the sandbox sees.

Each pod below holds many rows of the table; each expectation names its row. A pod is translated, created through the gateway by
the unmodified client, and looked at from inside by the sandbox's own program.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from modal_proto import api_pb2

from tests.contract.in_sandbox import CANARY, plan_of, seen, task_log

if TYPE_CHECKING:
    from modalflow.emulator import EmulatorThread

pytestmark = pytest.mark.emulated
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="sandboxes of the emulator start as root only where the tests do")


def differences(rows: dict[str, tuple[object, object]]) -> dict[str, tuple[object, object]]:
    """Return the rows that came out otherwise than they should: (is, should be)."""
    return {row: both for row, both in rows.items() if both[0] != both[1]}


ASKED = """
metadata:
  namespace: ml
  labels: {team: "vision", cost-center: "42"}
  annotations: {owner: "me", modalflow/cloud: aws}
spec:
  activeDeadlineSeconds: 600
  runtimeClassName: kata-qemu
  terminationGracePeriodSeconds: 45
  imagePullSecrets: [{name: ghcr-pull}]
  nodeSelector: {topology.kubernetes.io/region: us-east-1}
  resources: {requests: {memory: 3Gi}}
  containers:
    - name: base
      image: ghcr.io/me/train:v1
      imagePullPolicy: Always
      command: [env, FROM_COMMAND=yes]
      workingDir: /work
      resources: {requests: {cpu: 500m, memory: 1Gi}, limits: {cpu: "4", memory: 2Gi}}
      env:
        - {name: PLAIN, value: a}
        - {name: PLAIN_AGAIN, value: "$(PLAIN)b $$(PLAIN)"}
        - {name: NAMESPACE, valueFrom: {fieldRef: {fieldPath: metadata.namespace}}}
        - {name: TEAM, valueFrom: {fieldRef: {fieldPath: "metadata.labels['team']"}}}
        - {name: OWNER, valueFrom: {fieldRef: {fieldPath: "metadata.annotations['owner']"}}}
        - {name: CPUS, valueFrom: {resourceFieldRef: {resource: limits.cpu}}}
        - {name: MIBS, valueFrom: {resourceFieldRef: {resource: requests.memory, divisor: 1Mi}}}
      volumeMounts:
        - {name: data, mountPath: /data, subPath: raw, readOnly: true}
        - {name: out, mountPath: /out, subPathExpr: $(PLAIN)/x}
        - {name: bucket, mountPath: /bucket, readOnly: true}
        - {name: cache, mountPath: /cache}
  volumes:
    - {name: data, persistentVolumeClaim: {claimName: datasets}}
    - {name: out, persistentVolumeClaim: {claimName: results}}
    - {name: bucket, csi: {driver: s3.csi.aws.com, volumeAttributes: {bucketName: models}}}
    - {name: cache, emptyDir: {medium: Memory, sizeLimit: 512Mi}}
"""
SITE: dict[str, object] = {
    "claims": {"datasets": "datasets", "results": "results"},
    "registry_secrets": {"ghcr-pull": "ghcr"},
    "namespaces": {"ml": "/ml-tasks"},
    "buckets": {"models": {}},
    "pull_always": True,
}


def test_what_modal_is_asked_for(modal_emulator: EmulatorThread) -> None:
    registry = {"REGISTRY_USERNAME": "me", "REGISTRY_PASSWORD": CANARY}
    names = (
        "MODAL_IDENTITY_TOKEN",
        "PLAIN",
        "PLAIN_AGAIN",
        "NAMESPACE",
        "TEAM",
        "OWNER",
        "CPUS",
        "MIBS",
        "FROM_COMMAND",
        "MODALFLOW_SETUP",
    )
    plan = plan_of(ASKED, SITE, {"env": names, "files": [], "write": {"/cache/a": "1"}})
    inside = seen(plan, secrets={"ghcr": registry}, volumes=("datasets", "results"))
    (call,) = modal_emulator.calls("SandboxCreateV2")
    assert isinstance(call, api_pb2.SandboxCreateV2Request)
    asked = call.definition
    images = [one for one in modal_emulator.calls("ImageGetOrCreate") if isinstance(one, api_pb2.ImageGetOrCreateRequest)]
    lines = [line for image in images for line in image.image.dockerfile_commands]
    mounts = {mount.mount_path: mount for mount in asked.volume_mounts}
    apps = {app.name for app in modal_emulator.workspace.apps.values()}
    tags = {tag.tag_name: tag.tag_value for tag in call.tags}
    (bucket,) = asked.cloud_bucket_mounts
    env = inside["env"]
    assert CANARY not in str(call)
    rows: dict[str, tuple[object, object]] = {
        "1a activeDeadlineSeconds": (asked.timeout_secs, 600),
        "1a runtimeClassName": (asked.runtime, "vm"),
        "1a terminationGracePeriodSeconds": (tags.get("stop_grace"), "45"),
        "1a imagePullSecrets": (
            images[0].image.image_registry_config.registry_auth_type,
            api_pb2.REGISTRY_AUTH_TYPE_STATIC_CREDS,
        ),
        "1a nodeSelector region": (list(asked.scheduler_placement.regions), ["us-east"]),
        "1b image": (lines[0], "FROM ghcr.io/me/train:v1"),
        "1b imagePullPolicy": (images[0].force_build, True),
        "1b command": (env["FROM_COMMAND"], "yes"),
        "1b workingDir": (inside["folder"], "/work"),
        "1b volumeMounts readOnly": (mounts["/data"].read_only, True),
        "1b volumeMounts subPath": (mounts["/data"].sub_path, "raw"),
        "1b volumeMounts subPathExpr": (mounts["/out"].sub_path, "a/x"),
        "1b env": (env["PLAIN"], "a"),
        "1c $(NAME)": (env["PLAIN_AGAIN"], "ab $(PLAIN)"),
        "1c fieldRef namespace": (env["NAMESPACE"], "ml"),
        "1c fieldRef label": (env["TEAM"], "vision"),
        "1c fieldRef annotation": (env["OWNER"], "me"),
        "1c resourceFieldRef": ((env["CPUS"], env["MIBS"]), ("4", "1024")),
        "1d persistentVolumeClaim": (len(mounts), 3),
        "1d csi": ((bucket.bucket_name, bucket.mount_path, bucket.read_only), ("models", "/bucket", True)),
        "1d emptyDir in memory": ((asked.resources.memory_mb, asked.resources.memory_mb_max), (1536, 2048)),
        "1e labels and annotations": ((tags["team"], tags["cost-center"], tags["owner"]), ("vision", "42", "me")),
        "1e annotation modalflow/": (asked.cloud_provider_str, "aws"),
        "1e namespace": (apps, {"ml-tasks"}),
        "1f cpu": ((asked.resources.milli_cpu, asked.resources.milli_cpu_max), (250, 2000)),
        "1a service account: no identity unless asked": (env["MODAL_IDENTITY_TOKEN"], None),
        "nothing of ours stays": (env["MODALFLOW_SETUP"], None),
    }
    assert differences(rows) == {}


MADE = """
metadata: {labels: {team: vision}}
spec:
  hostAliases: [{ip: 10.0.0.5, hostnames: [db]}]
  initContainers:
    - name: prepare
      command: [sh, -c, 'echo "REVISION=''r7''" > "$MODAL_EMULATOR_ROOT/scratch/vars"']
      volumeMounts: [{name: scratch, mountPath: /scratch}]
  containers:
    - name: base
      envFrom: [{prefix: C_, configMapRef: {name: app}}, {prefix: S_, secretRef: {name: keyed}}]
      env:
        - {name: PASSWORD, valueFrom: {secretKeyRef: {name: db, key: password}}}
        - {name: LEVEL, valueFrom: {configMapKeyRef: {name: app, key: LEVEL}}}
        - {name: REVISION, valueFrom: {fileKeyRef: {volumeName: scratch, path: vars, key: REVISION}}}
      lifecycle: {postStart: {exec: {command: [sh, -c, 'echo "$LEVEL" > "$MODAL_EMULATOR_ROOT/scratch/started"']}}}
      volumeMounts:
        - {name: scratch, mountPath: /scratch}
        - {name: claimed, mountPath: /claimed}
        - {name: parts, mountPath: /parts/a, subPath: a}
        - {name: parts, mountPath: /parts/all}
        - {name: twice, mountPath: /one, subPath: x}
        - {name: twice, mountPath: /two}
        - {name: repository, mountPath: /repository}
        - {name: files, mountPath: /files}
        - {name: tokens, mountPath: /tokens}
  volumes:
    - {name: scratch, emptyDir: {}}
    - {name: claimed, ephemeral: {volumeClaimTemplate: {spec: {resources: {requests: {storage: 1Gi}}}}}}
    - {name: parts, emptyDir: {}}
    - {name: twice, persistentVolumeClaim: {claimName: datasets}}
    - {name: repository, gitRepo: {repository: "file://REPOSITORY", directory: "."}}
    - {name: spare, nfs: {server: a, path: /b}}
    - name: files
      projected:
        defaultMode: 0440
        sources:
          - {configMap: {name: app, items: [{key: LEVEL, path: conf/level, mode: 0644}]}}
          - {secret: {name: db, items: [{key: password, path: password}]}}
          - {downwardAPI: {items: [{path: labels, fieldRef: {fieldPath: metadata.labels}}]}}
    - {name: tokens, projected: {sources: [{serviceAccountToken: {path: token}}]}}
"""
USER = "runAsUser: 50000, runAsGroup: 7, fsGroup: 2000, supplementalGroups: [1001], runAsNonRoot: true"


def made(tmp_path: Path, pod: str, **look_at: list[str]) -> dict[str, Any]:
    """Run the pod; return what its sandbox sees."""
    repository = tmp_path / "repository"
    repository.mkdir()
    (repository / "model.py").write_text("x = 1\n")
    who = ("-c", "user.name=me", "-c", "user.email=me@example.com")
    for words in (("init", "--quiet"), ("add", "."), (*who, "commit", "--quiet", "-m", "one")):
        subprocess.run(["git", *words], cwd=repository, check=True)
    manifest = tmp_path / "app.yaml"
    manifest.write_text("{kind: ConfigMap, data: {LEVEL: high}}")
    site = {
        "config_maps": {"app": str(manifest)},
        "kubernetes_secrets": {"keyed": {"name": "keyed", "keys": ["ONE"]}},
        "claims": {"datasets": "datasets"},
        "oidc": True,
    }
    plan = plan_of(pod.replace("REPOSITORY", str(repository)), site, look_at)
    return seen(plan, secrets={"db": {"password": CANARY}, "keyed": {"ONE": "1"}}, volumes=("datasets",))


def test_what_is_made_in_the_sandbox(modal_emulator: EmulatorThread, tmp_path: Path) -> None:
    names = ("PASSWORD", "password", "LEVEL", "REVISION", "C_LEVEL", "S_ONE", "ONE", "MODAL_IDENTITY_TOKEN")
    files = (
        "/etc/hosts", "/scratch", "/claimed", "/parts/all", "/repository/model.py", "/files/conf/level", "/files/password",
        "/files/labels", "/tokens/token",
    )  # fmt: skip
    links = ["/parts/a", "/parts/all", "/one", "/two"]
    found = made(tmp_path, MADE, env=list(names), files=list(files), links=links)
    env, inside, to = found["env"], found["files"], found["links"]
    shared = "/mnt/modalflow/volumes/datasets"
    (call,) = modal_emulator.calls("SandboxCreateV2")
    assert CANARY not in f"{call} {task_log()}"
    rows: dict[str, tuple[object, object]] = {
        "1a hostAliases": (inside["/etc/hosts"][1].splitlines()[-1], "10.0.0.5\tdb"),
        "1a initContainers": ('info: the init container "prepare" starts' in task_log(), True),
        "1b postStart": (inside["/scratch"], ["started", "vars"]),
        "1b the same claim at two paths": ((to["/one"], to["/two"]), (f"{shared}/x", shared)),
        "1c secretKeyRef": ((env["PASSWORD"], env["password"]), (CANARY, None)),
        "1c secretRef with prefix": ((env["S_ONE"], env["ONE"]), ("1", None)),
        "1c configMapKeyRef": (env["LEVEL"], "high"),
        "1c configMapRef with prefix": (env["C_LEVEL"], "high"),
        "1c fileKeyRef": (env["REVISION"], "r7"),
        "1d ephemeral": (inside["/claimed"], []),
        "1d emptyDir in parts": ((inside["/parts/all"], to["/parts/a"]), (["a"], f"{to['/parts/all']}/a")),
        "1d gitRepo": (inside["/repository/model.py"][1], "x = 1\n"),
        "1d projected configMap": (inside["/files/conf/level"], ["0o644", "high"]),
        "1d projected secret": (inside["/files/password"], ["0o440", CANARY]),
        "1d projected downwardAPI": (inside["/files/labels"], ["0o440", 'team="vision"']),
        "1d serviceAccountToken": (inside["/tokens/token"], ["0o400", env["MODAL_IDENTITY_TOKEN"]]),
    }
    assert differences(rows) == {}


@as_root
def test_whose_it_is(modal_emulator: EmulatorThread, tmp_path: Path) -> None:
    pod = MADE.replace("spec:\n", f"spec:\n  securityContext: {{{USER}}}\n", 1)
    owners = ["/scratch", "/scratch/vars", "/claimed", "/parts/all", "/files/password", "/repository/model.py", "/tokens/token"]
    found = made(tmp_path, pod, env=[], files=["/files/password", "/tokens/token"], owners=owners)
    own = found["owners"]
    rows: dict[str, tuple[object, object]] = {
        "1e runAsUser, runAsGroup, supplementalGroups": (found["user"], [50000, 7, [7, 1001, 2000]]),
        "1e fsGroup": ({tuple(own[path]) for path in owners if path != "/scratch/vars"}, {(50000, 2000)}),
        "1e fsGroup: a folder's files have its group": (own["/scratch/vars"], [50000, 2000]),
        "1d secret": (found["files"]["/files/password"], ["0o440", CANARY]),
        "1d serviceAccountToken": (found["files"]["/tokens/token"][0], "0o440"),
    }
    assert differences(rows) == {}


HARDWARE = """
spec:
  affinity:
    nodeAffinity:
      requiredDuringSchedulingIgnoredDuringExecution:
        nodeSelectorTerms:
          - matchExpressions: [{key: nvidia.com/gpu.product, operator: In, values: [NVIDIA-A10G, NVIDIA-L4]}]
      preferredDuringSchedulingIgnoredDuringExecution:
        - {weight: 9, preference: {matchExpressions: [{key: nvidia.com/gpu.product, operator: In, values: [NVIDIA-L4]}]}}
  containers:
    - name: base
      resources: {limits: {nvidia.com/gpu: 2, memory: 8Gi, ephemeral-storage: 100Gi}, requests: {cpu: "2"}}
"""


def test_hardware(modal_emulator: EmulatorThread) -> None:
    plan = plan_of(HARDWARE, {}, {"env": [], "files": []})
    assert seen(plan, gpu=plan.gpu_candidates[0])["env"] == {}
    (call,) = modal_emulator.calls("SandboxCreate")
    assert isinstance(call, api_pb2.SandboxCreateRequest)
    asked = call.definition.resources
    rows: dict[str, tuple[object, object]] = {
        "1a nodeAffinity required and preferred": (plan.gpu_candidates, ("L4:2", "A10:2")),
        "1f nvidia.com/gpu": ((asked.gpu_config.gpu_type, asked.gpu_config.count), ("L4", 2)),
        "1f requests.cpu alone": ((asked.milli_cpu, asked.milli_cpu_max), (1000, 0)),
        "1f limits.memory alone": ((asked.memory_mb, asked.memory_mb_max), (8192, 8192)),
    }
    assert differences(rows) == {}
