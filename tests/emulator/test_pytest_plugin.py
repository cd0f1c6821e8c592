"""The pytest plugin, as somebody uses it who has never heard of Airflow: their suites, run by a pytest of their own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from modalflow.emulator.introspection import SandboxRecord
from modalflow.testing.records import failure, matching

Run = subprocess.CompletedProcess[str]

PRELUDE = """
import concurrent.futures
import contextlib
import os
import time
import modal
import pytest

image = modal.Image.debian_slim()


def train(*command, **options):
    app = modal.App.lookup("training", create_if_missing=True)
    return modal.Sandbox.create(*(command or ("true",)), app=app, image=image, **options)


@contextlib.contextmanager
def second_waits(workspace, gpu):
    with concurrent.futures.ThreadPoolExecutor() as pool:
        second = pool.submit(train, gpu=gpu)
        while [one.status for one in workspace.sandboxes] != ["running", "waiting"]:
            assert not second.done(), [one.status for one in workspace.sandboxes]
            time.sleep(0.01)
        yield second
"""


class Suite:
    """A folder of tests that knows nothing of this repository."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\naddopts = --strict-markers -p no:cacheprovider\n")

    def run(self, text: str, *options: str, ini: str = "") -> Run:
        (self.folder / "test_it.py").write_text(PRELUDE + text)
        if ini:
            with (self.folder / "pytest.ini").open("a") as file:
                file.write(f"{ini}\n")
        command = [sys.executable, "-m", "pytest", "-q", "--rootdir", str(self.folder), *options, str(self.folder)]
        return subprocess.run(command, cwd=self.folder, capture_output=True, text=True, timeout=280, check=False)

    def passes(self, text: str, *options: str, count: int, ini: str = "") -> None:
        done = self.run(text, *options, ini=ini)
        assert f"{count} passed" in done.stdout, done.stdout + done.stderr
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def suite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Suite:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    return Suite(tmp_path)


USES = """
def test_what_was_asked_for(modal_workspace):
    box = train("sh", "-c", "echo hello; cat /data/in", gpu="A10G", cpu=2, memory=512, timeout=60, tags={"team": "a"},
                env={"MODE": "x"}, volumes={"/data": modal.Volume.from_name("models", create_if_missing=True, version=2)})
    box.wait()
    one = modal_workspace.assert_sandbox_created(
        gpu="A10", cpu=2, memory=512, timeout=60, tags={"team": "a"}, env="MODE", volumes={"/data": "models"}, app="training",
        argv=["sh", "-c", "echo hello; cat /data/in"], times=1,
    )
    assert (one.status, one.stdout, one.exit_code) == ("failure", "hello\\n", 1)
    [request] = modal_workspace.requests("SandboxCreate")
    assert request.definition.resources.gpu_config.gpu_type == "A10G"


def test_the_next_test_finds_nothing_of_it(modal_workspace):
    assert modal_workspace.sandboxes == []
    assert modal_workspace.requests("SandboxCreate") == []
    with pytest.raises(modal.exception.NotFoundError):
        modal.App.lookup("training")


def test_a_volume_is_written_and_read(modal_workspace):
    volume = modal_workspace.volume("models")
    volume.write("in/a.txt", "content")
    box = train("sh", "-c", "cp $DATA/in/a.txt $DATA/out.txt", env={"DATA": "/data"},
                volumes={"/data": modal.Volume.from_name("models")})
    box.wait()
    assert volume.read("out.txt") == b"content"
    assert volume.files() == ["in/a.txt", "out.txt"]
    with pytest.raises(FileNotFoundError):
        volume.read("none")


def test_secrets_dicts_and_queues(modal_workspace):
    modal_workspace.secret("key", {"TOKEN": "1"})
    modal_workspace.secret("key", {"TOKEN": "2"})
    assert modal_workspace.secrets == {"key": {"TOKEN": "2"}}
    box = train("sh", "-c", "test $TOKEN = 2", secrets=[modal.Secret.from_name("key")])
    box.wait()
    assert box.returncode == 0
    modal_workspace.dict("d")["a"] = 1
    assert modal.Dict.from_name("d")["a"] == 1
    modal_workspace.queue("q").put(1)
    assert modal.Queue.from_name("q").get() == 1


def test_a_failing_create(modal_workspace):
    rule = modal_workspace.faults.add("SandboxCreate*", status="PERMISSION_DENIED", message="no such luck")
    with pytest.raises(Exception, match="no such luck"):
        train()
    train().wait()
    assert rule.hits == 1


@pytest.mark.modal_gpus("A10G=1")
@pytest.mark.modal_fault("AppGetOrCreate", status="UNAVAILABLE", times=1)
def test_marks(modal_workspace):
    first = train("sleep", "600", gpu="A10G")
    with second_waits(modal_workspace, "A10G") as second:
        first.terminate()
        second.result().wait()
    assert [one.status for one in modal_workspace.sandboxes] == ["terminated", "success"]


def test_an_explicit_client(modal_workspace):
    app = modal.App.lookup("mine", create_if_missing=True, client=modal_workspace.client)
    assert app.app_id


def test_what_is_left_running_is_ended(modal_workspace):
    train("sleep", "600")


def test_in_async_code(modal_workspace):
    import asyncio

    async def main():
        app = await modal.App.lookup.aio("training", create_if_missing=True)
        box = await modal.Sandbox.create.aio("echo", "hello", app=app, image=image)
        return await box.stdout.read.aio()

    assert asyncio.run(main()) == "hello\\n"


def test_in_a_subprocess(modal_workspace):
    import subprocess, sys

    code = "import modal; modal.App.lookup('sub', create_if_missing=True)"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert modal.App.lookup("sub").app_id
"""


