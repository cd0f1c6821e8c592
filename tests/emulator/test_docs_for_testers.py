"""The page for people who test their Modal code: every file in it is written out, and its tests are run."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "test-your-modal-code.md"
_FILE = re.compile(r"^```python file=(\S+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def test_every_python_block_of_the_page_is_a_file_that_passes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = PAGE.read_text()
    files = dict(_FILE.findall(text))
    assert len(files) == text.count("```python")
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    (tmp_path / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\naddopts = --strict-markers -p no:cacheprovider\n")
    monkeypatch.setenv("PYTHONPATH", f"{Path(__file__).parents[2]}:{tmp_path}")
    command = [sys.executable, "-m", "pytest", "-q", "--rootdir", str(tmp_path), "--modal-isolation", "process", str(tmp_path)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    tests = sum(content.count("\ndef test_") for content in files.values())
    assert f"{tests} passed" in done.stdout
