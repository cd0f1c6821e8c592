"""Run every benchmark, one after the other, each in a fresh process; exit 1 if a goal was missed.

``python -m benchmarks`` runs all; ``python -m benchmarks translation heartbeat`` runs those named.
"""

from __future__ import annotations

import subprocess
import sys

ALL = (
    "translation",
    "heartbeat",
    "launch_throughput",
    "scale_model",
    "cold_task",
    "relay",
    "published",
    "emulator_waits",
    "emulator_overhead",
    "emulator_leaks",
    "emulator_volumes",
    "dag_upload",
)


def _run(name: str) -> int:
    return subprocess.run([sys.executable, "-m", f"benchmarks.{name}"], check=False).returncode


def main(names: list[str]) -> int:
    """Run the named benchmarks (all if none); return the number of those that missed a goal or failed, at most 1."""
    unknown = set(names) - set(ALL)
    if unknown:
        print(f"unknown benchmark {', '.join(sorted(unknown))}; there are: {', '.join(ALL)}", file=sys.stderr)
        return 2
    missed = [name for name in names or ALL if _run(name) != 0]
    if missed:
        print(f"goal missed or not measured: {', '.join(missed)}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
