"""Which GPUs the selectors of a device claim stand for, and what of CEL is read."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modalflow.translation.diagnostics import Diagnostic
from modalflow.translation.gpus.catalogue import GpuChoice, GpuRequest
from modalflow.translation.pods.cel import Facts, Unreadable, parse
from modalflow.translation.pods.device_claims import read_claim
from modalflow.translation.report import Place, Root

ROOT = Root(layer="file claims.yaml", prefix="", style="dotted")
OF = 'device.attributes["gpu.nvidia.com"]'
MEMORY = 'device.capacity["gpu.nvidia.com"].memory'


def claim(*expressions: str, **fields: Any) -> dict[str, Any]:
    selectors = [{"cel": {"expression": expression}} for expression in expressions]
    exactly = {"deviceClassName": "gpu.nvidia.com", "selectors": selectors, **fields}
    return {"kind": "ResourceClaim", "spec": {"devices": {"requests": [{"name": "gpu", "exactly": exactly}]}}}


def read(document: dict[str, Any], default: GpuRequest = ()) -> tuple[list[str] | None, list[str]]:
    findings: list[Diagnostic] = []
    found = read_claim(document, Place(ROOT, (), findings), default)
    return None if found is None else [choice.text for choice in found], [f"{d.severity}: {d}" for d in findings]


@pytest.mark.parametrize(
    ("expressions", "gpus"),
    [
        ([f'{OF}.productName == "NVIDIA A100-SXM4-40GB"'], ["A100-40GB"]),
        ([f"{OF}.productName.lowerAscii().matches('^.*h100.*$')"], ["H100"]),
        ([f"{OF}.productName.matches('(?i)a100')"], ["A100-40GB", "A100-80GB"]),
        ([f'{OF}.productName in ["NVIDIA L4", "NVIDIA L40S"]'], ["L4", "L40S"]),
        ([f'{OF}.architecture == "Hopper" && {MEMORY}.compareTo(quantity("100Gi")) >= 0'], ["H200"]),
        ([f'{OF}.architecture == "Hopper"', f'{MEMORY}.isLessThan(quantity("100Gi"))'], ["H100"]),
        ([f'!({OF}.productName.contains("A100") || {OF}.architecture != "Ampere")', f'{MEMORY} > quantity("40Gi")'], None),
        ([f'{OF}.architecture == "Ada Lovelace" || {OF}.architecture == "Turing"'], ["T4", "L4", "L40S"]),
        ([f'{OF}.cudaComputeCapability.compareTo(semver("9.0.0")) >= 0'], ["RTX-PRO-6000", "H100", "H200", "B200"]),
        ([f'{OF}.type == "gpu" && device.driver == "gpu.nvidia.com" && {OF}.productName.startsWith("NVIDIA B")'], ["B200"]),
        ([f"{OF}.productName == 'Tesla V100-SXM2-16GB'"], None),
    ],
)
def test_selectors_choose_among_the_models_that_modal_has(expressions: list[str], gpus: list[str] | None) -> None:
    told = "error: spec.devices: no GPU that Modal has fits these selectors; write the GPU in [modal_executor] resource_claims"
    assert read(claim(*expressions)) == (gpus, [] if gpus else [told])


def test_the_number_of_gpus_goes_with_the_model() -> None:
    assert read(claim(f'{OF}.productName.contains("H100")', count=4))[0] == ["H100:4"]
    assert read(claim(f"{OF}.productName.matches('A10G|L40S')", count=8))[0] == ["L40S:8"], "a sandbox has at most 4 A10"
    assert read(claim(f'{OF}.productName.contains("A10G")', count=8)) == (
        None,
        ['error: spec.devices: a sandbox has at most 4 A10 GPUs, got 8 of A10; write "L40S:8"'],
    )


def test_a_claim_that_names_no_model_takes_the_default_and_is_never_guessed() -> None:
    told = (
        "error: spec.devices: no GPU model is named, and [modal_executor] default_gpu is not set; "
        "add a selector of productName, architecture or memory, or set default_gpu"
    )
    assert read(claim()) == (None, [told])
    assert read(claim(f'{OF}.type == "gpu"')) == (None, [told])
    assert read(claim(count=2), (GpuChoice(name="L4", count=1),)) == (["L4:2"], [])


def test_a_template_in_the_older_form_with_two_requests() -> None:
    request = {"deviceClassName": "gpu.nvidia.com", "selectors": [{"cel": {"expression": f'{OF}.productName.contains("H100")'}}]}
    devices = {"requests": [{"name": "a", **request}, {"name": "b", **request}], "constraints": [{"matchAttribute": "x"}]}
    assert read({"kind": "ResourceClaimTemplate", "spec": {"spec": {"devices": devices}}}) == (
        ["H100:2"],
        ["notice: spec.spec.devices.constraints: has no effect: all GPUs of a sandbox are of one model"],
    )


def test_alternatives_in_their_order() -> None:
    def one(product: str, count: int) -> dict[str, Any]:
        return {
            "deviceClassName": "gpu.nvidia.com",
            "count": count,
            **claim(product)["spec"]["devices"]["requests"][0]["exactly"],
        }

    first = [one(f'{OF}.productName.contains("H100")', 1), one(f'{OF}.productName.contains("L4")', 1)]
    document: dict[str, Any] = {
        "kind": "ResourceClaim",
        "spec": {"devices": {"requests": [{"name": "g", "firstAvailable": first}]}},
    }
    assert read(document)[0] == ["H100", "L4", "L40S"]


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        (
            {"deviceClassName": "mig.nvidia.com"},
            'deviceClassName: "mig.nvidia.com": a part of a GPU; Modal rents whole ones; write "gpu.nvidia.com", or remove it',
        ),
        (
            {"deviceClassName": "tpu.google.com"},
            'deviceClassName: "tpu.google.com": Modal has no such device; write "gpu.nvidia.com", or remove it',
        ),
        (
            {"allocationMode": "All"},
            'allocationMode: there is no node whose GPUs could all be taken; write "ExactCount"',
        ),
        ({"adminAccess": True}, "adminAccess: a sandbox has no access to what others use; remove it"),
        ({"count": 0}, "count: expected a number of GPUs, got 0"),
        (
            {"capacity": {}},
            "capacity: a field that modalflow cannot read; write the GPU in [modal_executor] resource_claims",
        ),
    ],
)
def test_what_a_sandbox_cannot_have_is_refused_by_name(fields: dict[str, Any], told: str) -> None:
    assert read(claim(f'{OF}.productName.contains("H100")', **fields)) == (
        None,
        [f"error: spec.devices.requests[0].exactly.{told}"],
    )


def tried(expression: str, facts: Facts) -> None:
    value = parse(expression)(facts)
    if not isinstance(value, bool):
        raise Unreadable(f"{value!r} where true or false should be")


@pytest.mark.parametrize(
    ("expression", "because"),
    [
        (f'{OF}.uuid == "GPU-1"', "device.attributes['gpu.nvidia.com'].uuid"),
        ('device.attributes["other.com"].x == "1"', "device.attributes['other.com'].x"),
        ("size(device) > 1", "'size'"),
        (f"{OF}.productName", "'NVIDIA L4' where true or false should be"),
        (f"{OF}.productName == 1", "'NVIDIA L4' == Decimal('1')"),
        (f'{OF}.productName.matches("(a+)+b")', "matches('(a+)+b')"),
        (f'{OF}.productName.replace("a", "b") == "c"', "the method 'replace'"),
        ("true true", "'true' where the expression should end"),
        ("", "it ends too soon"),
        ("(" * 50, "too many parentheses"),
        ("true" + " " * 2000, "more than 2000 characters"),
        (f'{MEMORY}.compareTo(quantity("much")) > 0', "quantity('much')"),
        ("a # b", "'# b'"),
    ],
)
def test_what_is_not_read_is_named(expression: str, because: str) -> None:
    facts = {
        "driver": "gpu.nvidia.com",
        "attributes": {"gpu.nvidia.com": {"productName": "NVIDIA L4"}},
        "capacity": {"gpu.nvidia.com": {"memory": 1}},
    }
    with pytest.raises(Unreadable) as caught:
        tried(expression, facts)
    assert str(caught.value) == because


WORDS = [
    "device",
    ".",
    "attributes",
    "[",
    "]",
    '"gpu.nvidia.com"',
    "productName",
    "==",
    "&&",
    "||",
    "!",
    "(",
    ")",
    "'L4'",
    "matches",
    "1",
]


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(WORDS), max_size=14).map("".join) | st.text(max_size=40))
def test_any_text_is_read_or_refused(text: str) -> None:
    found, told = read(claim(text))
    assert (found is None) == bool(told)
