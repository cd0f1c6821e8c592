"""Prints ``docs/reference/gpus.md`` from the catalogue and the vocabulary: ``python -m modalflow.translation.gpus.page``.

A test fails when the page and the tables differ.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator

from modalflow.translation.gpus import label_tables as tables
from modalflow.translation.gpus import labels
from modalflow.translation.gpus.catalogue import CATALOGUE, PRICES_OF, GpuModel
from modalflow.translation.gpus.label_tables import LabelMatch

INTRODUCTION = f"""# GPUs

What Modal rents, and what every other name for a GPU becomes. `modalflow gpus` prints the first table,
`modalflow gpus --for 'memory>=40Gi,count=2'` ranks the models for a wish and says why each of the others is none.

Prices are list prices of {PRICES_OF} in USD an hour for one GPU, without CPU and memory.

This page is generated from the code by `make docs`.
"""

SELECTION = """## Who chooses

Of two layers the stronger one. Inside a pod only a limit gives a task a GPU; its model is, in this order:

1. the `gpu` key of a stronger layer than the limit's
2. what `nodeSelector` and required node affinity name, by `[modal_executor] labels` first, then by the tables below
3. the `gpu` key of a weaker layer, as far as the labels allow
4. what preferred node affinity names, by weight, with `default_gpu` after it
5. what labels bound by a number (memory, compute capability, architecture), the cheapest first
6. `[modal_executor] default_gpu`

A label of somebody's own that seems to choose a GPU (`gpu-type: pool-a`, a node pool `a100-pool`) keeps `default_gpu` and weaker
layers from choosing another one: the task is refused, and told how to explain the label in `[modal_executor] labels`.

Labels that contradict each other are an error that names both, unless the `gpu` key of a stronger layer says which GPU it is:
then what the pod says about the model is overruled, with a warning.

Nothing is replaced in silence: what Modal lacks is an error that lists the nearest models, or with
`[modal_executor] gpu_substitution = nearest` a warning.

### Node affinity

Every expression of a term must hold, and one term must. `In`, `NotIn`, `Exists`, `DoesNotExist`, `Gt` and `Lt` are solved against
the catalogue for the model, its memory, architecture and compute capability, and checked for region, `kubernetes.io/arch` and
`kubernetes.io/os`. Terms that Modal cannot meet are left out with a notice if another one is left. The models of several terms
are tried in their order. Terms may pair models with regions (an L4 in `us-east`, or an A100 in `uk`; zones count as regions):
each model is then asked for in its own regions, and a preferred region ranks the models that are paired with it.
`Gt` and `Lt` take a model only if every source agrees that its memory is on that side (a T4 is 15109 to 16384 MiB).

Modal may give an H200 for an `H100` and an A100 of 80 GB for an `A100`, at the same price. Where `NotIn` or the memory would not
allow that, `H100!` and `A100-40GB` are sent instead.

Preferences rank what is required by the sum of their weights, and never fail. Any other preferred region is not honoured: one
that is named on Modal is a must, and raises the price.

### Parts of GPUs

Modal rents whole GPUs. A share (`nvidia.com/gpu.shared: 1`, a product that ends in `-SHARED`, time slicing, MPS) becomes a whole
GPU, with a notice. A MIG slice (`nvidia.com/mig-1g.10gb`, `gke-gpu-partition-size`, a product that ends in `-MIG-1g.10gb`) is
refused, or under `gpu_substitution = nearest` becomes the smallest GPU with as much memory. `7g.40gb`, `7g.80gb`, `7g.141gb` and
`7g.180gb` are whole cards: A100-40GB, A100-80GB (an H100 beside a label of one), H200, B200. Parts that other schedulers cut
(`nvidia.com/gpumem`, `aliyun.com/gpu-mem`, `volcano.sh/vgpu-memory`, the annotations `gpu-fraction`, `gpu-memory`) are refused.

### Resources named after a model

Some clusters split `nvidia.com/gpu` by model: `nvidia.com/a100`, `nvidia.com/gpu-h100`, `nvidia.com/A100_SXM4_40GB`, KubeVirt's
`nvidia.com/GA102GL_A10`. Such a limit gives the task GPUs of that model, which labels may narrow (an A100 to its 80 GB); a model
that Modal lacks is refused with the nearest, as a label of it would be.

### Device claims

`spec.resourceClaims` name claims that live in the cluster. `[modal_executor] resource_claims` says which GPUs they stand for, by
the name of the ResourceClaimTemplate or ResourceClaim: `{"two-gpus": {"gpu": "A100-80GB:2"}}`.

## Spellings of the `gpu` key

| of | example | meaning |
|---|---|---|
| modalflow | `"H100:2"` | two H100 |
| modalflow | `["H100", "A100-80GB"]` | fallbacks in that order |
| modalflow | `{"memory": ">=40Gi", "count": 2, "compute_capability": "8.9", "max_price": 3.0}` | what fits, the cheapest first |
| modalflow | `{"any_of": ["H100", "A100-80GB:2"]}` | the cheapest first |
| modalflow | `{"ordered": ["H100", "A100-80GB:2"], "memory": ">=80Gi"}` | in that order, as far as they fit |
| SkyPilot | `{"H100": 1, "A100-80GB": 2}` | any of them, the cheapest first |
| SkyPilot | `{"any_of": [{"accelerators": "H100:1"}, {"accelerators": "A100-80GB:1"}]}`, the same with `ordered` | as above |
| SkyPilot | `"L4+"`, `"24GB+"` | at least the memory of an L4, at least 24 GB |
| dstack | `"A100:40GB:2"`, `"nvidia:L4"` | two A100-40GB, an L4 |
| SkyPilot | `{"accelerators": ["H100:8", "A100-80GB:8"]}`, and a set `{"H100:1", "L4:1"}` | in that order; the cheapest first |
| dstack | `"24GB.."`, `"24GB..48GB:2"` | by memory |
| dstack | `"A100,H100:80GB:2"`, `{"name": ["A100", "H100"], "memory": "40GB..", "count": "2..4"}` | the cheapest first |
| dstack | `{"memory": {"min": 24, "max": 48}, "total_memory": "96GB..", "count": 4}` | GB of one GPU and of all |
| dstack | `"H100:1..8"` | the least of the range: one H100 |
| Ray | `"A100-40G"`, `"A100-80G"`, `"accelerator_type:A100"` | A100-40GB, A100-80GB, A100 |
| Ray | `{"num_gpus": 2, "accelerator_type": "A10G"}` | two A10 |
| Flyte | `"nvidia-tesla-a100"`, `"T4_VWS"`, `"T4.unpartitioned"`, `"A100.partition_2g_10gb"` | A100-40GB, T4, T4, a MIG slice |
| NVIDIA | `"NVIDIA-A100-SXM4-80GB"` | A100-80GB |

