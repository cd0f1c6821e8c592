"""``modalflow emulator start`` and ``run``, as processes."""

from __future__ import annotations

import os
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from modalflow.cli.main import main

COMMAND = [sys.executable, "-m", "modalflow.cli.main", "emulator"]


@contextmanager
def started(*arguments: str, environment: dict[str, str] | None = None) -> Iterator[tuple[subprocess.Popen[str], dict[str, str]]]:
    """An emulator, and the variables that it printed."""
    process = subprocess.Popen(
        [*COMMAND, "start", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **(environment or {})},
    )
    with process:
        try:
            assert process.stdout is not None
            lines = [process.stdout.readline() for _ in range(9)]
            yield process, exported("".join(lines))
        finally:
            process.kill()


def exported(text: str) -> dict[str, str]:
    words = [shlex.split(line) for line in text.splitlines()]
    assert {line[0] for line in words} == {"export"}
    return dict(line[1].split("=", 1) for line in words)


def test_start_prints_what_to_export_and_stops_on_a_signal(tmp_path: Path) -> None:
    with started("--isolation", "process", "--gpus", "A10G=2,H100=8", "--env-file", str(tmp_path / "env")) as (
        process,
        variables,
    ):
        assert sorted(variables) == [
            "MODALFLOW_EMULATOR_CONTROL", "MODAL_CONFIG_PATH", "MODAL_EMULATOR_CA_BUNDLE", "MODAL_SERVER_URL", "MODAL_TOKEN_ID",
            "MODAL_TOKEN_SECRET", "NODE_EXTRA_CA_CERTS", "NO_PROXY", "no_proxy",
        ]  # fmt: skip
        assert exported((tmp_path / "env").read_text()) == variables
        assert oct((tmp_path / "env").stat().st_mode & 0o777) == "0o600"
        process.send_signal(signal.SIGINT)
        _, notes = process.communicate(timeout=20)
        assert process.returncode == 0
    assert notes == (
        f"Modal emulator at {variables['MODAL_SERVER_URL']}\n"
        "GPUs: A10G=2,H100=8\n"
        "State: temporary, removed at the end\n"
        "Isolation: each sandbox is a process group with an empty environment and its own HOME, TMPDIR, working folder and "
        "Volume copies; it shares this machine's file system, network, users and resources, and is killed with the emulator\n"
        "Network: sandboxes share this machine's network, its localhost and each other's ports; network rules are not enforced\n"
        "Ctrl-C stops it.\n"
    )
    assert not Path(variables["MODAL_CONFIG_PATH"]).parent.exists()


def test_the_credentials_come_from_the_environment_and_are_in_no_argv() -> None:
    secret = "as-" + "from-the-environment"
    given = {"MODALFLOW_EMULATOR_TOKEN_ID": "ak-given", "MODALFLOW_EMULATOR_TOKEN_SECRET": secret}
    with started(environment=given) as (process, variables):
        assert (variables["MODAL_TOKEN_ID"], variables["MODAL_TOKEN_SECRET"]) == ("ak-given", secret)
        for folder in Path("/proc").iterdir():
            if folder.name.isdigit():
                try:
                    assert secret.encode() not in (folder / "cmdline").read_bytes()
                except FileNotFoundError:
                    continue
        process.terminate()
        process.communicate(timeout=20)
        assert process.returncode == 0


def test_run_gives_a_command_the_environment_and_returns_its_exit_code(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KEPT", "kept")
    script = (
        "import os, sys, modal; app = modal.App.lookup('a', create_if_missing=True); "
        "sandbox = modal.Sandbox.create('echo', os.environ['KEPT'], app=app, image=modal.Image.debian_slim('3.11')); "
        "print(sandbox.stdout.read(), end=''); sys.exit(7)"
    )
    assert main(["emulator", "run", "--latency", "1", "--", sys.executable, "-c", script]) == 7
    assert capfd.readouterr().out == "kept\n"


def test_run_reports_a_signal_as_a_shell_does() -> None:
    assert main(["emulator", "run", "--", "sh", "-c", "kill -TERM $$"]) == 128 + 15


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        pytest.param(["run"], 2, "no command; write: modalflow emulator run -- COMMAND", id="no command"),
        pytest.param(["run", "--", "/no/such"], 1, "[Errno 2] No such file or directory: '/no/such'", id="no such command"),
        pytest.param(["start", "--gpus", "A10"], 2, "gpus: expected TYPE=COUNT such as A10G=2,H100=8; got 'A10'", id="gpus"),
        pytest.param(
            ["start", "--state-dir", "/dev/null"],
            1,
            "state_dir: '/dev/null' is no folder and none can be made there: File exists; use another",
            id="state dir",
        ),
        pytest.param(
            ["start", "--any-token", "--host", "0.0.0.0", "--allow-remote"],
            2,
            "any_token: refused on '0.0.0.0'; it accepts everybody and is for 127.0.0.1 only",
            id="any token",
        ),
    ],
)
def test_what_cannot_be_done_is_said(arguments: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["emulator", *arguments]) == code
    assert capsys.readouterr().err == f"modalflow emulator: {message}\n"


def test_a_taken_port_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["emulator", "start", "--port", str(port)]) == 1
    assert f"('127.0.0.1', {port})" in capsys.readouterr().err


def test_print_url_is_one_line_and_then_it_serves() -> None:
    process = subprocess.Popen(
        [*COMMAND, "start", "--print-url", "--any-token"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout is not None
        url = process.stdout.readline().rstrip("\n")
        with socket.create_connection(("127.0.0.1", int(url.removeprefix("http://127.0.0.1:")))):
            assert process.poll() is None
        process.terminate()
        rest, _ = process.communicate(timeout=20)
    assert (rest, process.returncode) == ("", 0)


def test_print_url_without_a_token_that_anybody_knows_is_refused(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MODALFLOW_EMULATOR_TOKEN_ID", raising=False)
    assert main(["emulator", "start", "--print-url"]) == 2
    assert capsys.readouterr().err == (
        "modalflow emulator: --print-url: nobody would know the token; add --any-token or --env-file FILE, "
        "or set MODALFLOW_EMULATOR_TOKEN_ID\n"
    )
