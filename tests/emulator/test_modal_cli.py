"""The `modal` command of the unmodified package, all its commands in one process of its own (it takes a second to load)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from modalflow.emulator import EmulatorThread

RUN = """
import json, sys
from modal.__main__ import main
for command in json.loads(sys.argv[1]):
    print("===", flush=True)
    sys.argv = ["modal", *command]
    try:
        main()
    except SystemExit as end:
        if end.code:
            raise
"""


def modal_commands(emulator: EmulatorThread, *commands: list[str]) -> list[str]:
    """Run the commands and return what each printed."""
    done = subprocess.run(
        [sys.executable, "-c", RUN, json.dumps(commands)],
        env={**os.environ, **emulator.environment(), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return [part.strip() for part in done.stdout.split("===\n")[1:]]


def test_volumes_apps_and_secrets_from_the_command_line(emulator: EmulatorThread, tmp_path: Path) -> None:
    source, back = tmp_path / "source.txt", tmp_path / "back.txt"
    source.write_text("content")
    *_, files, _, apps, _, secrets = modal_commands(
        emulator,
        ["volume", "create", "--version", "2", "data"],
        ["volume", "put", "data", str(source), "/folder/file.txt"],
        ["volume", "ls", "--json", "data", "/folder"],
        ["volume", "get", "data", "/folder/file.txt", str(back)],
        ["app", "list", "--json"],
        ["secret", "create", "a-secret", "KEY=hidden-value"],
        ["secret", "list", "--json"],
    )
    assert [row["filename"] for row in json.loads(files)] == ["folder/file.txt"]
    assert back.read_text() == "content"
    assert json.loads(apps) == []
    assert "a-secret" in secrets
    assert "hidden-value" not in secrets
