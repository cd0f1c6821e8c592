"""Images by the unmodified client: built once, joined, logged, failing, mounted, named, deleted."""

from __future__ import annotations

import hashlib
from pathlib import Path

import modal
import pytest
from modal_proto import api_pb2

from modalflow.emulator import EmulatorConfig, EmulatorThread
from tests.emulator.conftest import Sandboxes, StartEmulator, connect


def built(image: modal.Image, app: modal.App) -> str:
    image.build(app)
    return str(image.object_id)


def log_of(image: modal.Image) -> str:
    return "".join(entry.message for entry in image.logs.fetch(layers=None))


def test_the_same_definition_is_one_image_and_a_forced_one_another(app: modal.App) -> None:
    first = built(modal.Image.debian_slim("3.11").env({"A": "1"}), app)
    again = built(modal.Image.debian_slim("3.11").env({"A": "1"}), app)
    other = built(modal.Image.debian_slim("3.11").env({"A": "2"}), app)
    forced = built(modal.Image.debian_slim("3.11").dockerfile_commands("ENV A=1", force_build=True), app)
    assert first == again
    assert len({first, other, forced}) == 3
    # What was built by force is what the definition means from then on.
    assert built(modal.Image.debian_slim("3.11").dockerfile_commands("ENV A=1"), app) == forced


def test_a_build_is_joined_once_and_then_known(app: modal.App, emulator: EmulatorThread) -> None:
    built(modal.Image.debian_slim("3.11").env({"A": "1"}), app)
    joined = len(emulator.calls("ImageJoinStreaming"))
    built(modal.Image.debian_slim("3.11").env({"A": "1"}), app)
    assert (joined, len(emulator.calls("ImageJoinStreaming"))) == (2, 2)


def test_the_log_tells_each_step_and_what_was_only_recorded(app: modal.App, client: modal.Client) -> None:
    image = modal.Image.debian_slim("3.11").dockerfile_commands("LABEL a=b", "ENV A=1")
    text = log_of(modal.Image.from_id(built(image, app), client=client))
    assert "this machine's file system plays it" in text
    assert "=> Step 1: LABEL a=b\n   recorded, without effect\n=> Step 2: ENV A=1\nBuilt image im-" in text


@pytest.mark.parametrize(
    ("command", "message"),
    [
        pytest.param("FRMO x", "Dockerfile line 2: unknown instruction: 'FRMO'", id="unknown"),
        pytest.param("COPY --from=nowhere:1 /no/such/file /x", "'/no/such/file' is not on this machine", id="not here"),
        pytest.param("FROM other", "several stages in one Dockerfile are not built", id="stages"),
        pytest.param("ADD https://example.com/x /x", "write RUN curl", id="address"),
    ],
)
def test_a_failed_build_says_why_and_is_built_again(app: modal.App, emulator: EmulatorThread, command: str, message: str) -> None:
    for attempt in (1, 2):
        image = modal.Image.debian_slim("3.11").dockerfile_commands(command)
        with pytest.raises(modal.exception.ImageBuildError, match=message.replace("(", r"\(")):
            image.build(app)
        assert f"=> Step 1: {command}" in log_of(image) or "line 2" in message
        assert len(emulator.calls("ImageJoinStreaming")) == attempt + 1


def test_a_failed_build_is_no_image(app: modal.App, client: modal.Client) -> None:
    with pytest.raises(modal.exception.ImageBuildError) as caught:
        modal.Image.debian_slim("3.11").dockerfile_commands("FRMO x").build(app)
    with pytest.raises(modal.exception.NotFoundError):
        modal.Sandbox.create("true", app=app, image=modal.Image.from_id(caught.value.image_id, client=client), client=client)


def test_copied_files_are_there(sandboxes: Sandboxes, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "one.txt").write_text("one")
    (tmp_path / "sub" / "two.sh").write_text("#!/bin/sh\necho two")
    (tmp_path / "sub" / "two.sh").chmod(0o755)
    image = modal.Image.debian_slim("3.11").add_local_dir(tmp_path, "/opt/given", copy=True).env({"GIVEN": "/opt/given"})
    text = sandboxes.output("sh", "-c", 'cat $GIVEN/one.txt; "$GIVEN"/sub/two.sh', image=image)
    assert text == "onetwo\n"


