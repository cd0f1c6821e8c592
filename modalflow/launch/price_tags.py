"""What a launch costs, kept where every scheduler and every command finds it: in the tag ``usd_hour`` of its sandbox.

In: a plan and the GPU of an attempt. Out: the tag (``2.9641``), by list price (``translation.prices``); and back, with the GPU of
the tag beside it (``gpu_ledger``). A user's own tag of this name wins. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal, InvalidOperation

from modalflow.launch.gpu_ledger import gpu_of_tag
from modalflow.translation.plan import SandboxPlan
from modalflow.translation.prices import prices_of
from modalflow.translation.tags import GPU_TAG

PRICE_TAG = "usd_hour"
MICRO = 1_000_000
MOST = 1_000_000
"""US dollars an hour from which a tag is not a price: the tag may be a user's own, and ``1e99999`` is a number too."""


def micro_usd_hours(plan: SandboxPlan) -> dict[str | None, int]:
    """Return millionths of a US dollar an hour for each GPU candidate; one entry, ``None``, on CPU."""
    return {price.gpu: round(price.total * MICRO) for price in prices_of(plan)}


def price_tags(plan: SandboxPlan, gpu: str | None) -> dict[str, str]:
    """Return the tag of an attempt on ``gpu`` (``None`` on CPU)."""
    micro = micro_usd_hours(plan).get(gpu)
    return {} if micro is None else {PRICE_TAG: f"{micro / MICRO:.4f}"}


def read_price_tags(tags: Mapping[str, str]) -> tuple[str | None, int]:
    """Return the GPU as Modal calls it and millionths of a US dollar an hour; 0 where the tags do not say."""
    gpu = gpu_of_tag(tags.get(GPU_TAG, ""))
    try:
        price = Decimal(tags.get(PRICE_TAG, "0"))
    except InvalidOperation:
        return gpu, 0
    return gpu, int(price * MICRO) if price.is_finite() and 0 < price < MOST else 0


def gpu_words(gpu: str) -> str:
    """``A10G`` or ``2xA10G`` for Modal's ``A10G``, ``A10G:2``: the model as its owner wrote it."""
    model, _, count = gpu.partition(":")
    return model if count in ("", "1") else f"{count}x{model}"
