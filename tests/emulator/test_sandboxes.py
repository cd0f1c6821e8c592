"""V2 sandboxes: from create to end, through the unmodified client."""

from __future__ import annotations

import asyncio
import io
import json
import os
from pathlib import Path

import modal
import modal.exception
import pytest

from modalflow.emulator import EmulatorThread
from tests.emulator.conftest import Eventually, Sandboxes

SHOW_ENVIRONMENT = "import json, os; print(json.dumps(dict(os.environ)))"


def test_runs_a_command_and_tells_its_output_and_exit_code(sandboxes: Sandboxes) -> None:
    sandbox = sandboxes.shell("echo out; echo err >&2; exit 3")
    sandbox.wait()
    assert (sandbox.returncode, sandbox.stdout.read(), sandbox.stderr.read()) == (3, "out\n", "err\n")


def test_poll_is_none_while_it_runs(sandboxes: Sandboxes) -> None:
    sandbox = sandboxes.create("cat")
    assert sandbox.poll() is None
    sandbox.stdin.write_eof()
    sandbox.stdin.drain()
    sandbox.wait()
    assert sandbox.poll() == 0


def test_a_signal_is_128_plus_its_number(sandboxes: Sandboxes) -> None:
    sandbox = sandboxes.shell("kill -SEGV $$")
    sandbox.wait()
    assert sandbox.returncode == 128 + 11


def test_a_command_that_does_not_exist_is_127_and_says_so(sandboxes: Sandboxes) -> None:
    sandbox = sandboxes.create("no-such-command")
    sandbox.wait()
    said = sandbox.stderr.read()
    assert sandbox.returncode == 127
    assert "no-such-command" in said
    assert said.endswith("No such file or directory\n")


def test_timeout_is_124(sandboxes: Sandboxes) -> None:
    sandbox = sandboxes.create("sleep", "60", timeout=1)
    with pytest.raises(modal.exception.SandboxTimeoutError):
        sandbox.wait()
    assert sandbox.returncode == 124


def test_terminated_is_137_and_a_second_time_is_no_error(sandboxes: Sandboxes) -> None:
    sandbox = sandboxes.create("sleep", "60")
    assert sandbox.terminate(wait=True) == 137
    sandbox.terminate()
    assert sandbox.poll() == 137


def test_terminating_a_finished_sandbox_keeps_its_result(sandboxes: Sandboxes) -> None:
    sandbox = sandboxes.create("true")
    sandbox.wait()
    sandbox.terminate()
    assert modal.Sandbox.from_id(sandbox.object_id, client=sandboxes.client).poll() == 0


@pytest.mark.isolation("process")
def test_termination_ends_every_process_of_the_sandbox_also_a_daemon(sandboxes: Sandboxes, eventually: Eventually) -> None:
    sandbox = sandboxes.shell("setsid sh -c 'echo $$; exec sleep 300' & sleep 300 & echo $!; wait")
    lines = iter(sandbox.stdout)
    pids = [int(next(lines)), int(next(lines))]
    assert all(Path(f"/proc/{pid}").exists() for pid in pids)
    sandbox.terminate(wait=True)
    eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids))


@pytest.mark.isolation("process")
def test_without_a_container_a_memory_limit_holds_for_each_process(sandboxes: Sandboxes) -> None:
    sandbox = sandboxes.create("python", "-c", "x = bytearray(300 << 20)", memory=(32, 128))
    sandbox.wait()
    assert sandbox.returncode == 1
    assert sandbox.stderr.read().endswith("MemoryError\n")


@pytest.mark.isolation("process")
def test_the_end_of_the_main_process_ends_what_it_left_behind(sandboxes: Sandboxes, eventually: Eventually) -> None:
    sandbox = sandboxes.shell("setsid sleep 300 & echo $!")
    sandbox.wait()
    pid = int(sandbox.stdout.read())
    eventually(lambda: not Path(f"/proc/{pid}").exists())


