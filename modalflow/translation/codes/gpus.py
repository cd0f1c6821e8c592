"""Codes of GPUs, regions and other hardware. Rows of ``codes.table``."""

from __future__ import annotations

from modalflow.translation.codes.row import Code, base, gpus, modal, required, task

_PRODUCT = "nvidia.com/gpu.product"
_REGION = "topology.kubernetes.io/region"
_GKE = "cloud.google.com/gke-accelerator"


def _pod(count: str) -> dict[str, object]:
    return {"spec": {"containers": [{"name": "base", "resources": {"limits": {"nvidia.com/gpu": count}}}]}}


ROWS: tuple[Code, ...] = (
    Code(
        "unknown-gpu",
        "error",
        "No GPU of that name",
        "The name is in none of the vocabularies that modalflow reads.",
        "Another model than the one meant would be another result and another price.",
        "Write a name that `modalflow gpus` lists; the [page on GPUs](../reference/gpus.md) has every spelling.",
        modal(gpu="A10GG"),
    ),
    Code(
        "bad-gpu",
        "error",
        "No description of a GPU",
        "The value of `gpu` is not of a form that modalflow reads.",
        "It is a model, a model with a count, a list of fallbacks or a dict of constraints.",
        'Write e.g. `A10G`, `H100:2`, `[H100, A100-80GB]` or `{memory: ">=40Gi"}`.',
        modal(gpu=2),
    ),
    Code(
        "bad-gpu-count",
        "error",
        "No such number of GPUs",
        "The number of GPUs is zero, no whole number, or more than Modal rents.",
        "A sandbox has up to 8 GPUs of one model, of some models fewer.",
        "Write a number from 1 to the model's most; `modalflow gpus` lists it.",
        modal(gpu="A10:8"),
    ),
    Code(
        "bad-gpu-memory",
        "error",
        "No bound on a GPU's memory",
        "The constraint on memory cannot be read.",
        "It is a comparison with an amount that has a unit.",
        'Write e.g. `">=40Gi"`.',
        modal(gpu={"memory": ">=40Gx"}),
    ),
    Code(
        "bad-gpu-capability",
        "error",
        "No bound on the compute capability",
        "The constraint on the compute capability cannot be read.",
        "It is a comparison with a version of CUDA's capabilities.",
        'Write e.g. `">=8.0"`.',
        modal(gpu={"compute_capability": "ampere"}),
    ),
    Code(
        "bad-gpu-price",
        "error",
        "No price",
        "`max_price` is no number above zero.",
        "It is USD an hour for one GPU.",
        "Write e.g. `3.0`.",
        modal(gpu={"max_price": "free"}),
    ),
    Code(
        "no-gpu-fits",
        "error",
        "No GPU meets the constraints",
        "Each model of the catalogue fails at least one constraint.",
        "Nothing that was asked for is dropped to find one.",
        "Loosen a constraint; `modalflow gpus --for '...'` says why each model is none.",
        modal(gpu={"memory": ">=100Gi", "max_price": 1.0}),
    ),
    Code(
        "least-count",
        "notice",
        "A range of GPUs",
        "Of a range of counts the least is taken.",
        "More would cost more, and the least is enough by the task's own word.",
        "Write the count that you want.",
        modal(gpu="H100:2..8"),
    ),
    Code(
        "gpu-not-on-modal",
        "error",
        "Hardware that Modal does not have",
        "The GPU or accelerator is known, and Modal does not rent it.",
        "Another one is another result and another price, so none is chosen for you.",
        "Choose one of the nearest that the text names, or set `[modal_executor] gpu_substitution = nearest`.",
        gpus(nodeSelector={_GKE: "nvidia-tesla-v100"}),
    ),
    Code(
        "gpu-substituted",
        "warning",
        "The nearest GPU is used",
        "Modal lacks the model, and the nearest one stands in for it.",
        "`[modal_executor] gpu_substitution = nearest` allows it.",
        "Name the model that you want.",
        gpus(options={"gpu_substitution": "nearest"}, nodeSelector={_GKE: "nvidia-tesla-v100"}),
    ),
    Code(
        "gpu-conflict",
        "error",
        "Two values name different GPUs",
        "Two places ask for GPUs that are not the same.",
        "Neither is stronger than the other.",
        "Keep one of the two that the text names.",
        gpus(nodeSelector={_GKE: "nvidia-tesla-t4", "node.kubernetes.io/instance-type": "p5.48xlarge"}),
    ),
    Code(
        "gpu-without-model",
        "error",
        "A limit of GPUs, and no model",
        "The pod asks for GPUs and does not say which.",
        "In a cluster the nodes decide; Modal has eleven models from $0.59 to $6.25 an hour.",
        "Name the model: by a `gpu` key, a node label, or `[modal_executor] default_gpu`.",
        gpus(),
    ),
    Code(
        "gpu-label-alone",
        "warning",
        "A label or runtime class names a GPU, and no limit asks for one",
        "The task runs without a GPU.",
        "In Kubernetes only a limit gives a container a GPU; the label alone puts a pod without one on such a node.",
        'Add `resources.limits["nvidia.com/gpu"]`, or remove the label.',
        base({}, nodeSelector={_GKE: "nvidia-l4"}),
    ),
    Code(
        "gpu-request-alone",
        "error",
        "A request of GPUs without a limit",
        "GPUs are requested, but not in `limits`.",
        "Kubernetes refuses this: extended resources need a limit.",
        "Write it as a limit.",
        base({"resources": {"requests": {"nvidia.com/gpu": "1"}}}),
    ),
    Code(
        "overruled-gpu",
        "warning",
        "Another layer decides the GPU",
        "A stronger layer asks for another GPU than this one.",
        "Of two layers the stronger one holds.",
        "Remove one of the two, or write the count at the stronger one.",
        task({"modal": {"gpu": "A10G"}, "pod_override": _pod("2")}),
    ),
    Code(
        "dropped-fallback",
        "warning",
        "A fallback has too few GPUs",
        "A model of the list is left out.",
        "The pod's limit asks for more GPUs than a sandbox has of this model.",
        "Remove the model, or ask for fewer.",
        task(
            {"modal": {"template": "mine"}, "pod_override": _pod("8")},
            files={"mine.yaml": "apiVersion: modalflow/v1\nkind: ModalTask\nspec:\n  gpu: [H100, A10G]\n"},
        ),
    ),
    Code(
        "whole-gpu",
        "notice",
        "A whole GPU for a share of one",
        "The pod asks for a part of a GPU and gets a whole one.",
        "Modal rents whole GPUs.",
        "Nothing needs to be done; mind the price.",
        gpus(nodeSelector={_PRODUCT: "NVIDIA-A100-SXM4-80GB-SHARED"}),
    ),
    Code(
        "free-text-label",
        "warning",
        "A label of free text names a GPU",
        "The label's value is a GPU's name, and is taken for it.",
        "Keys like `accelerator` belong to no standard, so that modalflow reads what people write there.",
        "Say it with a standard label, or with `[modal_executor] labels`.",
        gpus(nodeSelector={"accelerator": "nvidia-tesla-t4"}),
    ),
    Code(
        "long-gpu-wait",
        "warning",
        "Airflow will not wait as long",
        "`gpu_wait` is longer than `[scheduler] task_queued_timeout`.",
        "Airflow takes back a task that is queued longer than that.",
        "Write a shorter wait, or raise the option.",
        modal(gpu="H100", gpu_wait="20m"),
    ),
    Code(
        "alternative-not-on-modal",
        "notice",
        "One of several alternatives is not on Modal",
        "A term of node affinity, or a value in it, asks for what Modal does not have; the others remain.",
        "The pod allows any of them.",
        "Remove it to silence the notice.",
        gpus(affinity=required((_PRODUCT, ["Tesla-V100-SXM2-16GB", "NVIDIA-L4"]))),
    ),
    Code(
        "preference-not-on-modal",
        "notice",
        "A preference that Modal cannot meet",
        "Preferred node affinity asks for what Modal does not have.",
        "A preference never fails a pod.",
        "Remove it to silence the notice.",
        gpus(
            nodeSelector={_GKE: "nvidia-l4"},
            affinity={
                "nodeAffinity": {
                    "preferredDuringSchedulingIgnoredDuringExecution": [
                        {
                            "weight": 1,
                            "preference": {
                                "matchExpressions": [{"key": _PRODUCT, "operator": "In", "values": ["Tesla-V100-SXM2-16GB"]}]
                            },
                        }
                    ]
                }
            },
        ),
    ),
    Code(
        "alternative-left-out",
        "notice",
        "An alternative that leaves the model open",
        "One term names a GPU model and another none; the one that names it holds.",
        "Any of the terms would do, and only one of them says which GPU to ask for.",
        "Name the models in every term.",
        gpus(
            affinity={
                "nodeAffinity": {
                    "requiredDuringSchedulingIgnoredDuringExecution": {
                        "nodeSelectorTerms": [
                            {"matchExpressions": [{"key": key, "operator": "In", "values": [value]}]}
                            for key, value in ((_PRODUCT, "NVIDIA-L4"), (_REGION, "eu-west-1"))
                        ]
                    }
                }
            }
        ),
    ),
    Code(
        "unclear-gpu-label",
        "error",
        "A label seems to choose a GPU, and nobody says which",
        "A task that gets a GPU has a label in a site's own words: a key about GPUs, or a node pool that is named after one.",
        "The model would come from `default_gpu` or a weaker layer, and may not be the one that such nodes have.",
        "Explain the label once in `[modal_executor] labels`, or name the model with a `gpu` key or a standard label.",
        gpus(options={"default_gpu": "T4"}, nodeSelector={"cloud.google.com/gke-nodepool": "a100-pool"}),
    ),
    Code(
        "region-widened",
        "warning",
        "A region becomes a continent",
        "The task runs anywhere in `eu` or `ap`.",
        "Modal names no region as narrow as the label's.",
        'Write the region that you want: `{"modal": {"region": "eu-west"}}`.',
        base({}, nodeSelector={_REGION: "eu-central-1"}),
    ),
    Code(
        "unknown-region",
        "error or warning",
        "No Modal region is known",
        "The name is not known to be one of Modal's. Of a label it is an error; of the `region` key a warning, since Modal "
        "may have got new regions.",
        "A task that is bound to a region may be so by law.",
        'Write Modal\'s own name: `{"modal": {"region": "us-east"}}`.',
        base({}, nodeSelector={_REGION: "mars-1"}),
    ),
    Code(
        "overruled-region",
        "warning",
        "Another layer decides the region",
        "A pod's label about regions cannot be kept, and a `region` key of a stronger layer says where the task runs.",
        "Of two layers the stronger one holds.",
        "Nothing, or remove the label.",
        task(
            {
                "modal": {"region": "us-east"},
                "pod_override": {"spec": {"nodeSelector": {_REGION: "mars-1"}, "containers": [{"name": "base"}]}},
            }
        ),
    ),
    Code(
        "region-conflict",
        "error",
        "Two values name different regions",
        "Two labels ask for regions that have nothing in common.",
        "Neither is stronger than the other.",
        "Keep one of the two that the text names.",
        base({}, nodeSelector={_REGION: "us-east-1"}, affinity=required((_REGION, ["eu-west-1"]))),
    ),
    Code(
        "region-excluded",
        "error",
        "Regions cannot be excluded",
        "Node affinity says where a task must not run.",
        "Modal takes regions by name only; it would be a guess which of them are left.",
        "Name the regions that are allowed.",
        base(
            {},
            affinity={
                "nodeAffinity": {
                    "requiredDuringSchedulingIgnoredDuringExecution": {
                        "nodeSelectorTerms": [
                            {"matchExpressions": [{"key": _REGION, "operator": "NotIn", "values": ["us-east-1"]}]}
                        ]
                    }
                }
            },
        ),
    ),
    Code(
        "zone",
        "warning",
        "A zone becomes its region",
        "The task runs somewhere in the zone's region.",
        "Modal offers regions, not zones.",
        "Name the region to silence it.",
        base({}, nodeSelector={"topology.kubernetes.io/zone": "us-east-1a"}),
    ),
)
