"""ResourceClaims and ResourceClaimTemplates that are given together with a pod: which GPUs they stand for.

Flows in: the manifest, as plain data. Flows out: a ``GpuRequest`` as ``[modal_executor] resource_claims`` would give it. The
selectors are tried on the models of the catalogue (``pods.cel``): what NVIDIA's driver says of a device is the product's name,
the architecture, the compute capability and the memory (github.com/NVIDIA/k8s-dra-driver-gpu, 2026-10). ``cli.translating`` calls
it; a scheduler sees no cluster, and has the option.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

from modalflow.translation.diagnostics import Severity
from modalflow.translation.gpus.catalogue import CATALOGUE, GpuChoice, GpuModel, GpuRequest, by_price, check_count
from modalflow.translation.pods.cel import Facts, Unreadable, parse
from modalflow.translation.report import Place, kind_of, shown

KINDS = ("ResourceClaim", "ResourceClaimTemplate")
DRIVER = "gpu.nvidia.com"

PRODUCTS: Mapping[str, tuple[str, ...]] = {
    "T4": ("Tesla T4", "NVIDIA T4"),
    "L4": ("NVIDIA L4",),
    "A10": ("NVIDIA A10G", "NVIDIA A10"),
    "L40S": ("NVIDIA L40S",),
    "A100-40GB": ("NVIDIA A100-SXM4-40GB", "NVIDIA A100-PCIE-40GB"),
    "A100-80GB": ("NVIDIA A100-SXM4-80GB", "NVIDIA A100 80GB PCIe"),
    "RTX-PRO-6000": ("NVIDIA RTX PRO 6000 Blackwell Server Edition",),
    "H100": ("NVIDIA H100 80GB HBM3", "NVIDIA H100 PCIe"),
    "H200": ("NVIDIA H200",),
    "B200": ("NVIDIA B200",),
}
"""What the driver calls each model that constraints pick from."""

_BY_HAND = "write the GPU in [modal_executor] resource_claims"
_REQUEST = ("name", "deviceClassName", "selectors", "allocationMode", "count", "adminAccess", "tolerations")


def read_claim(document: Mapping[str, Any], place: Place, default: GpuRequest) -> GpuRequest | None:
    """Return the GPUs of one claim, cheapest model first; ``default`` are those of a claim that names none.

    ``None`` if it cannot be read or had, which is reported.
    """
    before = len(place.findings)
    at, requests = _requests_of(document, place)
    everything = [model for model in by_price(CATALOGUE) if model.exact]
    fits, count = everything, 0
    for index, request in enumerate(requests):
        read = _request(request, at.at("requests", index))
        if read is not None:
            fits, count = [model for model in read[0] if model in fits], count + read[1]
    if any(found.severity is Severity.ERROR for found in place.findings[before:]):
        return None
    if fits == everything:
        fits = [model for choice in default for model in CATALOGUE if model.name == choice.name]
        if not fits:
            hint = "add a selector of productName, architecture or memory, or set default_gpu"
            at.error("gpu-without-model", "no GPU model is named, and [modal_executor] default_gpu is not set", hint)
            return None
    if not fits:
        at.error("no-gpu-fits", "no GPU that Modal has fits these selectors", _BY_HAND)
        return None
    enough = [model for model in fits if model.most >= count]
    if not enough:
        check_count(count, fits[0], at, name=fits[0].name, got=f"{count} of {fits[0].name}")
        return None
    return tuple(GpuChoice(name=model.name, count=count) for model in enough)


def _requests_of(document: Mapping[str, Any], place: Place) -> tuple[Place, list[object]]:
    spec, at = document.get("spec"), place.at("spec")
    if document.get("kind") == "ResourceClaimTemplate":
        spec, at = (spec.get("spec") if isinstance(spec, dict) else None), at.at("spec")
    devices = spec.get("devices") if isinstance(spec, dict) else None
    requests = devices.get("requests") if isinstance(devices, dict) else None
    if not isinstance(devices, dict) or not isinstance(requests, list) or not requests:
        at.error("bad-claim", "expected devices with a list of requests")
        return at, []
    at = at.at("devices")
    if "config" in devices:
        at.at("config").warn("dropped", "is not honoured: Modal rents whole GPUs, set up as they are", "remove it")
    if "constraints" in devices:
        at.at("constraints").notice("no-effect", "has no effect: all GPUs of a sandbox are of one model")
    return at, requests


def _request(request: object, place: Place) -> tuple[list[GpuModel], int] | None:
    """Return the models that one request allows, and how many GPUs it wants."""
    if not isinstance(request, dict):
        place.error("bad-claim", f"expected a mapping, got {kind_of(request)}")
        return None
    alternatives = request.get("firstAvailable")
    if isinstance(alternatives, list) and alternatives:
        read = [_exact(one, place.at("firstAvailable", index)) for index, one in enumerate(alternatives)]
        good = [one for one in read if one is not None]
        if len({count for _, count in good}) > 1:
            place.at("firstAvailable").error("bad-claim", "alternatives of different numbers of GPUs", "give each its own claim")
        models = list(dict.fromkeys(model for found, _ in good for model in found))
        return (models, good[0][1]) if good else None
    exactly = request.get("exactly")
    return _exact(request, place) if exactly is None else _exact(exactly, place.at("exactly"))


def _exact(request: object, place: Place) -> tuple[list[GpuModel], int] | None:
    if not isinstance(request, dict):
        place.error("bad-claim", f"expected a mapping, got {kind_of(request)}")
        return None
    name = request.get("deviceClassName")
    if name != DRIVER:
        reason = "a part of a GPU; Modal rents whole ones" if name == "mig.nvidia.com" else "Modal has no such device"
        place.at("deviceClassName").error("refused-field", f"{shown(name)}: {reason}", f'write "{DRIVER}", or remove it')
        return None
    for field in request:
        if field not in _REQUEST:
            place.at(field).error("bad-claim", "a field that modalflow cannot read", _BY_HAND)
    if request.get("allocationMode", "ExactCount") != "ExactCount":
        place.at("allocationMode").error("refused-field", "there is no node whose GPUs could all be taken", 'write "ExactCount"')
    if request.get("adminAccess"):
        place.at("adminAccess").error("refused-field", "a sandbox has no access to what others use", "remove it")
    if "tolerations" in request:
        place.at("tolerations").notice("no-effect", "has no effect: Modal has no taints")
    count = request.get("count", 1)
    if not isinstance(count, int) or isinstance(count, bool) or count < 1:
        place.at("count").error("bad-claim", f"expected a number of GPUs, got {shown(count)}")
        count = 1
    models = [model for model in by_price(CATALOGUE) if model.exact]
    selectors = request.get("selectors") or []
    for index, selector in enumerate(selectors if isinstance(selectors, list) else [selectors]):
        models = _selected(models, selector, place.at("selectors", index))
    return models, count


def _selected(models: list[GpuModel], selector: object, place: Place) -> list[GpuModel]:
    cel = selector.get("cel") if isinstance(selector, dict) else None
    text = cel.get("expression") if isinstance(cel, dict) else None
    if not isinstance(text, str):
        place.error("bad-claim", "expected cel with an expression")
        return []
    try:
        expression = parse(text)
        return [model for model in models if any(_holds(expression(facts)) for facts in _facts(model))]
    except Unreadable as error:
        place.at("cel", "expression").error(
            "unreadable-selector",
            f"modalflow cannot read {error}",
            _BY_HAND,
        )
        return []


def _holds(value: object) -> bool:
    if not isinstance(value, bool):
        raise Unreadable(f"{value!r} where true or false should be")
    return value


def _facts(model: GpuModel) -> Iterator[Facts]:
    """Yield what the driver may say of such a device, once for each name that it has."""
    for product in PRODUCTS.get(model.name, ()):
        yield {
            "driver": DRIVER,
            "attributes": {
                DRIVER: {
                    "type": "gpu",
                    "productName": product,
                    "architecture": model.family.replace("-", " ").title(),
                    "cudaComputeCapability": (*model.compute, 0),
                }
            },
            "capacity": {DRIVER: {"memory": Decimal(model.memory) * 1024**3}},
        }
