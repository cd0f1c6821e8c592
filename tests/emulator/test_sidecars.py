"""Sidecars of the unmodified client: further containers of a sandbox."""

from __future__ import annotations

import uuid
from pathlib import Path

import modal
import modal.exception
import pytest

from modalflow.emulator import EmulatorThread
from tests.emulator.conftest import Eventually, Sandboxes


@pytest.fixture
def image(sandboxes: Sandboxes) -> modal.Image:
    """An image that has an id, as a sidecar's must."""
    return sandboxes.image.build(sandboxes.app)


@pytest.fixture(params=[None, "A10G"], ids=["v2", "v1"])
def sandbox(sandboxes: Sandboxes, request: pytest.FixtureRequest) -> modal.Sandbox:
    return sandboxes.create("cat", gpu=request.param)


def test_a_sidecar_has_its_own_processes_environment_and_files(sandbox: modal.Sandbox, image: modal.Image) -> None:
    secret = modal.Secret.from_dict({"A": "secret", "B": "secret"})
    sidecar = sandbox._experimental_sidecars.create("cat", name="db", image=image, env={"B": "env"}, secrets=[secret])
    assert sidecar.name == "db"
    assert sidecar.object_id.startswith(f"{sandbox.object_id}-ctr-")
    process = sidecar.exec("sh", "-c", "echo $A $B; echo side > file; cat")
    process.stdin.write("in")
    process.stdin.write_eof()
    process.stdin.drain()
    assert (process.wait(), process.stdout.read()) == (0, "secret env\nin")
    assert sidecar.exec("cat", "file").stdout.read() == "side\n"
    assert sandbox.exec("test", "-e", "file").wait() == 1
    assert sidecar.poll() is None


def test_a_sidecar_with_a_terminal(sandbox: modal.Sandbox, image: modal.Image) -> None:
    sidecar = sandbox._experimental_sidecars.create(
        "sh", "-c", "test -t 0 && test -t 1 && exit 7", name="shell", image=image, pty=True
    )
    sidecar.wait()
    assert sidecar.poll() == 7


def test_sidecars_are_listed_and_found_by_name(sandbox: modal.Sandbox, image: modal.Image) -> None:
    sidecars = sandbox._experimental_sidecars
    first, second = (sidecars.create("cat", name=name, image=image) for name in ("one", "two"))
    assert [one.object_id for one in sidecars.list()] == [first.object_id, second.object_id]
    assert sidecars.get(name="two").object_id == second.object_id
    assert first.terminate(wait=True) == 137
    assert first.terminate(wait=True) == 137
    assert [one.name for one in sidecars.list()] == ["two"]
    assert [one.name for one in sidecars.list(include_terminated=True)] == ["one", "two"]
    with pytest.raises(modal.exception.NotFoundError, match="No container named 'one'"):
        sidecars.get(name="one")
    assert sidecars.get(name="one", include_terminated=True).poll() == 137
    again = sidecars.create("cat", name="one", image=image)
    assert again.object_id != first.object_id
    assert sidecars.get(name="one").object_id == again.object_id


def test_a_sidecar_that_ends_by_itself_leaves_the_sandbox_alone(sandbox: modal.Sandbox, image: modal.Image) -> None:
    sidecar = sandbox._experimental_sidecars.create("sh", "-c", "exit 3", name="short", image=image)
    sidecar.wait()
    assert sidecar.poll() == 3
    assert sandbox.poll() is None
    with pytest.raises(modal.exception.NotFoundError, match="Container has already terminated"):
        sidecar.exec("true")


def test_sidecars_end_with_their_sandbox(
    sandbox: modal.Sandbox, image: modal.Image, emulator: EmulatorThread, eventually: Eventually
) -> None:
    sidecar = sandbox._experimental_sidecars.create("cat", name="db", image=image)
    seconds = f"300.{uuid.uuid4().int}"  # its process id in there is no process id out here
    process = sidecar.exec("sh", "-c", f"sleep {seconds} & echo $!")
    next(iter(process.stdout))
    eventually(lambda: runs(seconds))
    root = emulator.workspace.sandboxes[sandbox.object_id].task_id
    assert root
    sandbox.terminate(wait=True)
    assert sidecar.poll() == 137
    eventually(lambda: not runs(seconds))
    with pytest.raises(modal.exception.NotFoundError, match="Sandbox has already terminated"):
        sandbox._experimental_sidecars.create("cat", name="late", image=image)


def runs(argument: str) -> bool:
    """Whether a process of this machine, containers included, has this argument."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if argument.encode() in path.read_bytes().split(b"\0"):
                return True
        except OSError:
            continue  # it ended meanwhile
    return False


def test_what_is_refused(sandbox: modal.Sandbox, image: modal.Image) -> None:
    sidecars = sandbox._experimental_sidecars
    sidecars.create("cat", name="db", image=image)
    with pytest.raises(modal.exception.AlreadyExistsError, match="A running container named 'db'"):
        sidecars.create("cat", name="db", image=image)
    with pytest.raises(modal.exception.InvalidError, match="Invalid container name"):
        sidecars.create("cat", name="no/name", image=image)


def test_a_sidecar_commits_its_volumes(sandboxes: Sandboxes, image: modal.Image) -> None:
    volume = modal.Volume.from_name("shared", create_if_missing=True, version=2, client=sandboxes.client)
    sandbox = sandboxes.create("cat")
    sidecar = sandbox._experimental_sidecars.create("cat", name="writer", image=image, volumes={"/data": volume})
    assert sidecar.exec("cp", "/etc/hostname", "/data/synced").wait() == 0
    assert sidecar.exec("sync", "/data").wait() == 0
    assert [entry.path for entry in volume.listdir("/")] == ["synced"]
    sidecar.filesystem.write_text("late", "/data/late")
    sidecar.terminate(wait=True)
    assert b"".join(volume.read_file("late")) == b"late"


def test_a_sidecar_over_the_router_alone(sandboxes: Sandboxes, image: modal.Image, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODAL_USE_CONTROL_PLANE_SIDECAR_CREATE", "0")
    sandbox = sandboxes.create("cat")
    sidecar = sandbox._experimental_sidecars.create("sh", "-c", "exit 4", name="db", image=image, workdir="/work")
    sidecar.wait()
    assert sidecar.poll() == 4
