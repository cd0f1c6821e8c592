"""The catalogue of GPU types."""

from __future__ import annotations

import pytest

from modalflow.emulator.state.gpus import MAX_COUNT, UnknownGpuError, canonical


@pytest.mark.parametrize(
    ("spelled", "found"),
    [("a10g", "A10"), ("A10", "A10"), ("A100", "A100-40GB"), ("H100!", "H100"), ("B200+", "B200"), ("l40s", "L40S")],
)
def test_spellings_of_one_type_share_its_stock(spelled: str, found: str) -> None:
    assert canonical(spelled) == found


def test_an_unknown_type_lists_what_is_known() -> None:
    with pytest.raises(UnknownGpuError) as caught:
        canonical("potato")
    assert str(caught.value) == f"Unknown GPU type 'potato'; known: {', '.join(MAX_COUNT)}"