@pytest.mark.isolation("process")
def test_environment_is_empty_but_for_what_is_given(sandboxes: Sandboxes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOST_SECRET", "leak")
    sandbox = sandboxes.create("python", "-c", SHOW_ENVIRONMENT, env={"A": "1"}, region="us-east")
    sandbox.wait()
    env = json.loads(sandbox.stdout.read())
    assert sorted(env) == [
        "A", "HOME", "LANG", "MODAL_CLOUD_PROVIDER", "MODAL_EMULATOR_ROOT", "MODAL_ENVIRONMENT", "MODAL_IMAGE_ID", "MODAL_REGION",
        "MODAL_SANDBOX_ID", "MODAL_TASK_ID", "NODE_EXTRA_CA_CERTS", "PATH", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "TMPDIR",
    ]  # fmt: skip
    assert env["MODAL_SANDBOX_ID"] == sandbox.object_id
    assert env["MODAL_ENVIRONMENT"] == "main"
    assert env["HOME"] == f"{env['MODAL_EMULATOR_ROOT']}/root"


def test_of_two_secrets_the_later_wins_and_env_wins_over_both(sandboxes: Sandboxes) -> None:
    first = modal.Secret.from_dict({"A": "first", "B": "first", "C": "first"})
    second = modal.Secret.from_dict({"B": "second", "C": "second"})
    text = sandboxes.output("sh", "-c", "echo $A $B $C", secrets=[first, second], env={"C": "env"})
    assert text == "first second env\n"


@pytest.mark.isolation("process")
def test_home_and_working_folder_are_its_own_and_gone_afterwards(sandboxes: Sandboxes) -> None:
    text = sandboxes.output("sh", "-c", "pwd; echo x > file; echo $HOME; echo $TMPDIR")
    cwd, home, temporary = map(Path, text.split())
    assert cwd == home
    assert cwd != Path.home()
    assert not cwd.exists()
    assert not temporary.exists()


@pytest.mark.isolation("process")
def test_workdir_is_inside_the_private_root(sandboxes: Sandboxes) -> None:
    text = sandboxes.output("sh", "-c", "pwd; echo $MODAL_EMULATOR_ROOT", workdir="/srv/app")
    cwd, root = text.split()
    assert cwd == f"{root}/srv/app"


@pytest.mark.isolation("process")
def test_of_an_image_env_workdir_and_entrypoint_take_effect(sandboxes: Sandboxes) -> None:
    image = (
        modal.Image.debian_slim("3.11")
        .pip_install("no-such-package")
        .env({"GREETING": "hello world", "PATH": "/opt/tool/bin:$PATH"})
        .workdir("/work")
        .entrypoint(["sh", "-c", 'echo "$GREETING"; echo "$0"; pwd; echo "$PATH"'])
    )
    text = sandboxes.output("argument", image=image)
    greeting, argument, cwd, path = text.splitlines()
    assert (greeting, argument, cwd.rpartition("/")[2]) == ("hello world", "argument", "work")
    assert "/opt/tool/bin" in path.split(":")


SEARCH = """
import glob, os
found = []
for path in glob.glob("/proc/*/cmdline"):
    try:
        text = open(path).read()
    except (FileNotFoundError, ProcessLookupError):  # it ended meanwhile
        continue
    if os.environ["S"] in text:
        found.append(path)
print(found)
"""


def test_argv_is_not_where_a_secret_is(sandboxes: Sandboxes) -> None:
    canary = "canary-" + "in-argv"
    text = sandboxes.output(
        "python", "-c", SEARCH, env={"S": canary},
    )  # fmt: skip
    assert text == "[]\n"


@pytest.mark.isolation("process")
def test_no_other_process_shows_a_sandboxs_environment(sandboxes: Sandboxes, emulator: EmulatorThread) -> None:
    sandbox = sandboxes.shell("echo ready; exec cat", env={"S": "canary-in-environ"})
    assert next(iter(sandbox.stdout)) == "ready\n"
    holders = []
    for folder in Path("/proc").iterdir():
        try:
            if b"canary-in-environ" in (folder / "environ").read_bytes():
                holders.append(folder.name)
        except OSError:
            continue
    sandbox.terminate()
    assert len(holders) == 1
    assert holders != [str(os.getpid())]


def test_stdin_arrives_whole_and_in_order(sandboxes: Sandboxes) -> None:
    payload = "".join(f"{number} ä\n" for number in range(30_000))
    sandbox = sandboxes.create("python", "-c", "import sys; print(len(sys.stdin.buffer.read()))")
    sandbox.stdin.write(payload)
    sandbox.stdin.write_eof()
    sandbox.stdin.drain()
    sandbox.wait()
    assert sandbox.stdout.read() == f"{len(payload.encode())}\n"


def test_stdin_of_an_ended_sandbox_is_refused(sandboxes: Sandboxes) -> None:
    sandbox = sandboxes.create("true")
    sandbox.wait()
    sandbox.stdin.write("late")
    with pytest.raises(ValueError, match="stdin cannot be written"):
        sandbox.stdin.drain()


def test_a_name_is_taken_only_while_its_sandbox_runs(sandboxes: Sandboxes) -> None:
    first = sandboxes.create("cat", name="one")
    with pytest.raises(modal.exception.AlreadyExistsError, match="named 'one' already exists"):
        sandboxes.create("cat", name="one")
    assert modal.Sandbox.from_name("tests", "one", client=sandboxes.client).object_id == first.object_id
    first.terminate(wait=True)
    with pytest.raises(modal.exception.NotFoundError):
        modal.Sandbox.from_name("tests", "one", client=sandboxes.client)
    ended = modal.Sandbox.from_name("tests", "one", include_terminated=True, client=sandboxes.client)
    assert ended.object_id == first.object_id
    assert ended.poll() == 137
    second = sandboxes.create("cat", name="one")
    found = modal.Sandbox.from_name("tests", "one", include_terminated=True, client=sandboxes.client)
    assert found.object_id == second.object_id


def test_list_filters_by_all_tags_and_drops_what_ended(sandboxes: Sandboxes) -> None:
    first = sandboxes.create("cat", tags={"team": "a", "kind": "x"})
    second = sandboxes.create("cat", tags={"team": "a"})
    assert sandboxes.running(team="a") == [second.object_id, first.object_id]
    assert sandboxes.running(team="a", kind="x") == [first.object_id]
    assert sandboxes.running(team="b") == []
    first.terminate(wait=True)
    assert sandboxes.running(team="a") == [second.object_id]


def test_list_pages_over_more_than_one_page(sandboxes: Sandboxes) -> None:
    async def create_many() -> list[str]:
        made = [
            modal.Sandbox.create.aio("cat", app=sandboxes.app, client=sandboxes.client, image=sandboxes.image) for _ in range(120)
        ]
        return [one.object_id for one in await asyncio.gather(*made)]

    sandboxes.output("true")  # the image is loaded once
    made = asyncio.run(create_many())
    listed = sandboxes.running()
    assert len(listed) == 120
    assert set(listed) == set(made)


def test_tags_are_set_at_create_and_replaced_later(sandboxes: Sandboxes) -> None:
    sandbox = sandboxes.create("cat", tags={"a": "1", "b": "2"})
    assert sandbox.get_tags() == {"a": "1", "b": "2"}
    sandbox.set_tags({"c": "3"})
    assert sandbox.get_tags() == {"c": "3"}
    assert sandboxes.running(a="1") == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        pytest.param({"timeout": 86_401}, "Sandbox timeout must be at most 86400 s, got 86401", id="timeout"),
        pytest.param({"tags": {"a b": "c"}}, "Invalid tag 'a b': expected up to 63 of letters", id="tag name"),
        pytest.param({"outbound_cidr_allowlist": ["not-an-ip/8"]}, "Invalid CIDR: not-an-ip/8; expected one such as", id="CIDR"),
        pytest.param({"tags": {"a": "c" * 64}}, "Invalid tag 'a': expected up to 63 of letters", id="tag value"),
    ],
)
def test_what_modal_refuses_is_refused(sandboxes: Sandboxes, options: dict[str, object], message: str) -> None:
    with pytest.raises(modal.exception.InvalidError, match=message):
        sandboxes.create("true", **options)