def test_dockerfile_copies_from_its_context(sandboxes: Sandboxes, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a")
    (tmp_path / "b.txt").write_text("b")
    (tmp_path / "c.md").write_text("c")
    image = modal.Image.debian_slim("3.11").dockerfile_commands(
        "WORKDIR /srv/app",
        "COPY *.txt texts/",
        "COPY --chmod=600 a.txt /srv/renamed",
        "COPY <<EOF /srv/note\nhi $HOME_OF\nEOF",
        context_dir=tmp_path,
    )
    text = sandboxes.output(
        "sh", "-c", 'cat texts/* "$1" "$2"; ls texts; stat -c %a "$1"', "sh", "/srv/renamed", "/srv/note", image=image
    )
    assert text == "abahi \na.txt\nb.txt\n600\n"


def test_mounted_files_are_placed_small_and_large(sandboxes: Sandboxes, tmp_path: Path, emulator: EmulatorThread) -> None:
    large = bytes(range(256)) * 4096 * 6
    (tmp_path / "large.bin").write_bytes(large)
    (tmp_path / "mine.py").write_text("answer = 42")
    image = (
        modal.Image.debian_slim("3.11")
        .add_local_file(tmp_path / "large.bin", "/data/large.bin")
        .add_local_file(tmp_path / "mine.py", "/root/mine.py")
    )
    program = "import mine, os, hashlib; print(mine.answer, hashlib.sha256(open(os.environ['L'], 'rb').read()).hexdigest())"
    text = sandboxes.output("python", "-c", program, image=image, env={"L": "/data/large.bin"})
    assert text.split() == ["42", hashlib.sha256(large).hexdigest()]
    assert len(emulator.calls("BlobCreate")) == 1


def test_python_sources_are_importable(sandboxes: Sandboxes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "greeting_package"
    package.mkdir()
    (package / "__init__.py").write_text("text = 'hello'")
    (package / "data.json").write_text("{}")
    monkeypatch.syspath_prepend(str(tmp_path))
    image = modal.Image.debian_slim("3.11").add_local_python_source("greeting_package")
    program = "import greeting_package as g, os; print(g.text, sorted(os.listdir(os.path.dirname(g.__file__)))[0])"
    assert sandboxes.output("python", "-B", "-c", program, image=image) == "hello __init__.py\n"


def test_the_same_files_are_one_mount_and_an_upload_once(sandboxes: Sandboxes, tmp_path: Path, emulator: EmulatorThread) -> None:
    (tmp_path / "x").write_text("x")
    for _ in range(2):
        sandboxes.output("true", image=modal.Image.debian_slim("3.11").add_local_file(tmp_path / "x", "/x"))
    assert len({str(list(request.definition.mount_ids)) for request in emulator.calls("SandboxCreateV2")}) == 1  # type: ignore[attr-defined]
    assert len(emulator.calls("MountPutFile")) == 1


@pytest.mark.parametrize("path", ["/../etc/x", "/a/../../b", "a/..", "/"])
def test_a_mount_path_cannot_leave_its_root(emulator: EmulatorThread, client: modal.Client, path: str) -> None:
    digest = hashlib.sha256(b"x").hexdigest()
    stub = client._stub
    from modal._utils.async_utils import synchronizer

    async def put() -> None:
        await stub.MountPutFile(api_pb2.MountPutFileRequest(sha256_hex=digest, data=b"x"))
        await stub.MountGetOrCreate(api_pb2.MountGetOrCreateRequest(files=[api_pb2.MountFile(filename=path, sha256_hex=digest)]))

    with pytest.raises(modal.exception.InvalidError, match="no path of a file below the root"):
        synchronizer.create_blocking(put)()


def test_published_images_are_found_by_name_in_their_environment(
    sandboxes: Sandboxes, app: modal.App, client: modal.Client
) -> None:
    image = modal.Image.debian_slim("3.11").env({"GREETING": "hello"}).build(app)
    image.publish("greeter", client=client)
    image.publish("greeter:v1", client=client)
    for name in ("greeter", "greeter:latest", "greeter:v1", "main/greeter:v1"):
        found = modal.Image.from_name(name, client=client)
        assert sandboxes.output("sh", "-c", "echo $GREETING", image=found) == "hello\n"
    with pytest.raises(modal.exception.NotFoundError, match="greeter:v2"):
        sandboxes.create("true", image=modal.Image.from_name("greeter:v2", client=client))
    with pytest.raises(modal.exception.NotFoundError, match="Environment 'other' not found"):
        image.publish("other/greeter", client=client)


def test_a_deleted_image_is_gone_and_what_is_built_on_it_stays(
    sandboxes: Sandboxes, app: modal.App, client: modal.Client
) -> None:
    base = modal.Image.debian_slim("3.11").env({"A": "1"})
    top = base.env({"B": "2"})
    base_id, top_id = built(base, app), built(top, app)
    modal.experimental.image_delete(base_id, client=client)
    with pytest.raises(modal.exception.NotFoundError, match=f"Could not find image with ID '{base_id}'"):
        sandboxes.create("true", image=modal.Image.from_id(base_id, client=client))
    assert sandboxes.output("sh", "-c", "echo $A$B", image=modal.Image.from_id(top_id, client=client)) == "12\n"
    with pytest.raises(modal.exception.NotFoundError, match=f"No Image with ID '{base_id}' found"):
        modal.experimental.image_delete(base_id, client=client)


def test_record_copies_files_and_runs_nothing(start_emulator: StartEmulator, tmp_path: Path) -> None:
    emulator = start_emulator(image_builds="record")
    client = connect(emulator)
    app = modal.App.lookup("tests", create_if_missing=True, client=client)
    (tmp_path / "x").write_text("x")
    image = (
        modal.Image.debian_slim("3.11").add_local_file(tmp_path / "x", "/opt/x", copy=True).run_commands("exit 3").env({"A": "1"})
    )
    sandboxes = Sandboxes(app, client)
    assert sandboxes.output("sh", "-c", "echo $A; cat $0", "/opt/x", image=image) == "1\nx"
    recorded = {line for one in emulator.workspace.images.values() for line in one.recorded}
    assert "RUN exit 3 (recorded only)" in recorded
    client.close()


def test_images_and_names_outlive_a_restart_with_their_files(start_emulator: StartEmulator, tmp_path: Path) -> None:
    (tmp_path / "x").write_text("kept")
    image = modal.Image.debian_slim("3.11").add_local_file(tmp_path / "x", "/opt/x", copy=True)
    with EmulatorThread(EmulatorConfig(state_dir=tmp_path / "state")) as first, pytest.MonkeyPatch.context() as patch:
        for name, value in first.environment().items():
            patch.setenv(name, value)
        client = connect(first)
        image.build(modal.App.lookup("tests", create_if_missing=True, client=client))
        image.publish("kept", client=client)
        client.close()
    (tmp_path / "state" / "layers" / "f0000000000").mkdir()
    emulator = start_emulator(state_dir=tmp_path / "state")
    client = connect(emulator)
    app = modal.App.lookup("tests", create_if_missing=True, client=client)
    sandboxes = Sandboxes(app, client)
    assert sandboxes.output("cat", "/opt/x", image=modal.Image.from_name("kept", client=client)) == "kept"
    again = modal.Image.debian_slim("3.11").add_local_file(tmp_path / "x", "/opt/x", copy=True)
    assert built(again, app) == image.object_id
    assert not emulator.calls("ImageJoinStreaming")
    # What no image refers to, as a killed build leaves it, is gone.
    assert not (tmp_path / "state" / "layers" / "f0000000000").exists()
    client.close()


def test_names_go_with_their_environment(app: modal.App, client: modal.Client, sandboxes: Sandboxes) -> None:
    image = modal.Image.debian_slim("3.11").build(app)
    modal.Environment.objects.create("stage", client=client)
    image.publish("one", environment_name="stage", client=client)
    modal.environments.update_environment("stage", new_name="prod", client=client)
    sandboxes.create("true", image=modal.Image.from_name("prod/one", client=client))
    modal.Environment.objects.delete("prod", client=client)
    modal.Environment.objects.create("prod", client=client)
    with pytest.raises(modal.exception.NotFoundError, match="one:latest"):
        sandboxes.create("true", image=modal.Image.from_name("prod/one", client=client))
