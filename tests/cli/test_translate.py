"""``modalflow translate``: exit codes, forms of output, and the account of every leaf."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from modalflow.cli.main import main

DEPLOYMENT = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, creationTimestamp: null}
spec:
  replicas: 2
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - name: base
        image: me/train:1
        resources:
          limits: {cpu: "2", memory: 1Gi, nvidia.com/gpu: 1}
      nodeSelector:
        cloud.google.com/gke-accelerator: nvidia-l4
---
apiVersion: v1
kind: Service
metadata: {name: web}
"""
TYPO = """
apiVersion: v1
kind: List
items:
- kind: Pod
  spec: {containers: [{name: base, image: 3, agrs: []}]}
"""


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main(["translate", *arguments])
    return (code, *capsys.readouterr())


def as_json(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, Any]:
    code, out, err = run(capsys, "--json", *arguments)
    assert err == ""
    return code, json.loads(out)


@pytest.fixture
def deployment(tmp_path: Path) -> str:
    (tmp_path / "web.yaml").write_text(DEPLOYMENT)
    return str(tmp_path / "web.yaml")


def test_a_deployment_is_translated_by_its_pod_template(deployment: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, shown = as_json(capsys, deployment)
    assert code == 0
    web, service = shown["results"]
    assert (web["kind"], web["name"], web["path"], web["translated"]) == ("Deployment", "web", "spec.template", True)
    assert web["spec"] == {
        "image": "me/train:1",
        "gpu": ["L4"],
        "gpu_wait": 480.0,
        "cpu": [1.0, 1.0],
        "memory": [1024, 1024],
        "timeout": 86400,
        "tags": {"app": "web"},
    }
    assert web["plan"]["gpu_candidates"] == ["L4"]
    assert web["origins"]["image"]["path"] == "spec.template.spec.containers[0].image"
    assert web["origins"]["image"]["line"] == 12
    told = [found["text"] for found in service["diagnostics"]]
    assert told == [f"kind ({deployment}:19): nothing to translate: no pod is in a Service"]


def test_the_account_names_every_leaf(deployment: str, capsys: pytest.CaptureFixture[str]) -> None:
    _, shown = as_json(capsys, deployment)
    told = {leaf["path"]: (leaf["verdict"], leaf["fields"] or leaf["codes"]) for leaf in shown["results"][0]["account"]}
    pod = "spec.template.spec.containers[0]"
    assert told == {
        "apiVersion": ("reported", ["outside-pod"]),
        "kind": ("reported", ["outside-pod"]),
        "metadata.name": ("reported", ["outside-pod"]),
        "metadata.creationTimestamp": ("empty", []),
        "spec.replicas": ("reported", ["outside-pod"]),
        "spec.template.metadata.labels.app": ("honoured", ["tags.app"]),
        f"{pod}.name": ("honoured", ["structure"]),
        f"{pod}.image": ("honoured", ["image.reference"]),
        f"{pod}.resources.limits.cpu": ("honoured", ["cpu"]),
        f"{pod}.resources.limits.memory": ("honoured", ["memory"]),
        f'{pod}.resources.limits["nvidia.com/gpu"]': ("honoured", ["gpu_candidates"]),
        'spec.template.spec.nodeSelector["cloud.google.com/gke-accelerator"]': ("honoured", ["gpu_candidates"]),
    }


def test_errors_of_several_files_come_at_once(deployment: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "typo.yaml").write_text(TYPO)
    (tmp_path / "broken.yaml").write_text("kind: Pod\nspec: [")
    missing = str(tmp_path / "missing.yaml")
    code, shown = as_json(capsys, deployment, str(tmp_path / "typo.yaml"), str(tmp_path / "broken.yaml"), missing)
    assert (code, shown["translated"]) == (1, False)
    found = [d for result in shown["results"] for d in result["diagnostics"] if d["severity"] == "error"]
    assert [d["text"].replace(f"{tmp_path}/", "") for d in found] == [
        'items[0].spec.containers[0].image (typo.yaml:6): expected "auto" or an image reference, got an int',
        'items[0].spec.containers[0].agrs (typo.yaml:6): Kubernetes has no such field; did you mean "args"?',
        "file (broken.yaml:2): not YAML: expected the node content, but found '<stream end>'",
        "file (missing.yaml): cannot be read: No such file or directory",
    ]


def test_documents_before_a_broken_one_are_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "two.yaml").write_text("kind: Pod\nspec: {containers: [{name: base}]}\n---\n- no mapping\n")
    code, shown = as_json(capsys, str(tmp_path / "two.yaml"))
    assert code == 1
    assert [result["translated"] for result in shown["results"]] == [True, False]


