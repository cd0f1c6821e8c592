"""V1 sandboxes: every GPU sandbox is one. Capacity, queue, stdio through the control plane."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import modal
import modal.exception
import pytest
from modal_proto import api_pb2

from modalflow.emulator import EmulatorThread
from tests.emulator.conftest import Eventually, Sandboxes, StartEmulator, connect


def test_stdin_and_stdout_of_a_gpu_sandbox(sandboxes: Sandboxes) -> None:
    sandbox = sandboxes.create("cat", gpu="A10G")
    assert len(sandbox.object_id) == len("sb-") + 22
    sandbox.stdin.write("grüße\n")
    sandbox.stdin.write("zwei\n")
    sandbox.stdin.write_eof()
    sandbox.stdin.drain()
    sandbox.wait()
    assert (sandbox.stdout.read(), sandbox.stderr.read()) == ("grüße\nzwei\n", "")


def test_characters_that_arrive_in_pieces_are_put_together(sandboxes: Sandboxes) -> None:
    script = "import os, time\nfor byte in '€ä'.encode() + bytes([0xff]):\n os.write(1, bytes([byte])); time.sleep(0.01)"
    sandbox = sandboxes.create("python", "-c", script, gpu="A10G")
    sandbox.wait()
    assert sandbox.stdout.read() == "€ä\ufffd"


def test_the_gpu_is_visible_inside(sandboxes: Sandboxes) -> None:
    assert sandboxes.output("sh", "-c", "echo $MODAL_EMULATOR_GPU", gpu="h100:2") == "H100:2\n"


def test_env_of_a_gpu_sandbox_comes_by_an_unnamed_secret(sandboxes: Sandboxes) -> None:
    secret = modal.Secret.from_dict({"A": "secret", "B": "secret"})
    assert sandboxes.output("sh", "-c", "echo $A $B", gpu="A10", secrets=[secret], env={"B": "env"}) == "secret env\n"


def test_what_the_client_put_on_the_wire_can_be_looked_at(sandboxes: Sandboxes, emulator: EmulatorThread) -> None:
    sandboxes.output("true", gpu="A10G", name="the-name")
    (request,) = emulator.calls("SandboxCreate")
    assert isinstance(request, api_pb2.SandboxCreateRequest)
    config = request.definition.resources.gpu_config
    assert (config.gpu_type, config.count, request.definition.name) == ("A10G", 1, "the-name")
    assert emulator.calls("SandboxCreateV2") == []


def test_a_second_sandbox_waits_until_the_gpu_is_free(
    sandboxes: Sandboxes, emulator: EmulatorThread, eventually: Eventually
) -> None:
    first = sandboxes.create("cat", gpu="A10G")
    with ThreadPoolExecutor(1) as pool:
        second = pool.submit(sandboxes.create, "true", gpu="A10", name="second")
        eventually(lambda: len(emulator.workspace.inventory.queued()) == 1)
        listed = modal.Sandbox.list(app_id=sandboxes.app.app_id, client=sandboxes.client)
        assert len(list(listed)) == 2
        first.terminate(wait=True)
        sandbox = second.result(timeout=20)
    sandbox.wait()
    assert sandbox.returncode == 0


def test_other_types_do_not_wait_for_it(sandboxes: Sandboxes) -> None:
    sandboxes.create("cat", gpu="A10G")
    assert sandboxes.output("echo", "h100", gpu="H100:4") == "h100\n"


def test_terminating_a_waiting_sandbox_takes_it_out_of_the_queue(
    sandboxes: Sandboxes, emulator: EmulatorThread, eventually: Eventually
) -> None:
    failures: list[Exception] = []

    def create() -> None:
        try:
            sandboxes.create("true", gpu="B200", name="waiting")
        except modal.exception.ConflictError as error:
            failures.append(error)

    thread = threading.Thread(target=create)
    thread.start()
    eventually(lambda: len(emulator.workspace.inventory.queued()) == 1)
    waiting = modal.Sandbox.from_name("tests", "waiting", client=sandboxes.client)
    waiting.terminate()
    thread.join(timeout=20)
    assert [str(error) for error in failures] == ["Sandbox was terminated"]
    assert emulator.workspace.inventory.queued() == []
    assert waiting.poll() == 137


def test_an_ended_v1_sandbox_is_found_by_id_only(sandboxes: Sandboxes) -> None:
    sandbox = sandboxes.create("true", gpu="A10G", name="v1")
    sandbox.wait()
    assert modal.Sandbox.from_id(sandbox.object_id, client=sandboxes.client).poll() == 0
    with pytest.raises(modal.exception.NotFoundError):
        modal.Sandbox.from_name("tests", "v1", include_terminated=True, client=sandboxes.client)


@pytest.mark.parametrize(
    ("gpu", "message"),
    [
        pytest.param("H10O", "Unknown GPU type 'H10O'; did you mean 'H100", id="typo"),
        pytest.param("A10G:5", "GPU count 5 for 'A10G' is out of range; expected 1 to 4", id="too many"),
        pytest.param("H100:0", "GPU count 0 for 'H100' is out of range; expected 1 to 8", id="none"),
    ],
)
def test_an_impossible_gpu_is_refused(sandboxes: Sandboxes, gpu: str, message: str) -> None:
    with pytest.raises(modal.exception.InvalidError, match=message):
        sandboxes.create("true", gpu=gpu)


def test_without_an_inventory_every_type_is_there(start_emulator: StartEmulator) -> None:
    emulator = start_emulator()
    client = connect(emulator)
    app = modal.App.lookup("tests", create_if_missing=True, client=client)
    image = modal.Image.debian_slim("3.11")
    made = [modal.Sandbox.create("cat", app=app, client=client, image=image, gpu="B200:8") for _ in range(2)]
    assert [one.poll() for one in made] == [None, None]
    client.close()
