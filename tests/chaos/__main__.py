"""``python -m tests.chaos``: run seeds, print the plan of each and its verdict; exit code 1 if one fails."""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

from tests.chaos.plan import draw
from tests.chaos.planted import PLANTS
from tests.chaos.run import run_plan
from tests.chaos.verdict import Verdict

LIGHT = (
    "light: Airflow's scheduler (forked from a process that has imported it), its execution API and its database are real, and "
    "so are the executor, Modal's client and the emulator; a small client of the execution API stands for Airflow's supervisor "
    "and the user's code, and deferred tasks are resumed without a triggerer"
)
FULL = "full: Airflow's own api-server, dag-processor, triggerer and scheduler, and its supervisor in every sandbox"


def main() -> int:
    """Read the arguments and run."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what was started ends with us
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seeds", type=int, default=3, help="how many, from --first on (default: 3)")
    parser.add_argument("--first", type=int, default=1, help="the first seed (default: 1)")
    parser.add_argument("--tasks", type=int, default=200, help="tasks of each (default: 200)")
    parser.add_argument(
        "--full", action="store_true", help="all of Airflow: its own commands, and its supervisor in each sandbox"
    )
    parser.add_argument("--postgres", action="store_true", help="two schedulers on a PostgreSQL of its own, not one on SQLite")
    parser.add_argument("--plant", choices=sorted(PLANTS), default="", help="a defect that the light run is to find")
    parser.add_argument("--folder", type=Path, help="keep everything here (default: a temporary folder, kept for failed seeds)")
    arguments = parser.parse_args()
    if arguments.plant and arguments.full:
        parser.error("--plant: full runs start Airflow's own schedulers, which know no planted defect; leave out --full")
    folder = arguments.folder or Path(tempfile.mkdtemp(prefix="modalflow-chaos-"))
    print(FULL if arguments.full else LIGHT)
    print("two schedulers on PostgreSQL" if arguments.postgres else "one scheduler on SQLite")
    seeds = range(arguments.first, arguments.first + arguments.seeds)
    failed = [seed for seed in seeds if not run_seed(seed, arguments, folder / f"seed-{seed}")]
    print(f"{len(seeds) - len(failed)} of {len(seeds)} seeds good" + (f"; failed: {failed}; see {folder}" if failed else ""))
    return 1 if failed else 0


def run_seed(seed: int, arguments: argparse.Namespace, folder: Path) -> bool:
    """Run one; tell how it went."""
    plan = draw(seed, arguments.tasks)
    forms = "".join(f" --{name}" for name in ("full", "postgres") if getattr(arguments, name))
    forms += f" --plant {arguments.plant}" if arguments.plant else ""
    again = f"--first {seed} --seeds 1 --tasks {arguments.tasks}{forms}"
    print(f"seed {seed}: {arguments.tasks} tasks, {len(plan.strikes)} faults (again: python -m tests.chaos {again})")
    for strike in plan.strikes:
        print(f"    {strike}")
    began = time.monotonic()
    verdict = run_plan(
        plan,
        folder,
        full=arguments.full,
        postgres=arguments.postgres,
        plant=arguments.plant,
        say=lambda line: print(f"  {line}", flush=True),
    )
    told(seed, verdict, time.monotonic() - began)
    if verdict.good and arguments.folder is None:
        shutil.rmtree(folder, ignore_errors=True)
    return verdict.good


def told(seed: int, verdict: Verdict, seconds: float) -> None:
    """Print a verdict."""
    figures = ", ".join(f"{count} {name}" for name, count in verdict.figures.items())
    names = {"lost": "lost", "twice": "run twice", "again": "begun again", "twins": "twins", "left": "left"}
    counts = ", ".join(f"{len(getattr(verdict, field))} {name}" for field, name in names.items())
    print(f"seed {seed}: {counts}, {len(verdict.spent)} tries spent for nothing; {figures}; {seconds:.0f} s", flush=True)
    for name in (*names, "spent", "deaths", "silent"):
        for sentence in getattr(verdict, name):
            print(f"    {name}: {sentence}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
