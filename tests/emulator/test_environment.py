"""Path rewriting and image settings, as pure functions."""

from __future__ import annotations

from pathlib import Path

import pytest

from modalflow.emulator.machines.environment import PathRewriter, Toolbox, command_of
from modalflow.emulator.state.dockerfile import parse
from modalflow.emulator.state.image_layers import ImageSettings, Scope

ROOT = Path("/root-of-1")


@pytest.mark.parametrize(
    ("text", "rewritten"),
    [
        ("/mnt/data", "/root-of-1/mnt/data"),
        ("/mnt/data/", "/root-of-1/mnt/data/"),
        ("/mnt/data/x/y.txt", "/root-of-1/mnt/data/x/y.txt"),
        ("--dir=/mnt/data", "--dir=/root-of-1/mnt/data"),
        ('{"path": "/mnt/data/x"}', '{"path": "/root-of-1/mnt/data/x"}'),
        ("/mnt/data:/mnt/data/lib", "/root-of-1/mnt/data:/root-of-1/mnt/data/lib"),
        ("file:///mnt/data/x", "file:///root-of-1/mnt/data/x"),
        ("/mnt/database", "/mnt/database"),
        ("/mnt/data-2", "/mnt/data-2"),
        ("/mnt/data.old", "/mnt/data.old"),
        ("/other/mnt/data", "/other/mnt/data"),
        ("s3://bucket/mnt/data", "s3://bucket/mnt/data"),
        ("mnt/data", "mnt/data"),
        ("/mnt", "/root-of-1/mnt"),
    ],
)
def test_a_mount_path_is_rewritten_as_a_whole_prefix(text: str, rewritten: str) -> None:
    assert PathRewriter(ROOT, ["/mnt", "/mnt/data"]).text(text) == rewritten or text.startswith("/mnt/data")
    assert PathRewriter(ROOT, ["/mnt/data/"]).text(text) == (rewritten if text != "/mnt" else text)


def test_of_two_nested_mounts_the_text_is_rewritten_once() -> None:
    assert PathRewriter(ROOT, ["/mnt", "/mnt/data"]).text("/mnt/data/x") == "/root-of-1/mnt/data/x"


def test_program_text_is_left_alone() -> None:
    argv = ["python", "-c", "open('/m/x')", "/m/x", "-c", "/m"]
    assert PathRewriter(ROOT, ["/m"]).argv(argv) == ["python", "-c", "open('/m/x')", "/root-of-1/m/x", "-c", "/m"]


def test_no_mount_no_change() -> None:
    assert PathRewriter(ROOT, []).text("/mnt/data") == "/mnt/data"


@pytest.mark.parametrize("path", ["/a/../../etc", "../etc", "/etc"])
def test_a_folder_cannot_leave_the_root(path: str) -> None:
    assert PathRewriter(ROOT, []).folder(path) == ROOT / "etc"


def test_the_toolbox_comes_first_unless_it_is_there() -> None:
    toolbox = Toolbox(folders=(Path("/tools"), Path("/env/bin")))
    assert toolbox.complete("/opt:/env/bin") == "/tools:/opt:/env/bin"


@pytest.mark.parametrize(
    ("commands", "expected"),
    [
        pytest.param(["FROM x", "RUN pip install y", "COPY a b"], ImageSettings(), id="recorded only"),
        pytest.param(["ENV A=1 B='two words'"], ImageSettings(env={"A": "1", "B": "two words"}), id="env"),
        pytest.param(["ENV A old form"], ImageSettings(env={"A": "old form"}), id="env without ="),
        pytest.param(["ENV A=1", "ENV A=2", "ENV B=${A}x$A"], ImageSettings(env={"A": "2", "B": "2x2"}), id="later wins"),
        pytest.param(["ENV PATH=/venv/bin:$PATH"], ImageSettings(env={"PATH": "/venv/bin:/base"}), id="path"),
        pytest.param([r"ENV A=\$HOME"], ImageSettings(env={"A": "$HOME"}), id="a backslash keeps it"),
        pytest.param(["WORKDIR /a", "WORKDIR b"], ImageSettings(workdir="/a/b"), id="workdir"),
        pytest.param(['ENTRYPOINT ["a"]', 'ENTRYPOINT ["b", "c"]'], ImageSettings(entrypoint=("b", "c")), id="entrypoint"),
        pytest.param(['ENTRYPOINT ["a"]', "ENTRYPOINT []"], ImageSettings(), id="entrypoint cleared"),
        pytest.param(['CMD ["a"]', 'ENTRYPOINT ["b"]'], ImageSettings(entrypoint=("b",)), id="entrypoint drops cmd"),
        pytest.param(["CMD run it"], ImageSettings(command=("/bin/sh", "-c", "run it")), id="shell form"),
    ],
)
def test_what_of_a_dockerfile_takes_effect(commands: list[str], expected: ImageSettings) -> None:
    scope = Scope(settings=ImageSettings(), base_path="/base")
    for instruction in parse(commands):
        scope = scope.after(instruction)
    assert scope.settings == expected


def test_the_command_is_entrypoint_and_arguments_else_cmd_else_sleep() -> None:
    image = ImageSettings(entrypoint=("e",), command=("c",))
    assert command_of(image, ["a"]) == ["e", "a"]
    assert command_of(image, []) == ["e", "c"]
    assert command_of(ImageSettings(), []) == ["sleep", "172800"]
