"""Prices of plans, by the list of ``gpus.catalogue.PRICES_OF``."""

from __future__ import annotations

import pytest

from modalflow.provider.explanation import price_text
from modalflow.translation.functions.plan import FunctionPlan
from modalflow.translation.gpus.catalogue import CATALOGUE
from modalflow.translation.plan import ImagePlan, SandboxPlan
from modalflow.translation.prices import multiplier_of, prices_of

IMAGE = ImagePlan(reference="me/train:1")


def test_a_cpu_task_pays_for_its_requests() -> None:
    (price,) = prices_of(SandboxPlan(image=IMAGE, cpu=(2.0, 4.0), memory=(4096, 8192)))
    assert (price.gpu, price.gpu_usd, price.multiplier) == (None, 0.0, 1.0)
    assert price.cpu_usd == pytest.approx(2 * 0.00003942 * 3600)
    assert price.memory_usd == pytest.approx(4 * 0.00000667 * 3600)
    assert price_text(price) == "no GPU: 0.380 USD an hour (CPU 0.284, memory 0.096)"


def test_modal_s_defaults_where_nobody_asks() -> None:
    (price,) = prices_of(SandboxPlan(image=IMAGE))
    assert price.total == pytest.approx((0.125 * 0.00003942 + 0.125 * 0.00000667) * 3600)


def test_each_candidate_with_its_count() -> None:
    prices = prices_of(SandboxPlan(image=IMAGE, gpu_candidates=("H100:8", "A10G"), region=("us",)))
    assert [price.gpu for price in prices] == ["H100:8", "A10G"]
    assert [price.gpu_usd for price in prices] == pytest.approx([31.6, 1.1])
    assert prices[0].total == pytest.approx(1.5 * (31.6 + prices[0].cpu_usd + prices[0].memory_usd))


def test_each_candidate_in_its_own_region() -> None:
    plan = SandboxPlan(
        image=IMAGE, gpu_candidates=("L4", "T4"), candidate_regions=(("us-east",), ("us",)), region=("us-east", "us")
    )
    assert [price.multiplier for price in prices_of(plan)] == [1.75, 1.5]


@pytest.mark.parametrize("name", [name for model in CATALOGUE for name in (model.name, *model.spellings)])
def test_every_name_that_a_plan_can_have_has_a_price(name: str) -> None:
    (price,) = prices_of(SandboxPlan(image=IMAGE, gpu_candidates=(name,)))
    assert price.gpu_usd > 0


@pytest.mark.parametrize(
    ("regions", "multiplier"),
    [((), 1.0), (("us",), 1.5), (("us-east",), 1.75), (("us", "eu-west"), 1.75), (("elsewhere",), 1.75)],
)
def test_regions(regions: tuple[str, ...], multiplier: float) -> None:
    assert multiplier_of(regions) == multiplier


def test_a_function_s_cpu_and_memory_are_cheaper() -> None:
    function = FunctionPlan(app="a", function="f", image=IMAGE, cpu=1.0, memory=1024)
    assert prices_of(function)[0].total == pytest.approx((0.0000131 + 0.00000222) * 3600)
