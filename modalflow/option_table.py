"""The table of ``[modal_executor]`` options: what each is called, is by default, expects and means.

Pure data. What Airflow shows in ``airflow config list`` and what ``docs/reference/options.md`` is generated from; ``settings``
reads texts by it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from modalflow.option_texts import (
    one_of,
    read_boolean,
    read_bound,
    read_claims,
    read_config_maps,
    read_count,
    read_count_or_none,
    read_functions,
    read_json_list,
    read_json_object,
    read_json_or_text,
    read_keep_days,
    read_name,
    read_name_map,
    read_names,
    read_namespaces,
    read_seconds,
    read_secret_sources,
    read_text,
)
from modalflow.translation.gpus.caps import read_gpu_caps
from modalflow.translation.pods.sidecars import KNOWN

SECTION = "modal_executor"


@dataclass(frozen=True, kw_only=True, slots=True)
class Option:
    """One option of ``[modal_executor]``.

    ``default`` is text, as Airflow keeps it; the empty string means "not set". ``expects`` finishes the sentence
    "expected …" of its error. ``task_key`` marks an option that is the site-wide value of the ``modal`` key of the same name.
    ``can_be_empty`` marks one with a default that an empty text switches off, where it would bring back the default elsewhere.
    ``quotable`` is false where the text may hold a password that an error must not repeat.
    """

    name: str
    description: str
    read: Callable[[str], object]
    expects: str
    default: str = ""
    example: str = ""
    task_key: bool = False
    can_be_empty: bool = False
    quotable: bool = True


OPTIONS: tuple[Option, ...] = (
    Option(name="app_name", default="modalflow", read=read_text, expects="a Modal App name",
           description="Modal App that the sandboxes belong to; created if missing."),
    Option(name="environment", read=read_text, expects="a Modal environment name", example="main",
           description="Modal environment; empty means that of the Airflow connection, else the one that the credentials default "
                       "to."),
    Option(name="modal_conn_id", read=read_text, expects="the name of an Airflow connection of type modal",
           example="modal_production",
           description="Airflow connection with Modal's token: Token ID, Token Secret, and in `extra` the `environment`. Empty: "
                       "`modal` or `modal_default` if there is such a connection, else MODAL_TOKEN_ID and MODAL_TOKEN_SECRET, "
                       "else the active profile of ~/.modal.toml. A team may have its own."),
    Option(name="modal_conn_ids", read=read_names, expects="comma-separated names of Airflow connections of type modal",
           example="modal_ml,modal_vision",
           description="Further connections, which tasks and templates choose by the key `conn_id`: they then run in that "
                       "account, in the connection's environment, with its Secrets and Volumes. Keep an entry until its tasks "
                       "have ended: running sandboxes are looked for in all of these."),
    Option(name="credentials_interval", default="300", read=read_seconds, expects="seconds; 0 for never",
           description="Seconds after which that connection (or profile) is read again, so that a new token is in use without a "
                       "restart; what runs goes on. A token that Modal refuses is read again at once in any case."),
    Option(name="namespaces", read=read_namespaces, expects="a JSON object of names to ENVIRONMENT/APP",
           example='{"ml": "prod/ml-tasks", "etl": "/etl", "airflow": "", "vision": {"conn_id": "modal_vision"}}',
           description="Where the tasks of a pod's `metadata.namespace`, or of the key `namespace`, run: a Modal environment and "
                       "an App in it. Either side may be empty: it is `environment` or `app_name` then. An object with "
                       "`conn_id`, `environment` and `app` may name another Airflow connection, and so another account. Secrets, "
                       "Volumes and the registry's Secret are looked up in that environment; modalflow's own Volumes stay where "
                       "they are, or are those of that connection. Keep an entry until its tasks have ended: running sandboxes "
                       "are looked for in all of these."),
    Option(name="deployment", default="airflow", read=read_name, expects="1 to 63 letters, digits, '-', '_' and '.'",
           description="Name of this Airflow among others in the same App. Written as the tag `deployment` of each sandbox; "
                       "a sandbox is ours only if this and its launch id both match."),
    Option(name="image", default="auto", read=read_text, expects="auto, auto:NAME or an image reference", task_key=True,
           example="ghcr.io/me/airflow@sha256:...",
           description="Image of tasks that name none. `auto` is Modal's debian_slim with exactly the Airflow distributions "
                       "that the scheduler has, and with what the next five options add; `auto:NAME` is one of `images`."),
    Option(name="python_version", read=read_text, expects="a version such as 3.12", example="3.12",
           description="Python of `image = auto`. Empty: the scheduler's minor version."),
    Option(name="match_providers", default="True", read=read_boolean, expects="True or False",
           description="Give `image = auto` every Airflow provider that the scheduler has, in its version, but for those that "
                       "serve the scheduler or API server only. Off: core and task SDK only, with the providers that they "
                       "require and `requirements` names."),
    Option(name="apt_packages", read=read_names, expects="comma-separated Debian packages", example="git,libpq-dev",
           description="Debian packages that `image = auto` has, too."),
    Option(name="requirements", read=read_text, expects="the absolute path of a requirements file, or its lines",
           example="/opt/airflow/requirements.txt", quotable=False,
           description="Python packages that `image = auto` has, too: a file on the scheduler's host, or lines. Read and checked "
                       "when the scheduler starts; other content is another image. Also `-r`, `--index-url`, "
                       "`--extra-index-url`, `--find-links`, `--pre`, `--only-binary` and `--no-binary`, where `${NAME}` is a "
                       "variable of `build_secrets`."),
    Option(name="build_secrets", read=read_names, expects="comma-separated names", example="pypi-token",
           description="Modal Secrets whose variables the installation of `requirements` sees, such as the token of a private "
                       "index. They are part of no image."),
    Option(name="images", read=read_json_object, expects="a JSON object of names to objects",
           example='{"train": {"requirements": ["torch==2.9.1"], "apt_packages": ["ffmpeg"]}, '
                   '"cuda": {"base": "nvidia/cuda:12.8.1-base-ubuntu24.04", "python_version": "3.12", "match_providers": true}, '
                   '"own": {"dockerfile": "/opt/airflow/Dockerfile"}}',
           description="Further images, which tasks, templates and pods choose as `auto:NAME`. Each is `image = auto` but for "
                       "what it says itself by the names of the options above. Or it stands on a `base` (a reference) or a "
                       "`dockerfile` (with `context`, its folder), pulled with `registry_secret`, which brings Airflow itself "
                       "unless `match_providers` is true; `python_version` adds a Python to it."),
    Option(name="cpu", read=read_json_or_text, expects="physical cores", task_key=True, example="0.5",
           description="Physical cores (one is two vCPUs), or [request, limit]. Empty leaves Modal's default of 0.125."),
    Option(name="memory", read=read_json_or_text, expects="MiB or a quantity", task_key=True, example="2Gi",
           description="Memory in MiB, or a quantity, or [request, limit]. An Airflow task process needs about 200 MiB before "
                       "user code; Modal's own default request is 128 MiB.", default="512"),
    Option(name="env", read=read_json_object, expects="a JSON object", task_key=True, quotable=False,
           example='{"HF_HOME": "/models"}', description="Environment variables of every task."),
    Option(name="secrets", read=read_names, expects="comma-separated names", task_key=True, example="huggingface,warehouse",
           description="Modal Secrets that every task gets."),
    Option(name="volumes", read=read_json_object, expects="a JSON object", task_key=True, example='{"/models": "models"}',
           description="Modal Volumes of every task: mount path to Volume name."),
    Option(name="region", read=read_json_or_text, expects="a region or a JSON list", task_key=True, example="us-east",
           description="Where tasks may run. Naming a region raises Modal's price."),
    Option(name="cloud", read=read_text, expects="aws, gcp, oci or auto", task_key=True,
           description="Cloud provider of every task."),
    Option(name="workdir", read=read_text, expects="an absolute path", task_key=True,
           description="Working directory of every task."),
    Option(name="oidc", read=read_boolean, expects="True or False", task_key=True, example="True",
           description="Give every task a token of its identity, signed by Modal, in MODAL_IDENTITY_TOKEN. Clouds that trust "
                       "Modal's OIDC provider exchange it for a role."),
    Option(name="tags", read=read_json_object, expects="a JSON object", task_key=True, example='{"team": "ml"}',
           description="Tags of every sandbox, beside modalflow's own."),
    Option(name="timeout", default="24h", read=read_json_or_text, expects="seconds or a duration", task_key=True, example="6h",
           description="Longest life of a task's sandbox that sets none itself. Modal ends it then; Modal's maximum is 24 h and "
                       "its own default, 300 s, would cut tasks short."),
    Option(name="keep_on_failure", read=read_json_or_text, expects="seconds or a duration", task_key=True, example="30m",
           description="How long the sandbox of a task that failed (each failed try) stays for somebody to look into it with "
                       "`airflow modal shell`, and costs what it costs. Airflow hears of the failure at once, a retry starts at "
                       "once in another sandbox, and no slot is held. At most 24 h; the sandbox's `timeout` ends it in any case. "
                       "Empty: not at all, as with `0`."),
    Option(name="backend", read=one_of("sandbox", "function", "auto"), expects="sandbox, function or auto", task_key=True,
           description="What tasks become that do not say it. Empty: `sandbox`. `auto`: a call of a deployed Function where "
                       "one of `functions` can do it, which this version plans and does not make."),
    Option(name="functions", read=read_functions, expects="a JSON object of names to objects with app, function and image",
           example='{"default": {"app": "modalflow", "function": "Runner.run"}, '
                   '"etl": {"app": "modalflow", "function": "Etl.run", "image": "ghcr.io/me/etl:3", "disk": "1Ti"}}',
           description="Deployed Functions that run tasks, one for each image: `image` (`auto` if absent) is what it was "
                       "deployed with, `disk` its ephemeral_disk. Deploy them without GPU, Secrets, Volumes, region and "
                       "cloud: a call can add those and take none away."),
    Option(name="default_gpu", read=read_text, expects="a GPU name", example="L4",
           description="GPU model for a pod that limits nvidia.com/gpu without naming a model. Empty: such a task is refused "
                       "with the list of choices, never guessed."),
    Option(name="gpu_substitution", default="never", read=one_of("never", "nearest"), expects="never or nearest",
           description="What becomes of a GPU that Modal does not rent (a V100, a MIG slice). `never`: the task is refused, and "
                       "the error lists the nearest models. `nearest`: the first of them is used, with a warning."),
    Option(name="labels", read=read_json_object, expects="a JSON object of KEY=VALUE to an object with gpu",
           example='{"pool=training": {"gpu": ["H100", "A100-80GB"]}, "pool=cpu": {}}',
           description="The site's own node labels: which GPU model a `nodeSelector` entry or an affinity expression of that "
                       "label means. They come before everything that modalflow knows of labels. An empty object: the label says "
                       "nothing of GPUs."),
    Option(name="resource_claims", read=read_json_object, expects="a JSON object of names to an object with gpu",
           example='{"single-gpu": {"gpu": "H100"}, "two-gpus": {"gpu": "A100-80GB:2"}}',
           description="What the device claims of pods are: by the name of the ResourceClaim or ResourceClaimTemplate, the GPUs "
                       "that it stands for. Claims live in the cluster, where modalflow cannot read them."),
    Option(name="gpu_wait", default="480", read=read_seconds, expects="seconds",
           description="Seconds that a task waits for GPU capacity, over all its candidates together. Less than Airflow's "
                       "[scheduler] task_queued_timeout (600), or Airflow takes the task back while it still waits."),
    Option(name="allow_long_gpu_wait", default="False", read=read_boolean, expects="True or False",
           description="Start although gpu_wait is more than [scheduler] task_queued_timeout."),
    Option(name="default_template", read=read_text, expects="a template name", example="cpu",
           description="Template of every task, below what the task says itself."),
    Option(name="queue_templates", read=read_json_object, expects="a JSON object", example='{"gpu": "gpu-inference"}',
           description="Template by Airflow queue: the task's `queue=` chooses it."),
    Option(name="pod_template_file", read=read_text, expects="a path", example="/opt/airflow/pod_template.yaml",
           description="KubernetesExecutor's pod template, used as it is as the weakest template."),
    Option(name="claims", read=read_claims, expects="a JSON object of claim names to Modal Volumes",
           example='{"datasets": "datasets", "RELEASE-NAME-dags": "airflow/dags"}',
           description="Modal Volume, or a folder in it, that holds what a pod's PersistentVolumeClaim holds in Kubernetes. A "
                       "claim that is not here is refused: an empty Volume in its place would be data lost in silence."),
    Option(name="buckets", read=read_json_object, expects="a JSON object of buckets or claims to objects",
           example='{"raw": {"secret": "aws"}, "models-claim": {"bucket": "models", "prefix": "v2/", "secret": "gcs-hmac", '
                   '"endpoint": "https://storage.googleapis.com"}}',
           description="How the buckets of pods (CSI volumes of S3 and Cloud Storage) are opened, by the bucket's name; or the "
                       "bucket that a PersistentVolumeClaim is, by the claim's name. `secret`: a Modal Secret with the keys, or "
                       "`role_arn`: an IAM role that trusts Modal's OIDC provider; an empty object: a public bucket. `bucket`, "
                       "`prefix`, `endpoint`: what stands on Modal's side for the cluster's, where it is another. Also "
                       "`read_only`, `requester_pays`, `path_style`."),
    Option(name="config_maps", read=read_config_maps, expects="a JSON object of names to absolute paths or Modal Secrets",
           example='{"app-config": "/opt/airflow/app-config.yaml", "tls": {"secret": "tls", "keys": {"ca.crt": "CA_CRT"}}}',
           description="Where the content of a pod's ConfigMap is: its manifest or a folder on the scheduler's host, or a "
                       "Modal Secret. `keys` names the Secret's keys, as a list or with the variable of each."),
    Option(name="kubernetes_secrets", read=read_secret_sources, expects="a JSON object of names to Modal Secrets",
           example='{"warehouse-credentials": "warehouse", "ssh": {"name": "ssh", "keys": {"id_rsa": "SSH_KEY"}}}',
           description="Modal Secret that stands for a pod's Kubernetes Secret; without an entry, the one of the same name. "
                       "`keys` names its keys where a pod asks for all of them under a prefix or as files."),
    Option(name="registry_secrets", read=read_name_map, expects="a JSON object of names to Modal Secrets",
           example='{"ghcr-pull": "ghcr", "123456789012.dkr.ecr.us-east-1.amazonaws.com": "aws-ecr"}',
           description="Modal Secret with the credentials of a private registry, by the name of a pod's imagePullSecret, or by "
                       "the registry's host for every image from there."),
    Option(name="merge", default="kubernetes_executor", read=one_of("kubernetes_executor", "strategic"),
           expects="kubernetes_executor or strategic",
           description="How the pods of a task meet (pod templates and pod_override) where neither task nor template says. "
                       "`kubernetes_executor`: as KubernetesExecutor merges them. `strategic`: as `kubectl patch` does, lists "
                       "by their merge keys, maps in depth, null removes."),
    Option(name="pull_always", default="False", read=read_boolean, expects="True or False",
           description="Pull and build the image anew for every task whose pod says `imagePullPolicy: Always`, which takes "
                       "minutes each time. Off: such a pod gets the image that Modal pulled first, with a warning."),
    Option(name="dropped_sidecars", read=read_names, expects="comma-separated names", can_be_empty=True, default=",".join(KNOWN),
           description="Containers beside the task's that are left out with a warning, by their own name or that of their image: "
                       "those that serve the cluster and not the task. Any other sidecar is refused. Empty: every one is."),
    Option(name="template_folders", read=read_names, expects="comma-separated folders", example="/opt/airflow/modal_templates",
           description="Folders searched for templates, before those that ship with modalflow."),
    Option(name="on_unsupported", default="warn", read=one_of("error", "warn", "ignore"), expects="error, warn or ignore",
           description="What a pod field does that is not honoured, if little is lost by it: refuse the task, run it "
                       "with a warning in its log, or run it without a word (`airflow modal explain` shows a notice). Fields "
                       "whose loss would change data, hardware, security or the result are refused either way; see `allow`."),
    Option(name="allow", read=read_json_list, expects="a JSON list of fields of a pod",
           example='["spec.hostNetwork", "spec.containers[*].args", "spec.volumes[*].nfs"]',
           description="Fields that are left out with a warning where a task would be refused for them, for all tasks: paths as "
                       "`modalflow fields` shows them, with `[*]` for any index or key; what lies below is meant too. Under "
                       "`on_unsupported = error` also the fields that still only warn. Values that are malformed, unknown or "
                       "contradict each other cannot be allowed: nothing could be launched."),
    Option(name="allow_env", read=read_names, expects="comma-separated names", example="AIRFLOW__CORE__FERNET_KEY",
           description="Variables that tasks may have though they are secrets of Airflow itself (database, Fernet key, signing "
                       "keys, Celery), which are otherwise withheld from every sandbox with a warning, whoever sets them. Whole "
                       "names. A task could then read and change what is not its own."),
    Option(name="execution_api", default="auto", read=one_of("auto", "direct", "relay"), expects="auto, direct or relay",
           description="How sandboxes reach the execution API. `direct`: by its URL. `relay`: by a small sandbox of this "
                       "deployment, to which the scheduler connects from inside: nothing need be opened. `auto`: `relay` if the "
                       "URL is a loopback or private one that Modal cannot reach, else `direct`; with an emulator on this "
                       "machine, `direct`."),
    Option(name="execution_api_url", read=read_text, expects="an http(s) URL ending in /execution/",
           example="https://airflow.example.com/execution/",
           description="Execution API as sandboxes reach it; by the relay, as the scheduler does. Empty: [core] "
                       "execution_api_server_url, else [api] base_url."),
    Option(name="dag_source", default="auto", read=one_of("auto", "image", "volume", "bucket", "git"),
           expects="auto, image, volume, bucket or git",
           description="Where tasks have their DAG's code from. `auto`: a local bundle whose folder is on the scheduler's host "
                       "is brought to a Modal Volume whenever it changes (`volume`); any other is at the same path in the "
                       "image (`image`). `volume` and `image` say so for all local bundles; `volume` refuses to start without "
                       "the folder. Git, S3 and GCS bundles are fetched in the sandbox, as by any worker; `git` and `bucket` "
                       "refuse to start with others."),
    Option(name="dags_volume", read=read_text, expects="a Modal Volume name", example="airflow-dags",
           description="A Volume that you fill yourself, with one folder per local DAG bundle (`dags-folder` is Airflow's "
                       "default bundle), mounted read-only. With it, `auto` brings nothing. Empty: see `dag_source`."),
    Option(name="dag_code_volume", default="modalflow-dag-code", read=read_text, expects="a Modal Volume name",
           description="Volume (version 2, created if missing) that local bundles are brought to: one folder a deployment."),
    Option(name="dag_code_limit", default="256", read=read_count, expects="MiB, a whole number of 1 or more",
           description="Largest folder of a bundle that is brought to Modal. Tasks wait for the upload, and data is better off "
                       "in a Volume of its own."),
    Option(name="dag_code_days", default="3", read=read_keep_days, expects="days, a whole number of 2 or more",
           description="Days after the last launch with it for which a copy of a bundle is kept. What a running sandbox mounts "
                       "is kept in any case."),
    Option(name="dag_ignored_modules", default="True", read=read_boolean, expects="True or False",
           description="Bring Python modules that `.airflowignore` lists: DAGs import them, and Airflow's documentation lists "
                       "shared modules there. Other files in it are never brought. `False`: nothing in it is."),
    Option(name="dag_requirements", default="True", read=read_boolean, expects="True or False",
           description="Install what the `requirements.txt` in a brought bundle's root names in the default image (`auto`) of "
                       "its tasks, beside Airflow's own distributions. Any other image is taken as it is."),
    Option(name="dag_outside_links", default="False", read=read_boolean, expects="True or False",
           description="Follow symbolic links that lead out of a bundle's folder. Off, they are left out with a warning: "
                       "whoever may write to the folder could otherwise read any file that the scheduler can."),
    Option(name="sandbox_url", default="https://modal.com/id/{sandbox_id}", read=read_text, can_be_empty=True,
           expects="an address with {sandbox_id}", example="https://modal.example.com/id/{sandbox_id}",
           description='Where the button "Modal sandbox" of a task instance leads; empty: nowhere. The default is the address '
                       "that Modal's client gives for any object."),
    Option(name="logs_volume", default="modalflow-logs", read=read_text, expects="a Modal Volume name", can_be_empty=True,
           description="Volume (version 2, created if missing) that keeps task logs after the sandbox is gone. Empty: none."),
    Option(name="log_sync_interval", default="10", read=read_seconds, expects="seconds; 0 for only at the end",
           description="Shortest time between two commits of the log Volume by a running sandbox, in which something was logged: "
                       "what is lost at most where a sandbox is gone for good, and what another host sees late."),
    Option(name="base_logging_config_class", read=read_text, expects="a dotted path", example="my_company.logging.LOGGING_CONFIG",
           description="Logging configuration that modalflow's own (`[logging] logging_config_class`) extends; a remote log that "
                       "its module has stays in use. Empty: Airflow's."),
    Option(name="worker_env", read=read_json_object, expects="a JSON object", quotable=False,
           example='{"AIRFLOW__SECRETS__BACKEND": "..."}',
           description="Further environment for Airflow inside sandboxes, beside the documented allow-list. Never put a "
                       "database URL or a signing key here: tasks could read it."),
    Option(name="handover_timeout", default="60", read=read_bound, expects="seconds, more than 0",
           description="How long a sandbox that takes its workload on stdin waits for it before it gives up."),
    Option(name="create_timeout", default="120", read=read_bound, expects="seconds, more than 0",
           description="Bound on creating one CPU sandbox. An image that must first be built is not counted in it."),
    Option(name="rpc_timeout", default="30", read=read_bound, expects="seconds, more than 0",
           description="Bound on any other single call to Modal."),
    Option(name="stop_grace", default="30", read=read_count_or_none, expects="whole seconds, 0 or more",
           description="Seconds that a task has to stop (`on_kill`, preStop) once it is to end, before its sandbox is ended: 30 "
                       "as in Kubernetes. A pod's `terminationGracePeriodSeconds` goes before it. 0: it is ended at once."),
    Option(name="sweep_interval", default="300", read=read_seconds, expects="seconds; 0 for never",
           description="Seconds between two looks for sandboxes of this deployment whose task Airflow knows as over and that run "
                       "still. What is over at two looks in a row is ended: it has that long to end by itself. Each scheduler "
                       "looks; a look is one listing and a query by primary key for each 500 sandboxes."),
    Option(name="launch_concurrency", default="64", read=read_count, expects="a whole number of 1 or more",
           description="CPU sandboxes being created at the same time. GPU creates wait apart and take none of these slots."),
    Option(name="launch_retries", default="5", read=read_count_or_none, expects="a whole number of 0 or more",
           description="How often a launch that Modal could not serve (unavailable) is tried again before the task fails, and a "
                       "task launched again whose sandbox Modal could not start, or failed inside, before the task began. No "
                       "Airflow retry is used up by it, and none of these by a create that Modal refuses for now."),
    Option(name="infra_retries", default="3", read=read_count_or_none, expects="a whole number of 0 or more",
           description="How often a task is launched again whose sandbox was preempted, evicted or ended from outside before "
                       "the task began (Airflow still had it as queued). No Airflow retry is used up by it; once the task "
                       "began, Airflow's own retries decide."),
    Option(name="cpu_create_rate", default="20", read=read_seconds, expects="creates a second; 0 for no limit",
           description="How many CPU sandboxes a second are created at most. Modal's limit is the workspace's (ask Modal to "
                       "raise it); where it refuses more, fewer are made for a while. Several schedulers share the workspace."),
    Option(name="gpu_create_rate", default="5", read=read_seconds, expects="creates a second; 0 for no limit",
           description="The same for GPU sandboxes, which Modal makes on its older, slower path (V1)."),
    Option(name="max_gpus", read=read_gpu_caps, expects="a whole number, or a JSON object of Modal's GPU models to whole numbers",
           example='{"*": 16, "H100": 8}',
           description="Most GPUs in flight at once: waited for at Modal, running, or taken over from an earlier scheduler. A "
                       "number for all of them, or numbers by model with `*` for all. GPUs of other schedulers count as the last "
                       "sweep saw them (`sweep_interval`; 0: not at all). A model is "
                       "counted under the name that the task asks for (`A10G` is `A10`, `H100!` is `H100`). Tasks beyond it stay "
                       "queued, the most urgent first; one that asks for more than it allows is failed."),
)  # fmt: skip
"""Every option, in the order the reference shows them."""