The same model twice under two names (A10, A10G) is one candidate. Beside a bound on the memory `A100` is both of its sizes, and
under a bound that an H200 would break an H100 is sent as `H100!`. Fractions of GPUs, other makers' and keys of other tools that
are not about GPUs (`infra`, `use_spot`, `cpus`) are refused with what to write instead.
"""


def render() -> str:
    """Return the page as Markdown."""
    parts = [INTRODUCTION, _catalogue(), SELECTION, "## Labels\n", *_sections()]
    return "\n".join(parts)


def _catalogue() -> str:
    head = (
        "| model | GiB | compute capability | architecture | at most | USD/h | also accepted |\n|---|---|---|---|---|---|---|\n"
    )
    return head + "".join(f"{_model_row(model)}\n" for model in CATALOGUE)


def _model_row(model: GpuModel) -> str:
    also = ", ".join(f"`{name}`" for name in (*model.spellings, *model.aliases))
    facts = (f"`{model.name}`", model.memory, model.capability, model.family, model.most, f"{model.price:.2f}", also)
    return f"| {' | '.join(map(str, facts))} |"


def _sections() -> Iterator[str]:
    yield _section((labels.GKE_KEY,), tables.GKE.items(), "Values that begin with `amd-`: an AMD GPU, refused.")
    yield _section((labels.TPU_KEY,), (), "Any value: a TPU, refused.")
    yield _section(labels.KARPENTER_KEYS, tables.KARPENTER.items())
    yield _section(labels.ACCELERATOR_KEYS, tables.ACCELERATORS.items())
    yield _section(
        (*labels.INSTANCE_KEYS, *labels.FAMILY_KEYS),
        tables.INSTANCES,
        "Values are regular expressions for a machine; a family (`g5`) is read as all of its machines. The number of GPUs comes "
        "from the limit, not from the machine. Other machines are not about GPUs.",
    )
    yield _section((labels.MACHINE_FAMILY_KEY,), tables.GKE_FAMILIES)
    yield _section(
        (labels.PRODUCT_KEY, *labels.NAME_KEYS),
        tables.PRODUCTS,
        "Values are regular expressions, whatever their case, after `NVIDIA-`, `Tesla-`, `GeForce-`, `Quadro-`, with `_` as `-`. "
        "Names of the catalogue and of `cloud.google.com/gke-accelerator` are read too.",
    )
    yield _section(
        labels.FREE_KEYS,
        (),
        "and every other key that ends in `gpu`, `accelerator` or one of them with type, model, name, product, class and so on: "
        "free text. What is a GPU's name above is taken for it, with a warning. `nvidia`, `true` and a number name no model. Any "
        "other word seems to choose a GPU: a task that gets one is refused, unless something else names the model.",
    )
    yield _section(
        labels.SIZE_KEYS,
        (),
        "Memory of one GPU: `80`, `80gb`, `81920Mi`. Read with a warning, beside a label that names the model.",
    )
    yield _section(labels.SLICE_KEYS, (), "MIG profiles: see above.")
    bounds = (*labels.MEMORY_KEYS, labels.ARCHITECTURE_KEY, labels.MAJOR_KEY, labels.MINOR_KEY)
    yield _section(bounds, (), "Bounds on the model: MiB, `ampere`, `8`.")
    yield _section(
        (*labels.MANUFACTURER_KEYS, *labels.VAGUE_KEYS, *labels.CATEGORY_KEYS),
        (),
        "They name no model: no effect, with a notice. Counts describe the machine; the limit says how many the task gets.",
    )


def _section(keys: Iterable[str], entries: Iterable[tuple[str, LabelMatch]], note: str = "") -> str:
    text = ", ".join(f"`{key}`" for key in keys) + "\n"
    rows = [f"| `{_escaped(value)}` | {_meaning(match)} |" for value, match in entries]
    if note:
        text += f"\n{note}\n"
    if rows:
        text += "\n| value | on Modal |\n|---|---|\n" + "\n".join(rows) + "\n"
    return text


def _escaped(value: str) -> str:
    return value.replace("|", "\\|")


def _meaning(match: LabelMatch) -> str:
    if match.kind == "exact":
        return ", ".join(match.models)
    if match.kind == "near":
        part = "a part of it; " if match.share else ""
        return f"none; {part}nearest: {', '.join(match.models)}" + (f" ({match.reason})" if match.reason else "")
    if match.kind == "absent":
        return f"refused: it is {match.reason}"
    return "refused where a GPU is asked for" if match.kind == "unclear" else "refused: unknown"


def main() -> int:
    """Print the page."""
    sys.stdout.write(render())
    return 0


if __name__ == "__main__":
    sys.exit(main())
