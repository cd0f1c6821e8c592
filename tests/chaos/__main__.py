"""``python -m tests.chaos``: run seeds, print the plan of each and its verdict; exit code 1 if one fails."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from pathlib import Path

from tests.chaos.plan import draw
from tests.chaos.run import run_plan
from tests.chaos.verdict import Verdict


def main() -> int:
    """Read the arguments and run."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seeds", type=int, default=3, help="how many, from --first on (default: 3)")
    parser.add_argument("--first", type=int, default=1, help="the first seed (default: 1)")
    parser.add_argument("--tasks", type=int, default=200, help="tasks of each (default: 200)")
    parser.add_argument("--full", action="store_true", help="all of Airflow: its own commands, and its supervisor in each sandbox")
    parser.add_argument("--folder", type=Path, help="keep everything here (default: a temporary folder, kept for failed seeds)")
    arguments = parser.parse_args()
    folder = arguments.folder or Path(tempfile.mkdtemp(prefix="modalflow-chaos-"))
    failed = []
    for seed in range(arguments.first, arguments.first + arguments.seeds):
        if not run_seed(seed, arguments.tasks, folder / f"seed-{seed}", full=arguments.full, keep=arguments.folder is not None):
            failed.append(seed)
    print(f"{arguments.seeds - len(failed)} of {arguments.seeds} seeds good" + (f"; failed: {failed}; see {folder}" if failed else ""))
    return 1 if failed else 0


def run_seed(seed: int, tasks: int, folder: Path, *, full: bool, keep: bool) -> bool:
    """Run one; tell how it went."""
    plan = draw(seed, tasks)
    print(f"seed {seed}: {tasks} tasks, {len(plan.strikes)} faults (replay: python -m tests.chaos --first {seed} --seeds 1 --tasks {tasks})")
    for strike in plan.strikes:
        print(f"    {strike}")
    began = time.monotonic()
    verdict = run_plan(plan, folder, full=full, say=lambda line: print(f"  {line}", flush=True))
    told(seed, verdict, time.monotonic() - began)
    if verdict.good and not keep:
        shutil.rmtree(folder, ignore_errors=True)
    return verdict.good


def told(seed: int, verdict: Verdict, seconds: float) -> None:
    """Print a verdict."""
    figures = ", ".join(f"{count} {name}" for name, count in verdict.figures.items())
    print(f"seed {seed}: {len(verdict.lost)} lost, {len(verdict.twice)} run twice, {len(verdict.left)} left, "
          f"{len(verdict.spent)} tries spent for nothing; {figures}; {seconds:.0f} s", flush=True)  # fmt: skip
    for name in ("lost", "twice", "left", "spent", "deaths"):
        for sentence in getattr(verdict, name):
            print(f"    {name}: {sentence}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
