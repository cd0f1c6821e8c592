"""Conditions as plain data: the command line, a file, and what cannot be."""

from __future__ import annotations

from pathlib import Path

import pytest

from modalflow.emulator import EmulatorConfig
from modalflow.emulator.conditions_data import parse_conditions, parse_settings, plain_conditions
from modalflow.emulator.plain_data import DataError
from modalflow.emulator.state.conditions import Conditions
from tests.emulator.conftest import StartEmulator

ALL = {
    "gpus": {"H100": 8},
    "cpus": 16.0,
    "memory_mb": 65536,
    "max_gpus": 4,
    "max_sandboxes": 100,
    "give_up": {"*": 60.0, "A10": 0.0},
    "unavailable": ["aws", "eu-west"],
    "scheduling_delay": [1.0, 5.0],
    "create_rate_v1": 5.0,
    "create_rate_v2": 20.0,
    "create_burst": 3,
    "retry_after": 0.5,
    "preempt_after": 60.0,
    "preempt_probability": 0.25,
    "preempt_grace": 5.0,
    "seed": 7,
}


def test_every_condition_is_read_and_told() -> None:
    conditions = Conditions(**parse_conditions(ALL))
    assert plain_conditions(conditions) == ALL
    assert plain_conditions(Conditions()) == {}
    assert conditions.unavailable == {"aws", "eu-west"}
    assert conditions.scheduling_delay == (1.0, 5.0)


def test_settings_of_a_command_line() -> None:
    texts = [
        "cpus=16",
        "memory_mb=64GiB",
        "scheduling_delay=[1, 5]",
        "give_up={A10G: 0}",
        "retry_after=null",
        "unavailable=[aws]",
    ]
    assert parse_settings(texts) == {
        "cpus": 16.0,
        "memory_mb": 65536,
        "scheduling_delay": (1.0, 5.0),
        "give_up": {"A10G": 0.0},
        "retry_after": None,
        "unavailable": frozenset({"aws"}),
    }


def test_a_file_of_faults_may_say_the_capacity(start_emulator: StartEmulator, tmp_path: Path) -> None:
    file = tmp_path / "faults.yaml"
    file.write_text("capacity: {cpus: 4, gpus: {a10g: 1}}")
    emulator = start_emulator(faults=file, gpus={"H100": 1}, conditions=Conditions(max_gpus=2))
    assert emulator.capacity.now == Conditions(cpus=4.0, gpus={"A10": 1}, max_gpus=2)
    assert EmulatorConfig(gpus={"H100": 1}).conditions_at_start() == Conditions(gpus={"H100": 1})


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("cpus", "expected NAME=VALUE such as cpus=16, got 'cpus'"),
        ("cpu=1", "capacity.cpu: unknown key; did you mean 'cpus'?"),
        ("cpus=[", "cpus: '[' is not YAML: while parsing a flow node expected the node content, but found '<stream end>'"),
        ("cpus=many", "capacity.cpus: expected a number, got 'many'"),
        ("cpus=.nan", "capacity.cpus: expected a number, got nan"),
        ("cpus=2024-13-45", "cpus: '2024-13-45' is not YAML: month must be in 1..12"),
        ("cpus=-1", "capacity: cpus: expected at least 0, got -1.0"),
        ("memory_mb=64GB", "capacity.memory_mb: expected MiB, or a size such as 64GiB; got '64GB'"),
        ("gpus=8", "capacity.gpus: expected a mapping, got 8"),
        ("gpus={H100: x}", "capacity.gpus.H100: expected a whole number, got 'x'"),
        ("gpus={H1000: 1}", "capacity: gpus: Unknown GPU type 'H1000'; did you mean 'H100'?"),
        ("give_up={H100: soon}", "capacity.give_up.H100: expected a number, got 'soon'"),
        ("unavailable=aws", "capacity.unavailable: expected a list of names, got 'aws'"),
        ("unavailable=[1]", "capacity.unavailable: expected text, got 1"),
        (
            "scheduling_delay=x",
            "capacity.scheduling_delay: expected seconds such as 0.5, or two bounds such as [0.1, 0.5]; got 'x'",
        ),
        ("max_gpus=true", "capacity.max_gpus: expected a whole number, got True"),
    ],
)
def test_what_cannot_be_is_told_by_its_place(entry: str, message: str) -> None:
    with pytest.raises(DataError) as refused:
        parse_settings([entry])
    assert str(refused.value).startswith(message)
