"""Which layer decided what, for each task of the demo: ``python -m modalflow.demo.decisions`` prints it as JSON.

A process of its own, started with Airflow's environment of the demo, because Airflow reads its configuration once a process.
Flows out: ``{"dag_id.task_id": "executor_config[\\"modal\\"]: gpu; …"}``.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from modalflow.demo.expectations import EXPECTATIONS

TIMEOUT = 120.0


class DecisionsError(RuntimeError):
    """The DAGs could not be explained; the text is the process's own."""


def read_decisions(home: Path, env: dict[str, str]) -> dict[tuple[str, str], str]:
    """Explain every task of the demo in a process with ``env``. Raises ``DecisionsError``."""
    command = [sys.executable, "-W", "ignore", "-m", "modalflow.demo.decisions"]
    done = subprocess.run(command, env=env, cwd=home, capture_output=True, text=True, timeout=TIMEOUT, check=False)  # noqa: S603
    if done.returncode != 0:
        raise DecisionsError(f"explaining the DAGs failed: {done.stderr.strip()[-2000:]}")
    found: dict[str, str] = json.loads(done.stdout.splitlines()[-1])
    return {(e.dag_id, e.task_id): found[f"{e.dag_id}.{e.task_id}"] for e in EXPECTATIONS}


def _decide(dag_id: str, task_id: str) -> str:
    from modalflow.cli.explain_command import configured_site, explained, load_tasks  # noqa: PLC0415
    from modalflow.executor.summary import deciding_layers  # noqa: PLC0415 - Airflow, in this process only

    (task,) = load_tasks(dag_id, task_id)
    translation = explained(task, configured_site()).translation
    if translation.errors:
        return f"refused by {translation.errors[0].origin}"
    return deciding_layers(translation)


def main() -> int:
    """Print the decisions on one line."""
    print(json.dumps({f"{e.dag_id}.{e.task_id}": _decide(e.dag_id, e.task_id) for e in EXPECTATIONS}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
