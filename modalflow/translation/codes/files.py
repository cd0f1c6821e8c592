"""Codes of templates and of files given to ``modalflow translate``. Rows of ``codes.table``."""

from __future__ import annotations

from modalflow.translation.codes.row import Code, Example, modal, task, template

_TASK = "apiVersion: modalflow/v1\nkind: ModalTask\n"

_CLAIM = """kind: ResourceClaim
metadata: {{name: gpu}}
spec:
  devices:
    requests:
      - name: gpu
        exactly:
          deviceClassName: gpu.nvidia.com
          selectors: [{{cel: {{expression: "device.attributes['gpu.nvidia.com'].{}"}}}}]
"""

ROWS: tuple[Code, ...] = (
    Code(
        "kubernetes-option",
        "notice",
        "An option of [kubernetes_executor] is in use",
        "The image or pod template of this task comes from `[kubernetes_executor]`, because `[modal_executor]` has none.",
        "A migrated `airflow.cfg` goes on working. The section is another executor's, and may go one day.",
        "Write the same under `[modal_executor]`, as the text shows.",
        Example(
            told="notice: [kubernetes_executor] worker_container_repository: read as the weakest default; write [modal_executor] "
            "image = me/airflow:3.3.2"
        ),
    ),
    Code(
        "overruled-image",
        "warning",
        "A pod template's image stands above the worker's",
        "`[kubernetes_executor] worker_container_repository` and a pod template name different images; the template's is used.",
        "KubernetesExecutor runs the former. Here the section gives defaults only, and a template is above them.",
        "Remove one of the two, or write `[modal_executor] image` and no image in the template.",
        Example(
            told='warning: [kubernetes_executor] worker_container_repository: "me/airflow:3.3.2" gives way to '
            "spec.containers[0].image (pod.yaml:6), where KubernetesExecutor runs it; keep one of them"
        ),
    ),
    Code(
        "bad-template",
        "error",
        "A malformed template",
        "It is not YAML, of another kind or version, or has a value of a wrong kind.",
        "A template is a `ModalTask` or a `Pod`, in plain YAML.",
        "Write what the text expects, at the line that it names.",
        template("apiVersion: modalflow/v2\nkind: ModalTask\n"),
    ),
    Code(
        "template-not-found",
        "error",
        "No such template",
        "No folder of templates has a file of this name.",
        "The task would run without what it asks for.",
        "Write the name that the text suggests. They are in `[modal_executor] template_folders`, or come with modalflow.",
        modal(template="gpu-trainng"),
    ),
    Code(
        "template-unreadable",
        "error",
        "The file cannot be read",
        "It is too large, not UTF-8 text, or the system forbids it.",
        "The scheduler reads templates, as the user that it runs as.",
        "Mend the file or its permissions.",
        Example(
            told='error: executor_config["modal"]["template"]: the template "mine" cannot be read: Permission denied',
        ),
    ),
    Code(
        "template-outside",
        "error",
        "A template outside its folders",
        "The name is a path, has `..` in it, or is a link that leads out.",
        "A DAG's author must not read the scheduler's files.",
        "Write a name inside the folders of templates.",
        modal(template="/etc/pod.yaml"),
    ),
    Code(
        "template-cycle",
        "error",
        "Templates extend each other",
        "Following `extends` leads back to where it began.",
        "No order of layers comes of it.",
        "Remove one of the `extends`.",
        task(
            {"modal": {"template": "a"}},
            files={"a.yaml": f"{_TASK}extends: b\n", "b.yaml": f"{_TASK}extends: a\n"},
        ),
    ),
    Code(
        "too-many-templates",
        "error",
        "Too many templates",
        "Templates extend more others than anybody can follow.",
        "They are read in the scheduler's loop.",
        "Merge some of them.",
        Example(told="error: extends (t31.yaml:3): more than 32 templates extend each other"),
    ),
    Code(
        "no-pod",
        "error or notice",
        "No pod in the file",
        "There is neither a pod, nor a pod's template, nor a ModalTask in this document.",
        "`modalflow translate` looks for them in every document of the file.",
        "Nothing needs to be done, if none was meant to be there.",
        Example(document="kind: ConfigMap\nmetadata: {name: site}\ndata: {a: b}\n"),
    ),
    Code(
        "claim-read",
        "notice",
        "A device claim was read",
        "`modalflow translate` found a ResourceClaim or ResourceClaimTemplate, and says which GPUs it stands for.",
        "A scheduler does not see claims: they live in the cluster.",
        "Write the same GPUs in `[modal_executor] resource_claims`, so that tasks get them.",
        Example(document=_CLAIM.format("productName.matches('L4$')")),
    ),
    Code(
        "bad-claim",
        "error",
        "No device claim",
        "A ResourceClaim or ResourceClaimTemplate in the file is not of the form that Kubernetes has.",
        "What it asks for is not known, and a GPU would be guessed.",
        "Correct the claim, or write the GPU in `[modal_executor] resource_claims`.",
        Example(document="kind: ResourceClaim\nmetadata: {name: gpu}\nspec: {}\n"),
    ),
    Code(
        "unreadable-selector",
        "error",
        "The selector of a device claim cannot be read",
        "Its CEL expression says more than a device's product name, architecture, compute capability and memory.",
        "Which of Modal's GPUs it means is then not known.",
        "Write it with those, or write the GPU in `[modal_executor] resource_claims`.",
        Example(document=_CLAIM.format("uuid == 'GPU-1'")),
    ),
    Code(
        "outside-pod",
        "notice",
        "What stands around a pod has no effect",
        "Only the pod inside a Deployment, a Job or the like is translated.",
        "Modal runs tasks; how many, when and how often is Airflow's.",
        "Nothing needs to be done.",
        Example(
            document="kind: Job\nspec:\n  backoffLimit: 3\n  template:\n    spec:\n"
            "      containers: [{name: base, image: 'ghcr.io/me/train:1.2'}]\n"
        ),
    ),
)