def test_yaml_is_a_template_that_asks_for_the_same(deployment: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "--yaml", deployment)
    assert code == 0
    assert "outside" not in out
    assert err.startswith(f"notice: kind ({deployment}:3): only the pod at spec.template is translated")
    (tmp_path / "native.yaml").write_text(out)
    _, before = as_json(capsys, deployment)
    code, after = as_json(capsys, str(tmp_path / "native.yaml"))
    assert code == 0
    assert after["results"][0]["plan"] == before["results"][0]["plan"]


def test_a_table(deployment: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, deployment)
    assert code == 0
    assert f"{deployment}: Deployment web, spec.template: translated\n" in out
    assert f"{deployment}: Service web: nothing to translate\n" in out


def test_options_stand_for_the_deployment_s(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "pod.yaml"
    path.write_text("kind: Pod\nspec: {containers: [{name: base, resources: {limits: {nvidia.com/gpu: 1}}}]}")
    assert as_json(capsys, str(path))[0] == 1
    code, shown = as_json(capsys, str(path), "-o", "default_gpu=L4")
    assert (code, shown["results"][0]["spec"]["gpu"]) == (0, ["L4"])
    assert run(capsys, str(path), "-o", "default_gup=L4") == (
        1,
        "",
        '[modal_executor] default_gup: unknown option; did you mean "default_gpu"?\n',
    )


def test_nothing_to_translate_is_no_success(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "service.yaml").write_text("kind: Service\n")
    code, _, err = run(capsys, str(tmp_path / "service.yaml"))
    assert (code, err) == (1, "no pod and no task template in these files\n")


def test_a_task_template_may_extend_its_neighbour(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "base.yaml").write_text(yaml.safe_dump({"apiVersion": "modalflow/v1", "kind": "ModalTask", "spec": {"cpu": 2}}))
    child = tmp_path / "child.yaml"
    child.write_text("apiVersion: modalflow/v1\nkind: ModalTask\nextends: base\nspec: {memory: 2Gi}\n")
    code, shown = as_json(capsys, str(child))
    result = shown["results"][0]
    assert (code, result["spec"]["cpu"], result["spec"]["memory"]) == (0, 2.0, 2048)
    assert {leaf["path"]: leaf["fields"] for leaf in result["account"]} == {
        "apiVersion": ["structure"],
        "kind": ["structure"],
        "extends": ["template"],
        "spec.memory": ["memory"],
    }


def test_neither_airflow_nor_modal_is_needed(deployment: str) -> None:
    script = (
        "import sys; from modalflow.cli.main import main; code = main(['translate', '--yaml', sys.argv[1]]); "
        "print(code, [m for m in ('airflow', 'modal', 'grpclib', 'kubernetes') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script, deployment], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("0 []\n")


def test_the_plan_of_a_function(capsys: pytest.CaptureFixture[str], deployment: str) -> None:
    functions = 'functions={"default": {"app": "modalflow", "function": "Train.run", "image": "me/train:1"}}'
    code, document = as_json(capsys, "--backend", "function", "-o", functions, deployment)
    assert code == 0
    plan = document["results"][0]["plan"]
    assert (plan["backend"], plan["app"], plan["function"], plan["gpu_candidates"]) == (
        "function",
        "modalflow",
        "Train.run",
        ["L4"],
    )
    assert plan["pool_keys"] == ['modalflow/Train.run {"gpu":"L4","cpu":[1.0,1.0],"memory":[1024,1024],"timeout":86400}']
    warnings = [found["text"] for found in document["results"][0]["diagnostics"] if found["severity"] == "warning"]
    assert warnings == [
        f"spec.template.metadata.labels.app ({deployment}:8): a call of a Function has no tags; remove it",
    ]
    code, out, _ = run(capsys, "--backend", "auto", "-o", functions, deployment)
    assert code == 0
    assert "[modal_executor] backend: becomes a sandbox: spec.template.metadata.labels.app" in out
    code, out, _ = run(capsys, "--backend", "function", deployment)
    assert code == 1
    assert "no Function of [modal_executor] functions was deployed with the image" in out


CONFIG = """\
modal:
  gpu: H100
  memmory: 2Gi
pod_override:
  spec:
    containers:
    - name: base
      image: me/train:1
"""


def test_an_executor_config_in_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(CONFIG)
    code, shown = as_json(capsys, str(path))
    (result,) = shown["results"]
    assert (code, result["kind"], result["translated"]) == (1, "executor_config", False)
    assert [found["text"] for found in result["diagnostics"]] == [
        f'executor_config["modal"]["memmory"] ({path}:3): unknown key; did you mean "memory"?'
    ]
    path.write_text(CONFIG.replace("memmory", "memory"))
    code, shown = as_json(capsys, str(path))
    (result,) = shown["results"]
    assert (code, result["plan"]["memory"], result["plan"]["gpu_candidates"]) == (0, 2048, ["H100"])
    assert result["origins"]["image"] == {
        "layer": "pod_override",
        "path": "pod_override.spec.containers[0].image",
        "file": str(path),
        "line": 8,
    }
    assert [(leaf["path"], leaf["line"], leaf["verdict"]) for leaf in result["account"]] == [
        ("pod_override.spec.containers[0].name", 7, "honoured"),
        ("pod_override.spec.containers[0].image", 8, "honoured"),
        ('executor_config["modal"]["gpu"]', 2, "honoured"),
        ('executor_config["modal"]["memory"]', 3, "honoured"),
    ]


def test_as_json_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"modal": {"cpu": 2}}))
    code, shown = as_json(capsys, str(path))
    assert (code, shown["results"][0]["plan"]["cpu"]) == (0, 2.0)