def test_somebodys_suite_in_two_processes(suite: Suite) -> None:
    suite.passes(USES, "-n", "2", "--modal-isolation", "process", "--modal-gpus", "A10G=8", count=10)


def test_options_of_the_ini_file_and_of_the_command_line(suite: Suite) -> None:
    text = """
def test_stock(modal_workspace):
    first = train("sleep", "600", gpu="H100")
    with second_waits(modal_workspace, "H100"):
        first.terminate()


def test_isolation(modal_emulator):
    assert modal_emulator.isolation.name == "process"
"""
    ini = "modal_gpus = H100=1\nmodal_isolation = container"
    suite.passes(text, "--modal-isolation", "process", count=2, ini=ini)


def test_a_failed_assertion_shows_the_nearest(suite: Suite) -> None:
    done = suite.run(
        """
def test_it(modal_workspace):
    train(gpu="A10G", tags={"team": "a"}).wait()
    train("echo").wait()
    modal_workspace.assert_sandbox_created(gpu="H100", tags={"team": "a"})
""",
        "--modal-isolation",
        "process",
    )
    assert done.returncode == 1
    assert "expected at least one sandbox created with gpu='H100', tags={'team': 'a'}; found 0 of 2" in done.stdout
    assert "gpu is 'A10G:1', not 'H100'" in done.stdout
    assert "gpu is None, not 'H100'; tags is {}, not {'team': 'a'}" in done.stdout


def test_the_plugin_loads_nothing_heavy_and_needs_no_airflow() -> None:
    heavy = {"modal", "modal_proto", "grpclib", "airflow", "aiohttp", "google"}
    code = (
        f"import sys, modalflow.testing; assert not {{name.partition('.')[0] for name in sys.modules}} & {heavy}; "
        "sys.modules['airflow'] = None; sys.modules['kubernetes'] = None; "
        "import modalflow.testing.workspace, modalflow.testing.client_state, modalflow.emulator.server, modalflow.emulator.thread"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# -- looking for a record


def record(**what: object) -> SandboxRecord:
    plain: dict[str, object] = {
        "sandbox_id": "sb-1", "name": "", "backend": "V2", "gpu": None, "milli_cpu": 0, "milli_cpu_max": 0, "memory_mb": 0,
        "memory_mb_max": 0, "image": "python:3.11-slim", "timeout": 300, "tags": {}, "created_at": 0.0, "ended": False,
    }  # fmt: skip
    return SandboxRecord(**{**plain, **what})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("has", "wanted", "found"),
    [
        ({"gpu": "A10:1"}, {"gpu": "A10G"}, True),
        ({"gpu": "H100:2"}, {"gpu": "H100"}, False),
        ({"gpu": "H100:2"}, {"gpu": "H100:2"}, True),
        ({"gpu": "H100:2"}, {"gpu": None}, False),
        ({}, {"gpu": None}, True),
        ({"milli_cpu": 500}, {"cpu": 0.5}, True),
        ({}, {"image": "python:3.11"}, True),
        ({"env_names": ("A", "B")}, {"env": ["A"]}, True),
        ({"env_names": ("A", "B")}, {"env": ["A", "C"]}, False),
        ({"tags": {"a": "1", "b": "2"}}, {"tags": {"b": "2"}}, True),
        ({"volumes": {"/d": "v"}}, {"volumes": {"/d": "w"}}, False),
        ({"argv": ("a", "b")}, {"argv": ["a", "b"]}, True),
        ({"regions": ("us", "eu")}, {"region": "eu"}, True),
        ({"workdir": "/w", "status": "success", "exit_code": 0}, {"workdir": "/w", "status": "success", "exit_code": 0}, True),
    ],
)
def test_what_matches(has: dict[str, object], wanted: dict[str, object], found: bool) -> None:
    assert bool(matching([record(**has)], wanted)) is found


def test_a_misspelt_wish_is_no_match_but_an_error() -> None:
    with pytest.raises(TypeError, match="sandboxes have no 'gpus'; did you mean 'gpu'"):
        matching([], {"gpus": "A10G"})


def test_the_failure_counts() -> None:
    assert failure([record()], {"gpu": None}, 1, 2) == "expected 2 sandboxes created with gpu=None; found 1 of 1"
    assert failure([], {}, 0, None) == "expected at least one sandbox created with anything; found 0 of 0"
