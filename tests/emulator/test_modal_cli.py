"""The `modal` command of the unmodified package: each test runs its commands in one process (it takes a second to load)."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click
import modal
import pytest
from modal.cli.entry_point import entrypoint_cli

from modalflow.emulator import EmulatorThread
from tests.emulator.conftest import Eventually

DOCUMENTED = Path(__file__).parents[2] / "docs" / "emulator" / "modal-cli.md"

RUN = """
import json, sys
from modal.__main__ import main
for command in json.loads(sys.argv[1]):
    sys.argv = ["modal", *command]
    code = 0
    try:
        main()
    except SystemExit as end:
        code = end.code or 0
    sys.stdout.flush(); sys.stderr.flush()
    print(f"=== {code}", flush=True)
"""

APP = """
import modal
app = modal.App("script")
@app.local_entrypoint()
def main(word: str = "x"):
    sandbox = modal.Sandbox.create("echo", "from the sandbox:", word, app=app, image=modal.Image.debian_slim("3.11"))
    sandbox.wait()
    print("the entrypoint read:", sandbox.stdout.read())
"""


@dataclass(frozen=True)
class Done:
    """What one command printed, on both streams, and its exit code (or what ``sys.exit`` was given)."""

    text: str
    code: str

    @property
    def data(self) -> object:
        return json.loads(self.text)


class Cli:
    """Runs `modal` against the emulator, in a folder of its own."""

    def __init__(self, emulator: EmulatorThread, folder: Path) -> None:
        self._emulator = emulator
        self.folder = folder

    def __call__(self, *commands: str) -> list[Done]:
        """Run the commands, words apart by spaces (``_`` stands for a space within a word); return what each printed."""
        words = [[word.replace("_", " ") for word in command.split()] for command in commands]
        # The token is the test's own: ``workspace_client`` put it into the environment.
        environment = {**self._emulator.environment(), **os.environ, "COLUMNS": "200", "NO_COLOR": "1"}
        done = subprocess.run(
            [sys.executable, "-u", "-c", RUN, json.dumps(words)],
            env=environment,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout
        parts = re.split(r"^=== (.*)$", done.stdout, flags=re.MULTILINE)
        return [Done(text.strip(), code) for text, code in zip(parts[::2], parts[1::2], strict=False)]


@pytest.fixture
def cli(shared_emulator: EmulatorThread, workspace_client: modal.Client, tmp_path: Path) -> Cli:
    return Cli(shared_emulator, tmp_path)


def commands_of(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[str]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if command is None or command.hidden:
            continue
        if isinstance(command, click.Group) and command.list_commands(click.Context(command)):
            yield from commands_of(command, (*path, name))
        else:
            yield " ".join((*path, name))


def test_the_page_names_every_command_of_the_installed_package_once() -> None:
    rows = [line for line in DOCUMENTED.read_text().splitlines() if line.startswith("| `")]
    named = [name for row in rows for name in re.findall(r"`([^`]+)`", row.split("|")[1])]
    assert sorted(named) == sorted(commands_of(entrypoint_cli))
    assert {row.split("|")[2].strip() for row in rows} == {"works", "partly", "refused", "local"}


@pytest.mark.parametrize("version", [1, 2])
def test_volumes(cli: Cli, version: int) -> None:
    (cli.folder / "file.txt").write_text("content\n")
    (cli.folder / "folder" / "in").mkdir(parents=True)
    (cli.folder / "folder" / "in" / "ünï.txt").write_text("u")
    (cli.folder / "folder" / "empty").touch()
    (cli.folder / "out").mkdir()
    _, put, again, forced, _, listed, below, _, copied, piped, got, no_folder, _, gone, _, taken, volumes, _, deleted = cli(
        f"volume create --version {version} data",
        "volume put data file.txt /",
        "volume put data file.txt /",
        "volume put --force data file.txt /file.txt",
        "volume put data folder /",
        "volume ls --json data",
        "volume ls data folder/in",
        "volume cp data file.txt copy.txt",
        "volume get data copy.txt -",
        "volume get data /file.txt -",
        "volume get data folder out",
        "volume rm data folder",
        "volume rm -r data folder",
        "volume ls data folder",
        "volume create other",
        "volume rename --yes data other",
        "volume list --json",
        "volume delete --yes data",
        "volume delete --yes data",
    )
    assert (put.code, again.code, forced.code) == ("0", "2", "0")
    assert "/file.txt: already exists; upload with force=True to overwrite" in again.text
    rows = listed.data
    assert isinstance(rows, list)
    assert [(row["filename"], row["type"], row["size"]) for row in rows] == [("file.txt", "file", 8), ("folder", "dir", 0)]
    assert below.text == "folder/in/ünï.txt"
    assert (copied.text.splitlines()[0], piped.text.splitlines()[0]) == ("content", "content")
    assert got.code == "0"
    back = sorted(path.relative_to(cli.folder).as_posix() for path in (cli.folder / "out").rglob("*") if path.is_file())
    assert back == ["out/folder/empty", "out/folder/in/ünï.txt"]
    assert (no_folder.code, "remove it with recursive=True" in no_folder.text) == ("1", True)
    assert (gone.code, "No such file or directory: 'folder'" in gone.text) == ("1", True)
    assert (taken.code, "Volume 'other' already exists" in taken.text) == ("1", True)
    assert [row["name"] for row in volumes.data] == ["other", "data"]  # type: ignore[attr-defined]
    assert (deleted.code, "Volume 'data' not found" in deleted.text) == ("1", True)


def test_secrets_dicts_and_queues(cli: Cli, workspace_client: modal.Client) -> None:
    a_dict = modal.Dict.from_name("a-dict", create_if_missing=True, client=workspace_client)
    a_dict["key"] = "value"
    queue = modal.Queue.from_name("a-queue", create_if_missing=True, client=workspace_client)
    queue.put_many(["first", "second"])
    queue.put("third", partition="p")
    made, again, forced, secrets, _, no_secrets, value, items, _, dicts, queues, length, total, peeked, *_, emptied = cli(
        "secret create a-secret KEY=hidden-value",
        "secret create a-secret KEY=hidden-value",
        "secret create --force a-secret KEY=other-hidden",
        "secret list --json",
        "secret delete --yes a-secret",
        "secret list --json",
        "dict get a-dict key",
        "dict items --json a-dict",
        "dict clear --yes a-dict",
        "dict list --json",
        "queue list --json",
        "queue len a-queue",
        "queue len --total a-queue",
        "queue peek a-queue 2",
        "queue clear --yes --all a-queue",
        "dict create another",
        "dict delete --yes another",
        "queue delete --yes a-queue",
        "queue list --json",
    )
    assert (made.code, again.code, forced.code) == ("0", "1", "0")
    assert "Secret 'a-secret' already exists in environment 'main'" in again.text
    assert "hidden" not in secrets.text
    assert [(row["name"], row["created_by"]) for row in secrets.data] == [("a-secret", "emulator")]  # type: ignore[attr-defined]
    assert no_secrets.data == []
    assert value.text == "value"
    assert items.data == [{"key": "key", "value": "value"}]
    assert [row["name"] for row in dicts.data] == ["a-dict"]  # type: ignore[attr-defined]
    assert [(row["partitions"], row["total_size"]) for row in queues.data] == [(2, 3)]  # type: ignore[attr-defined]
    assert (length.text, total.text, peeked.text) == ("2", "3", "first\nsecond")
    assert emptied.data == []
    assert a_dict.len() == 0


def test_environments_workspace_and_money(cli: Cli) -> None:
    token, _, _, listed, roles, deleted, main, members, settings, changed, rates, summary, report, dashboard = cli(
        "token info",
        "environment create dev",
        "environment update dev --set-name stage --set-web-suffix s",
        "environment list --json",
        "environment roles list --json stage",
        "environment delete --yes stage",
        "environment delete --yes main",
        "workspace members list --json",
        "workspace settings list",
        "workspace settings set image-builder-version 2024.10",
        "billing rates --json",
        "billing summary --json",
        "billing report --for today --json",
        "dashboard",
    )
    assert f"Token: {os.environ['MODAL_TOKEN_ID']}" in token.text
    assert [(row["name"], row["web_suffix"], row["active"]) for row in listed.data] == [  # type: ignore[attr-defined]
        ("main", "", "True"),
        ("stage", "s", "False"),
    ]
    assert roles.data == {"users": {"emulator": "contributor"}, "service_users": {}}
    assert deleted.code == "0"
    assert (main.code, "Environment 'main' is the default one and cannot be deleted" in main.text) == ("1", True)
    assert [row["role"] for row in members.data] == ["owner"]  # type: ignore[attr-defined]
    assert ("main" in settings.text, "updated from 2025.06 to 2024.10" in changed.text) == (True, True)
    assert rates.data["H100"] == "0.001097"  # type: ignore[index]
    assert summary.data["billed_cost"] == "0"  # type: ignore[index]
    assert report.data == []
    assert (dashboard.code, "the modalflow emulator has no dashboard" in dashboard.text) == ("1", True)


def test_apps_and_containers(cli: Cli, workspace_client: modal.Client, eventually: Eventually) -> None:
    app = modal.App.lookup("an-app", create_if_missing=True, client=workspace_client)
    image = modal.Image.debian_slim("3.11")
    ids = []
    for gpu in (None, "T4"):  # V2 and V1
        script = "echo out; echo err >&2; cat"
        sandbox = modal.Sandbox.create("sh", "-c", script, app=app, image=image, gpu=gpu, client=workspace_client)
        assert next(iter(sandbox.stdout)) == "out\n"
        assert next(iter(sandbox.stderr)) == "err\n"
        ids.append((sandbox.object_id, sandbox._get_task_id(), sandbox))
    (v2, v2_task, v2_sandbox), (v1, v1_task, v1_sandbox) = ids
    apps, containers, by_sandbox, by_task, of_v1, errors, ran, shell, mistyped, info, stats, history = cli(
        "app list --json",
        f"container list --json --app-id {app.app_id}",
        f"container logs {v2}",
        f"container logs {v2_task}",
        f"container logs --all {v1}",
        "app logs an-app --source stderr",
        f"container exec {v2_task} --no-pty -- echo from_exec",
        f"shell --no-pty {v1} -c echo_into",
        "app logs an-ap",
        "app info an-app --json",
        "app stats an-app --json",
        "app history an-app --json",
    )
    assert [(row["description"], row["state"], row["tasks"]) for row in apps.data] == [("an-app", "deployed", "2")]  # type: ignore[attr-defined]
    assert {row["container_id"] for row in containers.data} == {v2_task, v1_task}  # type: ignore[attr-defined]
    for logs in (by_sandbox, by_task, of_v1):
        assert sorted(logs.text.splitlines()) == ["err", "out"]
    assert errors.text == "err\nerr"
    assert (ran.text, shell.text) == ("from exec", "into")
    assert "No App with name 'an-ap' found in the 'main' environment." in mistyped.text
    assert "modal app logs an-app" in mistyped.text
    assert info.data["lifecycle"]["state"] == "deployed"  # type: ignore[index]
    assert stats.data["sandboxes"] == {"total": 2, "finished": 0, "live": 2}  # type: ignore[index]
    assert history.data == []
    (stopped,) = cli(f"container stop --yes {v2_task}")
    assert stopped.code == "0"
    eventually(lambda: v2_sandbox.poll() == 137)
    _, followed, again, none = cli(
        "app stop --yes an-app",
        f"app logs -f {app.app_id}",
        f"app stop --yes {app.app_id}",
        "app stop --yes another-app",
    )
    eventually(lambda: v1_sandbox.poll() == 137)
    assert sorted(followed.text.splitlines()) == ["err", "err", "out", "out"]
    assert again.code.startswith("App is already stopped. (Stopped at")
    assert (none.code, "No App with name 'another-app'" in none.text) == ("1", True)


def test_run_deploy_and_shell(cli: Cli, workspace_client: modal.Client) -> None:
    (cli.folder / "script.py").write_text(APP)
    (cli.folder / "function.py").write_text("import modal\napp = modal.App('f')\n@app.function()\ndef f(): pass\n")
    modal.Secret.objects.create("a-secret", {"KEY": "value"}, client=workspace_client)
    ran, deployed, again, history, refused, shell, apps = cli(
        "run script.py --word hello",
        "deploy script.py --tag first",
        "deploy script.py --strategy recreate",
        "app history script --json",
        "deploy function.py",
        "shell --no-pty --secret a-secret -c echo_$KEY_$((1+1))",
        "app list --json",
    )
    assert (ran.code, "the entrypoint read: from the sandbox: hello" in ran.text, "App completed" in ran.text) == (
        "0",
        True,
        True,
    )
    assert (deployed.code, again.code, "View Deployment" in deployed.text) == ("0", "0", True)
    assert [(row["version"], row.get("tag")) for row in history.data] == [("v2", None), ("v1", "first")]  # type: ignore[attr-defined]
    assert refused.code == "1"
    assert re.search(r"Function\w+ is not implemented by the modalflow emulator", refused.text)
    assert shell.text.splitlines()[-1] == "value 2"
    states = {(row["description"], row["state"]) for row in apps.data}  # type: ignore[attr-defined]
    assert states == {("script", "deployed"), ("script", "stopped"), ("f", "stopped"), ("modal shell", "stopped")}


def test_images(cli: Cli) -> None:
    (cli.folder / "Dockerfile").write_text("FROM python:3.11-slim\nENV A=1\nCOPY given /opt/given\n")
    (cli.folder / "given").write_text("x")
    built, named, history, _, after = cli(
        "image build -t mine:v1 .",
        "image names list --json",
        "image names history mine:v1 --json",
        "image names delete --yes mine:v1",
        "image names list --json",
    )
    (row,) = json.loads(named.text)
    assert "=> Step 2: COPY given /opt/given" in built.text
    assert (row["tag"], [one["image_id"] for one in json.loads(history.text)]) == ("mine:v1", [row["image_id"]])
    assert after.data == []
    (logs,) = cli(f"image logs {row['image_id']}")
    assert f"Built image {row['image_id']}" in logs.text
