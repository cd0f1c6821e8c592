"""Tables keep paths whole at every width, and readers that leave early are no traceback."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console
from rich.text import Text

from modalflow.cli.tables import print_table

PATH = 'spec.nodeSelector["cloud.google.com/gke-accelerator"]'
ROWS = [
    (Text("gpu"), Text("L4"), Text(f"{PATH} (pod.yaml:8)")),
    (Text("timeout"), Text("86400 s over all the tries of it"), Text("[modal_executor] timeout\nand more")),
    (Text("region"), Text("us-east"), Text("")),
]


def printed(width: int) -> str:
    out = io.StringIO()
    print_table(Console(file=out, width=width, highlight=False), ("field", "value", "decided by"), ROWS)
    return out.getvalue()


@pytest.mark.parametrize("width", [20, 60, 74, 75, 80, 81, 100, 300])
def test_no_word_is_broken(width: int) -> None:
    words = [word for row in ROWS for cell in row for word in cell.plain.split()]
    assert [word for word in words if word not in printed(width)] == []


@pytest.mark.parametrize("width", [80, 81, 100, 300])
def test_a_table_is_no_wider_than_its_console(width: int) -> None:
    assert "┏" in printed(width)
    assert max(map(len, printed(width).splitlines())) <= width


def test_records_where_there_is_no_room() -> None:
    assert printed(60) == (
        f"gpu: L4\n  decided by: {PATH} (pod.yaml:8)\n"
        "timeout: 86400 s over all the tries of it\n  decided by: [modal_executor] timeout\n              and more\n"
        "region: us-east\n"
    )


def modalflow(*arguments: str, stdout: int) -> tuple[int, str]:
    command = [sys.executable, "-m", "modalflow.cli.main", *arguments]
    done = subprocess.run(command, stdout=stdout, stderr=subprocess.PIPE, text=True, check=False)
    return done.returncode, done.stderr


@pytest.mark.parametrize("command", ["fields --json", "schema"])
def test_a_reader_that_has_left(command: str) -> None:
    read, write = os.pipe()
    os.close(read)
    try:
        assert modalflow(*command.split(), stdout=write) == (141, "")
    finally:
        os.close(write)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_disk_that_is_full() -> None:
    with Path("/dev/full").open("w") as full:
        assert modalflow("schema", stdout=full.fileno()) == (1, "the output cannot be written: No space left on device\n")
