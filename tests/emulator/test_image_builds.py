"""Commands of image builds, run in containers on top of this machine: what they write is a layer, and nothing here changes."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import zipfile
from pathlib import Path

import modal
import pytest
from modal._utils.async_utils import synchronizer
from modal_proto import api_pb2

from modalflow.emulator import EmulatorThread
from tests.emulator.conftest import Sandboxes, StartEmulator, connect

BASE = modal.Image.debian_slim("3.11")


def wheel(folder: Path, name: str) -> Path:
    """Make a wheel of one module that knows its name, and one command of that name."""
    path = folder / f"{name}-1.0-py3-none-any.whl"
    info = f"{name}-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{name}.py", f"text = 'module {name}'\ndef main(): print('command {name}')\n")
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/entry_points.txt", f"[console_scripts]\n{name} = {name}:main\n")
        archive.writestr(f"{info}/RECORD", "")
    return path


def test_what_a_command_writes_is_in_the_image_and_nowhere_else(container_sandboxes: Sandboxes) -> None:
    image = BASE.run_commands("mkdir /made-by-a-build", "echo one > /made-by-a-build/x", "echo hey > /root/hello.txt")
    script = "cat /made-by-a-build/x /root/hello.txt; echo two > /made-by-a-build/x"
    for _ in range(2):  # what one sandbox writes, the next does not see
        assert container_sandboxes.output("sh", "-c", script, image=image) == "one\nhey\n"
    assert not Path("/made-by-a-build").exists()
    assert container_sandboxes.output("sh", "-c", "ls -d /made-by-a-build 2>&1 || true").endswith("No such file or directory\n")


def test_a_removed_file_is_gone_above(container_sandboxes: Sandboxes) -> None:
    made = BASE.run_commands("mkdir /data && touch /data/a /data/b")
    image = made.run_commands("rm /data/a", "rm -r /usr/share/doc && mkdir /usr/share/doc")
    assert container_sandboxes.output("sh", "-c", "ls /data /usr/share/doc", image=image) == "/data:\nb\n\n/usr/share/doc:\n"
    assert container_sandboxes.output("sh", "-c", "ls /data", image=made) == "a\nb\n"
    assert any(Path("/usr/share/doc").iterdir())


@pytest.mark.parametrize("installer", ["pip", "uv"])
def test_packages_are_installed_into_the_image(container_sandboxes: Sandboxes, tmp_path: Path, installer: str) -> None:
    name = f"emulated_package_by_{installer}"
    given = BASE.add_local_file(wheel(tmp_path, name), f"/wheels/{name}-1.0-py3-none-any.whl", copy=True)
    install = given.pip_install if installer == "pip" else given.uv_pip_install
    image = install(name, find_links="/wheels", extra_options="--no-index --no-deps")
    text = container_sandboxes.output("sh", "-c", f"python -c 'import {name}; print({name}.text)'; {name}", image=image)
    assert text == f"module {name}\ncommand {name}\n"
    missing = subprocess.run([sys.executable, "-c", f"import {name}"], capture_output=True, text=True, check=False)
    assert "ModuleNotFoundError" in missing.stderr


def test_a_failed_command_fails_the_build_with_its_output(container_sandboxes: Sandboxes) -> None:
    for _ in range(2):
        image = BASE.run_commands("echo before; echo trouble >&2; exit 7")
        with pytest.raises(modal.exception.ImageBuildError, match=r"(?s)exit 7\nexited with code 7\n.*trouble"):
            image.build(container_sandboxes.app)
        log = "".join(entry.message for entry in image.logs.fetch())
        assert "before\n" in log
        assert {entry.source for entry in image.logs.fetch() if entry.message == "trouble\n"} == {"stderr"}


def test_builds_of_one_image_at_the_same_time_are_one(container_sandboxes: Sandboxes, container_emulator: EmulatorThread) -> None:
    async def build_all() -> list[str]:
        images = [BASE.run_commands("echo at the same time > /once") for _ in range(3)]
        await asyncio.gather(*(image.build.aio(container_sandboxes.app) for image in images))
        return [str(image.object_id) for image in images]

    ids = asyncio.run(build_all())
    assert len(set(ids)) == 1
    image = container_emulator.workspace.images[ids[0]]
    assert len(image.layers) == 1


def test_the_log_is_live(start_emulator: StartEmulator, container_emulator: EmulatorThread) -> None:
    emulator = start_emulator()
    client = connect(emulator)
    app = modal.App.lookup("tests", create_if_missing=True, client=client)
    definition = api_pb2.Image(dockerfile_commands=["FROM x", "RUN echo it goes on; exec sleep 300"])
    stub = client._stub

    async def watch() -> str:
        order = api_pb2.ImageGetOrCreateRequest(app_id=str(app.app_id), image=definition, builder_version="2025.06")
        reply = await stub.ImageGetOrCreate(order)
        text = ""
        async for message in stub.ImageJoinStreaming.unary_stream(
            api_pb2.ImageJoinStreamingRequest(image_id=reply.image_id, timeout=55)
        ):
            text += "".join(log.data for log in message.task_logs)
            if "\nit goes on\n" in text:
                return text
        return text

    assert "\nit goes on\n" in synchronizer.create_blocking(watch)()
    client.close()


def test_secrets_and_arguments_are_for_the_build_alone(
    container_sandboxes: Sandboxes, container_emulator: EmulatorThread
) -> None:
    canary = "canary-" + "of-a-build"
    secret = modal.Secret.from_dict({"TOKEN": canary})
    image = BASE.run_commands("echo ${#TOKEN} > /length", secrets=[secret]).dockerfile_commands(
        "ARG LEVEL=low", "ENV COPY_OF=$LEVEL", "RUN echo $LEVEL-${TOKEN:-none} > /level", build_args={"LEVEL": "high"}
    )
    text = container_sandboxes.output("sh", "-c", "cat /length /level; echo ${TOKEN:-none} ${LEVEL:-none} $COPY_OF", image=image)
    assert text == f"{len(canary)}\nhigh-none\nnone none high\n"
    kept = repr(list(container_emulator.workspace.images.values()))
    assert canary not in kept
    other = BASE.run_commands("echo ${#TOKEN} > /length", secrets=[modal.Secret.from_dict({"TOKEN": "other"})])
    assert container_sandboxes.output("cat", "/length", image=other) == "5\n"


def test_steps_see_the_settings_before_them(container_sandboxes: Sandboxes) -> None:
    image = BASE.dockerfile_commands(
        "ENV GREETING=hello",
        "WORKDIR /srv/app",
        'SHELL ["/bin/bash", "-c"]',
        "RUN echo $GREETING > given; [[ -n $BASH_VERSION ]] && echo bash >> given",
        "RUN <<EOF\necho script >> given\npwd >> given\nEOF",
        "RUN <<EOF\n#!/usr/bin/env python3\nopen('given', 'a').write('python\\n')\nEOF",
        'RUN ["sh", "-c", "echo words >> given"]',
    )
    words = ["hello", "bash", "script", "/srv/app", "python", "words"]
    assert container_sandboxes.output("cat", "given", image=image).split() == words


def test_volumes_of_a_step_are_read_and_written(container_sandboxes: Sandboxes) -> None:
    client = container_sandboxes.client
    volume = modal.Volume.from_name("of-a-build", create_if_missing=True, version=2, client=client)
    with volume.batch_upload() as batch:
        batch.put_file(Path(__file__), "/given")
    image = BASE.run_commands("wc -l < /vol/given > /lines; echo made > /vol/made", volumes={"/vol": volume})
    lines = container_sandboxes.output("cat", "/lines", image=image)
    assert int(lines) == len(Path(__file__).read_text().splitlines())
    assert b"".join(volume.read_file("made")) == b"made\n"


def test_another_image_is_this_machine_too_but_not_its_private_folders(container_sandboxes: Sandboxes, tmp_path: Path) -> None:
    image = BASE.dockerfile_commands("COPY --from=alpine:latest /etc/hostname /tmp/taken")
    assert container_sandboxes.output("cat", "/tmp/taken", image=image) == Path("/etc/hostname").read_text()
    (tmp_path / "private").write_text("x")
    with pytest.raises(modal.exception.ImageBuildError, match="is not on this machine"):
        BASE.dockerfile_commands(f"COPY --from=alpine:latest {tmp_path}/private /taken").build(container_sandboxes.app)


def test_files_of_mounts_lie_over_the_image(container_sandboxes: Sandboxes, tmp_path: Path) -> None:
    (tmp_path / "tool").write_text("#!/bin/sh\necho a tool\n")
    (tmp_path / "tool").chmod(0o755)
    image = BASE.run_commands("mkdir /opt/kept && echo kept > /opt/kept/x").add_local_file(
        tmp_path / "tool", "/bin/a-tool-of-a-test"
    )
    image = image.add_local_file(tmp_path / "tool", "/opt/kept/tool").add_local_file(tmp_path / "tool", "/root/tool")
    text = container_sandboxes.output("sh", "-c", "a-tool-of-a-test; ls /opt/kept; ./tool; stat -c %a /tmp", image=image)
    assert text == "a tool\ntool\nx\na tool\n1777\n"


def test_a_sandbox_may_change_the_interpreters_packages_for_itself(container_sandboxes: Sandboxes) -> None:
    folder = "$(python -c 'import sysconfig; print(sysconfig.get_path(\"purelib\"))')"
    assert container_sandboxes.output("sh", "-c", f"echo found > {folder}/of_a_sandbox; cat {folder}/of_a_sandbox") == "found\n"
    assert container_sandboxes.output("sh", "-c", f"ls {folder} | grep -c of_a_sandbox || true") == "0\n"


def test_requirements_files_are_installed(container_sandboxes: Sandboxes, tmp_path: Path) -> None:
    given = BASE.add_local_file(wheel(tmp_path, "required_one"), "/wheels/required_one-1.0-py3-none-any.whl", copy=True)
    (tmp_path / "requirements.txt").write_text("required_one==1.0\n")
    image = given.uv_pip_install(
        requirements=[str(tmp_path / "requirements.txt")], find_links="/wheels", extra_options="--no-index"
    )
    assert (
        container_sandboxes.output("python", "-c", "import required_one as r; print(r.text)", image=image)
        == "module required_one\n"
    )


def test_an_added_python_is_this_machines(container_sandboxes: Sandboxes) -> None:
    image = modal.Image.from_registry("ubuntu:22.04", add_python="3.11").run_commands("command -v python > /where")
    where, inside = container_sandboxes.output("sh", "-c", "cat /where; command -v python", image=image).split()
    assert where == inside


def test_an_image_of_micromamba_runs_commands_in_this_machines_shell(container_sandboxes: Sandboxes) -> None:
    image = modal.Image.micromamba().run_commands("echo made > /made")
    assert container_sandboxes.output("cat", "/made", image=image) == "made\n"
