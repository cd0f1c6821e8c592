"""What Airflow's own tools make of the provider description."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import airflow
import jsonschema
import pytest

from modalflow.option_table import OPTIONS
from modalflow.provider.get_provider_info import get_provider_info


def test_it_is_valid_by_airflow_s_schema() -> None:
    schema = json.loads((Path(airflow.__file__).parent / "provider_info.schema.json").read_text())
    jsonschema.validate(get_provider_info(), schema)


def airflow_says(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "airflow", *arguments], capture_output=True, text=True, env=os.environ, check=True
    )
    return done.stdout


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("config", "list", "--section", "modal_executor", "--show-values"), "gpu_wait = 480"),
        (("config", "get-value", "modal_executor", "memory"), "512"),
        (("providers", "executors"), "modalflow.executor.ModalExecutor"),
    ],
)
def test_airflow_s_commands_know_it(arguments: tuple[str, ...], expected: str) -> None:
    assert expected in airflow_says(*arguments)


def test_every_option_is_there_with_a_text_default() -> None:
    config = get_provider_info()["config"]
    assert isinstance(config, dict)
    options = config["modal_executor"]["options"]
    assert list(options) == [option.name for option in OPTIONS]
    assert all(isinstance(described["default"], str) for described in options.values())


def test_asking_for_it_imports_nothing_heavy() -> None:
    code = (
        "import sys; from modalflow.provider.get_provider_info import get_provider_info; get_provider_info()\n"
        "print([m for m in ('airflow', 'modal', 'kubernetes', 'grpclib', 'yaml', 'asyncio') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