def test_stdin(deployment: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(TYPO.encode())))
    code, shown = as_json(capsys, deployment, "-")
    assert code == 1
    assert [(result["file"], result["kind"]) for result in shown["results"]] == [
        (deployment, "Deployment"),
        (deployment, "Service"),
        ("<stdin>", "Pod"),
    ]
    assert shown["results"][2]["diagnostics"][1]["text"].startswith("items[0].spec.containers[0].image (<stdin>:6): ")


CRON_JOB = """\
apiVersion: batch/v1
kind: CronJob
metadata: {name: nightly}
spec:
  schedule: "0 3 * * *"
  jobTemplate:
    spec:
      template:
        spec:
          restartPolicy: Never
          containers: [{name: base, image: "me/nightly:1"}]
"""


def test_a_cron_job(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "cron.yaml").write_text(CRON_JOB)
    code, shown = as_json(capsys, str(tmp_path / "cron.yaml"))
    (result,) = shown["results"]
    assert (code, result["kind"], result["path"]) == (0, "CronJob", "spec.jobTemplate.spec.template")
    assert result["plan"]["image"]["reference"] == "me/nightly:1"
    assert not [leaf for leaf in result["account"] if leaf["verdict"] == "unaccounted"]


def test_two_forms_at_once(deployment: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, "--json", "--yaml", deployment)
    assert (code, err) == (2, "translate: --json and --yaml exclude each other\n")


CLAIMS = """
apiVersion: resource.k8s.io/v1
kind: ResourceClaimTemplate
metadata: {name: big-gpu}
spec:
  spec:
    devices:
      requests:
      - name: gpu
        exactly:
          deviceClassName: gpu.nvidia.com
          count: 2
          selectors:
          - cel: {expression: 'device.capacity["gpu.nvidia.com"].memory.compareTo(quantity("100Gi")) >= 0'}
---
apiVersion: v1
kind: Pod
metadata: {name: train}
spec:
  resourceClaims: [{name: gpu, resourceClaimTemplateName: big-gpu}]
  containers:
  - name: base
    image: me/train:1
    resources: {claims: [{name: gpu}]}
"""


@pytest.mark.parametrize("form", ["documents", "list", "files"])
def test_a_device_claim_beside_the_pod_is_read(capsys: pytest.CaptureFixture[str], tmp_path: Path, form: str) -> None:
    files = [tmp_path / "train.yaml"]
    if form == "files":
        parts = CLAIMS.split("---")
        files = [tmp_path / "pod.yaml", tmp_path / "claim.yaml"]
        for file, part in zip(files, reversed(parts), strict=True):
            file.write_text(part)
    elif form == "list":
        files[0].write_text(yaml.safe_dump({"kind": "List", "items": list(yaml.safe_load_all(CLAIMS))}))
    else:
        files[0].write_text(CLAIMS)
    code, told = as_json(capsys, *map(str, files))
    assert code == 0
    (plan,) = [document["plan"] for document in told["results"] if document["plan"]]
    assert plan["gpu_candidates"] == ["H200:2", "B200:2"]
    text = "the ResourceClaimTemplate big-gpu stands for H200:2 or B200:2"
    assert [d["message"] for document in told["results"] for d in document["diagnostics"] if d["code"] == "claim-read"] == [text]


def test_what_an_option_says_of_a_claim_wins(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "train.yaml").write_text(CLAIMS)
    option = 'resource_claims={"big-gpu": {"gpu": "H100"}}'
    code, told = as_json(capsys, "-o", option, str(tmp_path / "train.yaml"))
    assert code == 0
    assert [document["plan"]["gpu_candidates"] for document in told["results"] if document["plan"]] == [["H100"]]


def test_a_claim_that_cannot_be_read_is_told_at_its_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "train.yaml").write_text(CLAIMS.replace("gpu.nvidia.com\n", "mig.nvidia.com\n"))
    code, told = as_json(capsys, str(tmp_path / "train.yaml"))
    assert code == 1
    codes = {d["code"]: d["line"] for document in told["results"] for d in document["diagnostics"] if d["severity"] == "error"}
    assert codes == {"refused-field": 11, "unknown-claim": 20}