def test_a_named_secret_or_volume_that_is_missing_is_not_found(sandboxes: Sandboxes) -> None:
    with pytest.raises(modal.exception.NotFoundError, match="Secret 'nobody' not found in environment 'main'"):
        sandboxes.create("true", secrets=[modal.Secret.from_name("nobody")])
    with pytest.raises(modal.exception.NotFoundError, match="Volume 'nothing' not found in environment 'main'"):
        sandboxes.create("true", volumes={"/v": modal.Volume.from_name("nothing")})


def test_a_sandbox_id_of_nobody_is_not_found(sandboxes: Sandboxes) -> None:
    with pytest.raises(modal.exception.NotFoundError, match="Sandbox 'sb-01ARZ3NDEKTSV4RRFFQ69G5FAV' not found"):
        modal.Sandbox.from_id("sb-01ARZ3NDEKTSV4RRFFQ69G5FAV", client=sandboxes.client)


def test_many_at_once_all_end(sandboxes: Sandboxes) -> None:
    async def create_and_wait() -> list[int | None]:
        made = await asyncio.gather(
            *(
                modal.Sandbox.create.aio("true", app=sandboxes.app, client=sandboxes.client, image=sandboxes.image)
                for _ in range(100)
            )
        )
        await asyncio.gather(*(one.wait.aio() for one in made))
        return [one.returncode for one in made]

    assert asyncio.run(create_and_wait()) == [0] * 100


@pytest.mark.parametrize("volume_path", ["/var/lib/docker", "/var/lib/docker/", "/var/lib"])
def test_a_volume_in_the_place_of_dockers_folder_is_shown(sandboxes: Sandboxes, volume_path: str) -> None:
    with modal.Volume.ephemeral(client=sandboxes.client) as volume:
        with volume.batch_upload() as batch:
            batch.put_file(io.BytesIO(b"mine"), "/file")
        found = sandboxes.output("ls", volume_path, volumes={volume_path: volume}, experimental_options={"enable_docker": True})
    assert found == "file\n"
