"""What a pod asks to be set up, seen from inside a sandbox of the emulator: variables, files, folders, links, host names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from modal_proto import api_pb2

from modalflow.launch import exit_codes
from modalflow.launch.gateway import InvalidRequest
from modalflow.translation.plan import ImagePlan, SandboxPlan
from modalflow.worker import bootstrap_source
from tests.contract.in_sandbox import CANARY, plan_of, run, seen

if TYPE_CHECKING:
    from modalflow.emulator import EmulatorThread

pytestmark = pytest.mark.emulated


def test_variables_of_every_source(modal_emulator: EmulatorThread, tmp_path: Path) -> None:
    manifest = tmp_path / "app.yaml"
    manifest.write_text("{kind: ConfigMap, data: {MODE: fast}}")
    pod = """
    spec:
      containers:
        - name: base
          envFrom: [{secretRef: {name: all}}, {prefix: APP_, configMapRef: {name: app}}, {prefix: K_, secretRef: {name: keyed}}]
          env:
            - {name: WINS, value: literal}
            - {name: PGPASSWORD, valueFrom: {secretKeyRef: {name: db, key: password}}}
            - {name: URL, value: "db://$(WINS):$(PGPASSWORD)@$(FROM_ALL)/$(NOBODY)"}
            - {name: ABSENT, valueFrom: {secretKeyRef: {name: not-there, key: x, optional: true}}}
            - {name: POD, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
            - {name: DAG, valueFrom: {fieldRef: {fieldPath: "metadata.labels['dag_id']"}}}
            - {name: IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}
    """
    names = [
        "WINS",
        "PGPASSWORD",
        "password",
        "URL",
        "ABSENT",
        "POD",
        "DAG",
        "FROM_ALL",
        "APP_MODE",
        "K_ONE",
        "ONE",
        "MODALFLOW_SETUP",
    ]
    plan = plan_of(
        pod,
        {"config_maps": {"app": str(manifest)}, "kubernetes_secrets": {"keyed": {"name": "keyed", "keys": ["ONE"]}}},
        {"env": [*names, "IP"], "files": []},
    )
    secrets: dict[str, dict[str, str | None]] = {
        "all": {"WINS": "secret", "FROM_ALL": "host"},
        "db": {"password": CANARY},
        "keyed": {"ONE": "1"},
    }
    env = seen(plan, secrets=secrets)["env"]
    assert env.pop("IP").count(".") == 3
    assert env == {
        "WINS": "literal",
        "PGPASSWORD": CANARY,
        "password": None,
        "URL": f"db://literal:{CANARY}@host/$(NOBODY)",
        "ABSENT": None,
        "POD": "launch-1",
        "DAG": "etl",
        "FROM_ALL": "host",
        "APP_MODE": "fast",
        "K_ONE": "1",
        "ONE": None,
        "MODALFLOW_SETUP": None,
    }
    assert CANARY not in repr(plan)
    (call,) = modal_emulator.calls("SandboxCreateV2")
    assert isinstance(call, api_pb2.SandboxCreateV2Request)
    assert CANARY not in str(call)


def test_files_with_their_modes(modal_emulator: EmulatorThread, tmp_path: Path) -> None:
    manifest = tmp_path / "app.yaml"
    manifest.write_text("{kind: ConfigMap, data: {app.ini: '[a]', run.sh: echo}, binaryData: {raw: /w==}}")
    pod = """
    spec:
      hostAliases: [{ip: 10.0.0.5, hostnames: [db.local, db]}]
      containers:
        - name: base
          volumeMounts:
            - {name: app, mountPath: /etc/app}
            - {name: run, mountPath: /opt/run.sh, subPath: bin/run.sh}
            - {name: tls, mountPath: /tls}
      volumes:
        - {name: app, configMap: {name: app}}
        - {name: run, configMap: {name: app, items: [{key: run.sh, path: bin/run.sh, mode: 0755}]}}
        - {name: tls, secret: {secretName: t, items: [{key: tls.key, path: private/key}, {key: tls.crt, path: crt, mode: 0444}]}}
    """
    files = ["/etc/app", "/etc/app/app.ini", "/etc/app/raw", "/opt/run.sh", "/tls/private/key", "/tls/crt", "/etc/hosts"]
    plan = plan_of(pod, {"config_maps": {"app": str(manifest)}}, {"env": ["tls_key", "tls_crt"], "files": files})
    found = seen(plan, secrets={"t": {"tls_key": CANARY, "tls_crt": "public"}})
    assert found["env"] == {"tls_key": None, "tls_crt": None}
    assert found["files"] == {
        "/etc/app": ["app.ini", "raw", "run.sh"],
        "/etc/app/app.ini": ["0o644", "[a]"],
        "/etc/app/raw": ["0o644", "\xff"],
        "/opt/run.sh": ["0o755", "echo"],
        "/tls/private/key": ["0o400", CANARY],
        "/tls/crt": ["0o444", "public"],
        "/etc/hosts": ["0o644", "\n# hostAliases of the pod\n10.0.0.5\tdb.local db\n"],
    }


def test_folders_claims_and_links(modal_emulator: EmulatorThread) -> None:
    pod = """
    spec:
      containers:
        - name: base
          volumeMounts:
            - {name: scratch, mountPath: /scratch}
            - {name: memory, mountPath: /cache}
            - {name: shared, mountPath: /one, subPath: x}
            - {name: shared, mountPath: /all}
            - {name: claim, mountPath: /data/in, subPath: raw}
            - {name: claim, mountPath: /data/whole}
      volumes:
        - {name: scratch, emptyDir: {}}
        - {name: memory, emptyDir: {medium: Memory}}
        - {name: shared, emptyDir: {}}
        - {name: claim, persistentVolumeClaim: {claimName: data}}
    """
    options = {"claims": {"data": "datasets"}}
    writes = {"/one/a": "1", "/data/in/b": "2"}
    plan = plan_of(pod, options, {"env": [], "files": ["/scratch", "/cache", "/all", "/data/whole"], "write": writes})
    found = seen(plan, volumes=("datasets",))
    assert found["files"] == {"/scratch": [], "/cache": [], "/all": ["x"], "/data/whole": ["raw"]}
    again = seen(plan_of(pod, options, {"env": [], "files": ["/data/in", "/data/whole/raw/b", "/one"]}))
    # What was written through one path is in the Volume, and seen through the other; scratch is gone.
    assert found["env"] == {}
    assert again["files"] == {"/data/in": ["b"], "/data/whole/raw/b": ["0o644", "2"], "/one": []}


def test_a_key_that_the_secret_lacks_is_told_before_the_sandbox_is_made(modal_emulator: EmulatorThread) -> None:
    pod = "spec: {containers: [{name: base, env: [{name: P, valueFrom: {secretKeyRef: {name: db, key: K}}}]}]}"
    with pytest.raises(InvalidRequest, match=r"Secret is missing key\(s\): K \(Secret 'db'\)"):
        run(plan_of(pod, {}, {"env": ["P"], "files": []}), secrets={"db": {"OTHER": CANARY}})
    assert modal_emulator.calls("SandboxCreateV2") == []


def test_what_cannot_be_set_up_ends_the_sandbox_with_a_sentence(modal_emulator: EmulatorThread) -> None:
    plan = SandboxPlan(
        image=ImagePlan(reference=None),
        env={"MODALFLOW_SETUP": json.dumps({"exports": {"P": {"parts": ["x", {"env": "K"}]}}}), "K_OTHER": CANARY},
    )
    code, _, stderr = run(plan, program=bootstrap_source())
    assert code == exit_codes.EXIT_NOT_SET_UP
    assert stderr == "modalflow: the pod's set-up failed: the variable P needs K, which no Modal Secret of this sandbox gives\n"


def test_the_token_of_its_identity_in_a_file(modal_emulator: EmulatorThread) -> None:
    pod = """
    spec:
      containers: [{name: base, volumeMounts: [{name: token, mountPath: /tokens}]}]
      volumes: [{name: token, projected: {sources: [{serviceAccountToken: {path: aws}}], defaultMode: 0440}}]
    """
    plan = plan_of(pod, {"oidc": True}, {"env": ["MODAL_IDENTITY_TOKEN"], "files": ["/tokens/aws"]})
    found = seen(plan)
    assert found["files"] == {"/tokens/aws": ["0o440", found["env"]["MODAL_IDENTITY_TOKEN"]]}
    assert found["env"]["MODAL_IDENTITY_TOKEN"].count(".") == 2
