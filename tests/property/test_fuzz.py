"""A short run of the fuzzer; ``python -m tests.property.fuzz --minutes 10`` is the long one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.property import fuzz


@pytest.mark.parametrize("first", range(0, 240, 60))
def test_some_rounds_break_no_law(first: int, tmp_path: Path) -> None:
    assert [problem for seed in range(first, first + 60) if (problem := fuzz.run(seed, tmp_path)) is not None] == []


@pytest.mark.parametrize("seed", [226_222, 269_026, 209_581, 512_150])
def test_rounds_that_broke_a_law_once(seed: int, tmp_path: Path) -> None:
    assert fuzz.run(seed, tmp_path) is None


def test_a_broken_law_is_told_with_its_seed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def breaking(*_: object) -> None:
        raise SystemExit("out")

    monkeypatch.setattr(fuzz, "ROUNDS", (breaking,))
    problem = fuzz.run(7, tmp_path)
    assert problem is not None
    assert problem.startswith("breaking, seed 7: ")
    assert "SystemExit: out" in problem
