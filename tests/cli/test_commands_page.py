"""The page of the commands shows what they print."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

from modalflow.provider.command_table import COMMANDS

DOCS = Path(__file__).parents[2] / "docs"


def test_the_outputs_are_those_of_now(tmp_path: Path) -> None:
    """Renew it by ``python -m modalflow.cli.console_blocks docs/commands.md``."""
    shutil.copytree(DOCS / "examples", tmp_path / "examples")
    page = tmp_path / "commands.md"
    shipped = (DOCS / "commands.md").read_text(encoding="utf-8")
    page.write_text(shipped, encoding="utf-8")
    subprocess.run([sys.executable, "-m", "modalflow.cli.console_blocks", str(page)], check=True)
    assert page.read_text(encoding="utf-8") == shipped


def test_every_command_is_named() -> None:
    page = (DOCS / "commands.md").read_text(encoding="utf-8")
    named = set(re.findall(r"^\| \[?`(\w+)", page, re.MULTILINE))
    assert named == set(COMMANDS)
