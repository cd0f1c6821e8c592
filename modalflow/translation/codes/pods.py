"""Codes of pods: what is not honoured, refused, malformed, or merged in a way that surprises. Rows of ``codes.table``."""

from __future__ import annotations

from modalflow.translation.codes.row import Code, Example, base, task, variable

_SITE = {"pod_template_file": "site"}


def _over(below: str, container: dict[str, object] | None = None, **spec: object) -> Example:
    """A pod over the site's pod template."""
    pod = {"spec": {**spec, "containers": [{"name": "base", **(container or {})}]}}
    return task({"pod_override": pod}, _SITE, {"site.yaml": f"kind: Pod\nspec:\n{below}"})


ROWS: tuple[Code, ...] = (
    Code(
        "duplicate-volume",
        "error or notice",
        "A volume's name is there twice",
        "Two entries of `volumes` have one name, often one of a pod template and one of a `pod_override`.",
        "KubernetesExecutor appends the lists, and Kubernetes refuses the pod. Two that say the same are taken for one here.",
        "Give the volume another name, or let the pods meet by strategic merge, which replaces it.",
        base(
            {"volumeMounts": [{"name": "data", "mountPath": "/data"}]},
            volumes=[{"name": "data", "emptyDir": {}}, {"name": "data", "emptyDir": {"medium": "Memory"}}],
        ),
    ),
    Code(
        "duplicate-mount",
        "error or notice",
        "A path is mounted twice",
        "Two entries of `volumeMounts` have one `mountPath`, often one of a pod template and one of a `pod_override`.",
        "KubernetesExecutor appends the lists, and Kubernetes refuses the pod. Two that say the same are taken for one here.",
        "Mount at another path, or let the pods meet by strategic merge, which replaces the mount.",
        base(
            {"volumeMounts": [{"name": "a", "mountPath": "/data"}, {"name": "b", "mountPath": "/data"}]},
            volumes=[{"name": "a", "emptyDir": {}}, {"name": "b", "emptyDir": {}}],
        ),
    ),
    Code(
        "duplicate-env-from",
        "notice",
        "A source of variables is there twice",
        "Two entries of `envFrom` are the same.",
        "It changes nothing: the variables are the same.",
        "Remove one of them.",
        base({"envFrom": [{"secretRef": {"name": "a"}}, {"secretRef": {"name": "a"}}]}),
    ),
    Code(
        "replaced-list",
        "notice",
        "A list of a weaker layer is replaced",
        "`command`, `args`, `imagePullSecrets`, `hostAliases` or `resourceClaims` of this layer replace those of a weaker one; "
        "with `merge: strategic`, any list that Kubernetes does not merge by a key (`envFrom`, `tolerations`, `args`).",
        "KubernetesExecutor appends to `env`, volumes, mounts and ports only; these lists it takes from the strongest layer, as "
        "`kubectl patch` does those without a key.",
        "Repeat the entries that should stay.",
        task(
            {"pod_override": {"spec": {"containers": [{"name": "base", "command": ["/bin/env"]}]}}},
            {"pod_template_file": "site"},
            {"site.yaml": "kind: Pod\nspec:\n  containers:\n  - name: base\n    command: [/usr/bin/tini, --]\n"},
        ),
    ),
    Code(
        "bad-merge",
        "error",
        "The pods of a task cannot meet like this",
        "`merge` is neither `kubernetes_executor` nor `strategic`.",
        "There are two rules by which one pod is laid on another, KubernetesExecutor's and that of `kubectl patch`.",
        "Write one of the two, or leave it out.",
        task({"modal": {"merge": "json"}}),
    ),
    Code(
        "bad-directive",
        "error",
        "A directive of strategic merge is misused",
        "A `$patch`, `$retainKeys`, `$deleteFromPrimitiveList/…` or `$setElementOrder/…` says nothing that can be done here, or "
        "an entry of a list lacks the field by which Kubernetes finds it.",
        "Kubernetes refuses such a patch. Guessing what it meant could keep what should go.",
        "Write the directive as the text says, or give the entry its name.",
        base({"env": [{"name": "A", "$patch": "remove"}]}, {"merge": "strategic"}),
    ),
    Code(
        "no-effect",
        "notice",
        "Nothing is lost",
        "The field has no effect on Modal, or asks for what a sandbox is anyway.",
        "Much of a pod tells a cluster how to run it, not the task what it gets.",
        "Nothing needs to be done.",
        base({}, tolerations=[{"key": "nvidia.com/gpu", "operator": "Exists"}]),
    ),
    Code(
        "dropped",
        "any",
        "A field that is not honoured",
        "The task runs without it.",
        "Modal has nothing like it, and the task's result does not depend on it.",
        "Do what the text says, or remove the field. `[modal_executor] on_unsupported` makes these errors, or notices.",
        base({}, serviceAccountName="s3-reader"),
    ),
    Code(
        "refused-field",
        "error",
        "A field that Modal cannot honour",
        "The task is not started. `modalflow fields` lists what becomes of every field.",
        "Without the field the task's data, hardware, security or result would be another.",
        "Do what the text says, or remove the field. `[modal_executor] allow` lets all tasks of a site run without it.",
        base({}, hostNetwork=True),
    ),
    Code(
        "allowed-field",
        "warning",
        "A refused field that the site allows",
        "The task runs without the field; without `[modal_executor] allow` it would be refused, for the reason told.",
        "The platform's owner has decided that tasks do without it.",
        "Remove the field; or take it out of the option, to have such tasks refused again.",
        base({}, {"allow": '["spec.hostNetwork"]'}, hostNetwork=True),
    ),
    Code(
        "unsupported",
        "error",
        "A form that modalflow does not read",
        "The value may well mean something, but it is written in a form that modalflow does not read.",
        "Guessing could leave the task without what it asks for.",
        "Write it as the text says.",
        task({"KubernetesExecutor": {"secrets": ["object"]}}),
    ),
    Code(
        "unknown-field",
        "error",
        "A field that Kubernetes does not know",
        "No pod has a field of this name, here.",
        "It is most likely a typo, and the task would run without what it asks for.",
        "Write the field that the text suggests.",
        base({"imagee": "ghcr.io/me/train:1.2"}),
    ),
    Code(
        "bad-pod",
        "error",
        "A malformed pod",
        "A value is of another kind than Kubernetes has there, or lacks a part.",
        "Kubernetes' API would refuse the pod too.",
        "Write what the text expects.",
        base({"env": {"A": "1"}}),
    ),
    Code(
        "bad-quantity",
        "error",
        "No quantity",
        "A number with a unit cannot be read.",
        "Kubernetes' quantities are a number and one of `n u m k M G T P E Ki Mi Gi Ti Pi Ei`, or an exponent.",
        'Write e.g. `"500m"` or `"10Gi"`.',
        base({"resources": {"requests": {"ephemeral-storage": "10 GB"}}}),
    ),
    Code(
        "overruled-resource",
        "notice",
        "A container's own resources hold",
        "The pod's resources are not used where the container has its own.",
        "The container's are nearer to the task.",
        "Remove one of the two.",
        base({"resources": {"limits": {"cpu": "2"}}}, resources={"limits": {"cpu": "8"}}),
    ),
    # -- merging
    Code(
        "dropped-by-override",
        "warning",
        "A value is replaced as a whole",
        "The stronger pod's value takes the place of the weaker one's, and parts of that are lost.",
        "KubernetesExecutor merges so: fields that are not lists or metadata are replaced, not merged.",
        "Repeat the lost parts, or write them in the stronger pod only.",
        _over("  nodeSelector: {pool: a}\n  containers: [{name: base}]\n", nodeSelector={"kubernetes.io/arch": "amd64"}),
    ),
    Code(
        "falsy-override",
        "warning",
        "A false, zero or empty value undoes nothing",
        "The weaker pod's value holds.",
        "KubernetesExecutor takes a false value for none.",
        "Change it in the weaker pod.",
        _over("  shareProcessNamespace: true\n  containers: [{name: base}]\n", shareProcessNamespace=False),
    ),
    Code(
        "container-name",
        "warning",
        "Containers meet by position",
        "The stronger pod's container has another name than the one it overrides.",
        "KubernetesExecutor merges containers by their position, whatever their names.",
        "Write the other's name, or reorder them.",
        task(
            {"pod_override": {"spec": {"containers": [{"name": "worker"}]}}},
            _SITE,
            {"site.yaml": "kind: Pod\nspec:\n  containers: [{name: base}]\n"},
        ),
    ),
    Code(
        "duplicate-env",
        "warning",
        "A variable is there twice",
        "One container sets the variable twice; the later one wins.",
        "Kubernetes does the same.",
        "Remove one of them.",
        base({"env": [{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]}),
    ),
    Code(
        "overridden-env",
        "notice",
        "A stronger layer sets the variable",
        "The weaker layer's value is not used.",
        "That is what layers are for.",
        "Nothing needs to be done.",
        _over("  containers: [{name: base, env: [{name: A, value: site}]}]\n", {"env": [{"name": "A", "value": "mine"}]}),
    ),
    # -- variables
    Code(
        "withheld-env",
        "warning",
        "A variable that tasks must not have",
        "The variable is left out, whether a pod, `env` or `[modal_executor] env` sets it.",
        "It is a secret of Airflow's own, such as its database or its signing key, that a worker of Airflow 3 has no use for.",
        "Remove it, or name it in `[modal_executor] allow_env`.",
        base({"env": [{"name": "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", "value": "sqlite://"}]}),
    ),
    Code(
        "bad-field-path",
        "error",
        "No such field of the pod",
        "`fieldRef` names what Kubernetes gives no variable of.",
        "Kubernetes' API would refuse the pod too.",
        "Write e.g. `metadata.name` or `metadata.labels['team']`.",
        variable({"fieldRef": {"fieldPath": "spec.x"}}),
    ),
    Code(
        "no-node",
        "warning",
        "A sandbox has no node",
        "The variable of the node's name or address is empty.",
        "There is nothing at a sandbox's node that a task could reach.",
        "Write the address of what the task should reach.",
        variable({"fieldRef": {"fieldPath": "status.hostIP"}}),
    ),
    Code(
        "bad-resource",
        "error",
        "No such resource",
        "`resourceFieldRef` names no resource of the task's container.",
        "Kubernetes gives CPU, memory and ephemeral storage, as requests and limits.",
        "Write e.g. `limits.memory`.",
        variable({"resourceFieldRef": {"resource": "limits.gpu"}}),
    ),
    Code(
        "no-resource",
        "error",
        "The container says nothing of the resource",
        "A variable asks for a limit or request that is not set.",
        "In a cluster it would be the node's own, which nobody knows here.",
        "Set the resource, or write the value.",
        variable({"resourceFieldRef": {"resource": "limits.memory"}}),
    ),
    Code(
        "no-limit",
        "warning",
        "The request stands in for a limit",
        "A variable asks for a limit that is not set.",
        "In a cluster it would be the node's own; the request is the nearest that is known.",
        "Set the limit.",
        base(
            {
                "resources": {"requests": {"cpu": "1"}},
                "env": [{"name": "A", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}}],
            }
        ),
    ),
    # -- the rest
    Code(
        "shell-command",
        "warning",
        "A shell runs its own text",
        "The command is a shell with `-c`, which does not run Airflow's own command.",
        "modalflow puts the command in front of Airflow's; a shell takes what follows its text as `$0`, `$1`, …",
        'End the text in `exec "$@"`, and give it a word for `$0`.',
        base({"command": ["sh", "-c", "ulimit -n 4096", "--"]}),
    ),
    Code(
        "overruled-tag",
        "notice",
        "A label and an annotation of one name",
        "The label becomes the sandbox's tag.",
        "A sandbox has tags, and no annotations.",
        "Rename one of them to have both.",
        task(
            {
                "pod_override": {
                    "metadata": {"labels": {"team": "ml"}, "annotations": {"team": "data"}},
                    "spec": {"containers": [{"name": "base"}]},
                }
            }
        ),
    ),
)
