"""The JavaScript client against an emulator, by URL. Needs node and the npm package; CI need not have them."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.emulator.conftest import StartEmulator

SCRIPT = Path(__file__).parent / "javascript" / "client.mjs"
MODULES = os.environ.get("NODE_MODULES_WITH_MODAL", "")
"""Where ``npm install modal@0.11.1`` has put its node_modules."""


@pytest.mark.skipif(
    shutil.which("node") is None or not (Path(MODULES) / "modal").is_dir(),
    reason="needs node, and NODE_MODULES_WITH_MODAL naming a node_modules folder with the npm package modal",
)
def test_the_javascript_client(start_emulator: StartEmulator, tmp_path: Path) -> None:
    emulator = start_emulator(any_token=True)
    shutil.copy(SCRIPT, tmp_path)
    (tmp_path / "node_modules").symlink_to(Path(MODULES).resolve())
    environment = {**os.environ, **emulator.environment(), "MODAL_TOKEN_ID": "ak-js", "MODAL_TOKEN_SECRET": "as-js"}
    done = subprocess.run(
        ["node", SCRIPT.name], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.stdout.splitlines()[-20:], done.returncode) == ([], 0), done.stderr[-2000:]
