"""The emulator of a chaos run: started as users start it, killed with SIGKILL, started again on the same port and state.

Flows in: a folder, the Python that plays the image. Flows out: the environment of Modal's client, and commands to the control
endpoint, whose address changes with each start.
"""

from __future__ import annotations

import json
import os
import secrets
import shlex
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

from modalflow.emulator.control import VARIABLE

START_SECONDS = 60.0
CALL_SECONDS = 20.0


class EmulatorSide:
    """One emulator over all of its lives."""

    def __init__(self, folder: Path, port: int, python: Path, gpus: dict[str, int]) -> None:
        self._folder = folder
        self._port = port
        self._python = python
        self._gpus = gpus
        token = {"MODALFLOW_EMULATOR_TOKEN_ID": "ak-chaos", "MODALFLOW_EMULATOR_TOKEN_SECRET": f"as-{secrets.token_hex(8)}"}
        self._environ = {**os.environ, **token}
        self._process: subprocess.Popen[bytes] | None = None
        self.environment: dict[str, str] = {}

    def start(self) -> None:
        """Start it and wait until it serves; sets ``environment``."""
        env_file = self._folder / "emulator.env"
        env_file.unlink(missing_ok=True)
        command = [sys.executable, "-m", "modalflow.cli.main", "emulator", "start", "--port", str(self._port)]
        command += ["--python", str(self._python), "--isolation", "process", "--network", "host", "--image-builds", "record"]
        command += ["--gpus", ",".join(f"{name}={count}" for name, count in self._gpus.items())]
        command += ["--state-dir", str(self._folder / "emulator-state"), "--env-file", str(env_file)]
        with (self._folder / "emulator.log").open("ab") as log:
            self._process = subprocess.Popen(
                command,
                env=self._environ,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + START_SECONDS
        while not (env_file.exists() and env_file.read_text().endswith("\n")):
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the emulator did not start; see {self._folder / 'emulator.log'}")
            time.sleep(0.05)
        exports = (line.removeprefix("export ").partition("=") for line in env_file.read_text().splitlines() if "=" in line)
        self.environment = {name: shlex.split(value)[0] for name, _, value in exports}

    def kill(self) -> None:
        """SIGKILL; nothing is saved."""
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)
        self._process.wait(30)

    def stop(self) -> None:
        """End it in order, if it lives."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(30)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait(10)

    @property
    def pid(self) -> int:
        """Of the life under way."""
        assert self._process is not None
        return self._process.pid

    def ask(self, method: str, path: str, body: object = None) -> Any:
        """One command to the control endpoint. ``LookupError`` if it refuses, ``OSError`` if it is down."""
        address = urllib.parse.urlsplit(self.environment[VARIABLE])
        headers = {"Authorization": f"Bearer {address.username}", "Content-Type": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"http://{address.hostname}:{address.port}{path}", data, headers, method=method)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=CALL_SECONDS) as response:
                return json.load(response)
        except urllib.error.HTTPError as error:
            raise LookupError(f"{method} {path}: {error.code} {error.read().decode()[:300]}") from error

    def running(self) -> list[str]:
        """Ids of the sandboxes that run now."""
        status = self.ask("GET", "/status")
        return [one for workspace in status["workspaces"].values() for one in workspace["running"]]

    def alive(self) -> int:
        """Sandboxes that have not ended, those that wait for a GPU too."""
        return int(self.ask("GET", "/status")["sandboxes"]["alive"])
