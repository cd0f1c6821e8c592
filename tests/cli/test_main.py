"""The ``modalflow`` command: what it knows, and that it loads nothing it does not need."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version

import pytest

from modalflow.cli.main import main


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"modalflow {version('modalflow')}\n"


@pytest.mark.parametrize("arguments", [[], ["emulator"], ["nonsense"]])
def test_a_missing_or_unknown_command_is_a_usage_error(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "usage: modalflow" in capsys.readouterr().err


def test_nothing_heavy_is_loaded_before_a_command_is_chosen() -> None:
    script = (
        "import sys; from modalflow.cli.main import parser; import modalflow.testing; parser(); "
        "print([m for m in ('airflow', 'modal', 'grpclib', 'aiohttp', 'kubernetes', 'google.protobuf') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
