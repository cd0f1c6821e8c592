"""One small seed, with every deadly fault: real scheduler, execution API, emulator and client; ``make chaos`` runs large ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.plan import draw
from tests.chaos.run import run_plan

pytestmark = [pytest.mark.e2e, pytest.mark.emulated]

SEED, TASKS = 1, 20


@pytest.mark.timeout(300)
def test_nothing_is_lost_or_run_twice_whoever_dies(tmp_path: Path) -> None:
    story: list[str] = []
    verdict = run_plan(draw(SEED, TASKS, longest=0.6), tmp_path / "run", full=False, say=story.append)
    told = "\n".join(story)
    assert (verdict.lost, verdict.twice, verdict.left, verdict.spent) == ((), (), (), ()), told
    assert verdict.good, verdict.deaths
    assert verdict.figures["entries"] >= TASKS
    assert "kill scheduler" in told
    assert "kill emulator" in told
