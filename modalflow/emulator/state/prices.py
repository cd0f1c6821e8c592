"""Modal's public prices, for programs that ask what they would cost: nothing is billed here.

Flows in: nothing. Flows out: ``RATES``. They are data with a date, not a promise: https://modal.com/pricing and the GPU guide as
quoted between May and October 2026. Regions, plans and non-preemptible work multiply them.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

AS_OF = "2026-10"

RATES: Mapping[str, Decimal] = {
    name: Decimal(rate)
    for name, rate in {
        "CPU": "0.00003942",
        "Memory": "0.00000672",
        "T4": "0.000164",
        "L4": "0.000222",
        "A10": "0.000306",
        "L40S": "0.000542",
        "A100-40GB": "0.000583",
        "A100-80GB": "0.000694",
        "RTX-PRO-6000": "0.000842",
        "H100": "0.001097",
        "H200": "0.001261",
        "B200": "0.001736",
    }.items()
}
"""US dollars a second: of a physical core and of a GiB in a sandbox, and of a GPU. By the names of ``cost_by_resource``."""


def formatted() -> str:
    """Return the table as ``modal billing rates`` prints it."""
    unit = {"CPU": "core", "Memory": "GiB"}
    lines = [f"{name:<14} ${rate:f} per {unit.get(name, 'GPU')} and second" for name, rate in RATES.items()]
    return "\n".join([f"Modal's public prices for sandboxes, {AS_OF}; the emulator bills nothing", "", *lines])
