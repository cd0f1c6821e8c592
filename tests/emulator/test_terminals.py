"""Terminals of a main process and of an exec, with each kind of isolation."""

from __future__ import annotations

import pytest

from tests.emulator.conftest import Sandboxes

BOTH = pytest.mark.parametrize("isolated", ["process", "auto"])


@pytest.fixture
def places(request: pytest.FixtureRequest, isolated: str) -> Sandboxes:
    request.node.add_marker(pytest.mark.isolation(isolated))
    sandboxes: Sandboxes = request.getfixturevalue("sandboxes")
    return sandboxes


@BOTH
def test_an_exec_gets_a_terminal_with_size_and_name(places: Sandboxes) -> None:
    sandbox = places.create("cat")
    process = sandbox.exec("sh", "-c", "tty; stty size; echo $TERM; read x; echo got $x >&2; cat; exit 3", pty=True)
    process.stdin.write("hello\n")
    process.stdin.write_eof()
    process.stdin.drain()
    assert process.wait() == 3
    said = process.stdout.read().splitlines()
    assert {"24 80", "hello", "got hello"} < set(said)
    assert any(line.startswith("/dev/pts/") for line in said)
    assert process.stderr.read() == ""
    sandbox.terminate()


@BOTH
def test_what_ends_at_once_loses_no_output(places: Sandboxes) -> None:
    sandbox = places.create("cat")
    for number in range(10):
        process = sandbox.exec("echo", str(number), pty=True)
        assert process.wait() == 0
        assert process.stdout.read() == f"{number}\r\n"
    sandbox.terminate()


@BOTH
def test_it_is_the_controlling_terminal(places: Sandboxes) -> None:
    """Control-C interrupts what runs in the foreground."""
    sandbox = places.create("cat")
    process = sandbox.exec("sh", "-c", "echo ready; exec cat", pty=True)
    assert next(iter(process.stdout)).strip() == "ready"
    process.stdin.write("\x03")
    process.stdin.drain()
    assert process.wait() == 128 + 2
    sandbox.terminate()


@BOTH
def test_a_missing_command_is_127_and_says_so(places: Sandboxes) -> None:
    sandbox = places.create("cat")
    process = sandbox.exec("no-such-command", pty=True)
    assert process.wait() == 127
    assert "no-such-command" in process.stdout.read()
    sandbox.terminate()


@BOTH
def test_the_main_process_gets_one(places: Sandboxes) -> None:
    sandbox = places.shell("tty; cat; exit 4", pty=True)
    sandbox.stdin.write("typed\n")
    sandbox.stdin.write_eof()
    sandbox.stdin.drain()
    sandbox.wait()
    assert sandbox.returncode == 4
    said = sandbox.stdout.read().splitlines()
    assert said.count("typed") == 2
    assert any(line.startswith("/dev/pts/") for line in said)
