"""The README's first command, as a user runs it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from modalflow.demo.expectations import EXPECTATIONS

pytestmark = [pytest.mark.e2e, pytest.mark.emulated]


@pytest.mark.timeout(600)
def test_the_demo_ends_by_itself_with_everything_as_expected(tmp_path: Path, worker_python: Path) -> None:
    command = [sys.executable, "-m", "modalflow.cli.main", "demo", "run", "--home", str(tmp_path / "home")]
    done = subprocess.run(
        [*command, "--worker-python", str(worker_python)], capture_output=True, text=True, timeout=580, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert " ".join(done.stdout.split()).count("network: host:") == 2
    assert "modal_typo.py is an import error, as it should be" in done.stdout
    assert done.stdout.count("as expected") == len(EXPECTATIONS)
