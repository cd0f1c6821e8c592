"""The `modal` command of the unmodified package, in processes of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import modal

from modalflow.emulator import EmulatorThread


def modal_command(emulator: EmulatorThread, *arguments: str) -> str:
    environment = {**os.environ, **emulator.environment(), "COLUMNS": "200"}
    done = subprocess.run(
        [sys.executable, "-m", "modal", *arguments], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_volumes_from_the_command_line(emulator: EmulatorThread, tmp_path: Path) -> None:
    source = tmp_path / "source.txt"
    source.write_text("content")
    modal_command(emulator, "volume", "create", "--version", "2", "data")
    modal_command(emulator, "volume", "put", "data", str(source), "/folder/file.txt")
    assert [row["filename"] for row in json.loads(modal_command(emulator, "volume", "ls", "--json", "data", "/folder"))] == [
        "folder/file.txt"
    ]
    modal_command(emulator, "volume", "get", "data", "/folder/file.txt", str(tmp_path / "back.txt"))
    assert (tmp_path / "back.txt").read_text() == "content"


def test_apps_and_secrets_from_the_command_line(emulator: EmulatorThread, client: modal.Client) -> None:
    modal.App.lookup("an-app", create_if_missing=True, client=client)
    assert "an-app" in modal_command(emulator, "app", "list", "--json")
    modal_command(emulator, "secret", "create", "a-secret", "KEY=value")
    listed = modal_command(emulator, "secret", "list", "--json")
    assert "a-secret" in listed
    assert "value" not in listed
