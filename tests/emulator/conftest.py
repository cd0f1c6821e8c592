"""The unmodified modal client on an emulator of its own for each test.

Every object is made with an explicit ``Client``: ``Client.from_env`` is one per process and keeps its first server.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import modal
import pytest
from google.protobuf.message import Message
from modal._utils.async_utils import synchronizer

from modalflow.emulator import EmulatorConfig, EmulatorConfigError, EmulatorThread

StartEmulator = Callable[..., EmulatorThread]
Eventually = Callable[[Callable[[], bool]], None]

PAST = 20.0


@pytest.fixture
def eventually() -> Eventually:
    """Return when a condition holds; fail if it does not within a bound."""

    def wait(condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PAST
        while not condition():
            assert time.monotonic() < deadline, "the condition never held"
            time.sleep(0.01)

    return wait


@pytest.fixture
def start_emulator(monkeypatch: pytest.MonkeyPatch) -> Iterator[StartEmulator]:
    """Start emulators with any configuration, but this machine's network; the environment points at the last one.

    Networks of their own cost each emulator a quarter of a second: tests of them, and those with one for a module, have them.
    """
    with ExitStack() as stack:

        def start(**settings: object) -> EmulatorThread:
            settings.setdefault("network", "host")
            config = EmulatorConfig(record_calls=True, **settings)  # type: ignore[arg-type]
            emulator = stack.enter_context(EmulatorThread(config))
            for name, value in emulator.environment().items():
                monkeypatch.setenv(name, value)
            monkeypatch.delenv("MODAL_SANDBOX_V2", raising=False)
            return emulator

        yield start


@pytest.fixture
def emulator(start_emulator: StartEmulator, request: pytest.FixtureRequest) -> EmulatorThread:
    """An emulator with one A10 and unlimited CPU.

    ``@pytest.mark.isolation("process")`` chooses its isolation, ``@pytest.mark.network("auto")`` its network.
    """
    chosen = {name: mark.args[0] for name in ("isolation", "network") if (mark := request.node.get_closest_marker(name))}
    return start_emulator(gpus={"A10G": 1, "H100": 4}, **chosen)


def connect(emulator: EmulatorThread, **overrides: str) -> modal.Client:
    """Return a client of that emulator. The environment must point at it: the client takes the address from there."""
    environment = {**emulator.environment(), **overrides}
    return modal.Client.from_credentials(environment["MODAL_TOKEN_ID"], environment["MODAL_TOKEN_SECRET"])


@pytest.fixture
def client(emulator: EmulatorThread) -> Iterator[modal.Client]:
    client = connect(emulator)
    yield client
    client.close()


@pytest.fixture
def app(client: modal.Client) -> modal.App:
    return modal.App.lookup("tests", create_if_missing=True, client=client)


@contextmanager
def emulator_where_it_can_be(config: EmulatorConfig) -> Iterator[EmulatorThread]:
    """An emulator; the tests are skipped, with the reason, where the machine lacks what the configuration needs."""
    emulator = EmulatorThread(config)
    try:
        emulator.start()
    except EmulatorConfigError as error:
        pytest.skip(str(error))
    yield emulator
    emulator.stop()


@pytest.fixture(scope="module")
def container_emulator() -> Iterator[EmulatorThread]:
    """An emulator whose sandboxes are containers, one per module."""
    with emulator_where_it_can_be(EmulatorConfig(record_calls=True, isolation="container")) as emulator:
        yield emulator


@pytest.fixture
def container_sandboxes(container_emulator: EmulatorThread, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sandboxes]:
    """``sandboxes`` of ``container_emulator``."""
    with sandboxes_of(container_emulator, monkeypatch) as found:
        yield found


@contextmanager
def sandboxes_of(emulator: EmulatorThread, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sandboxes]:
    """``sandboxes`` of an emulator that several tests share."""
    for name, value in emulator.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("MODAL_SANDBOX_V2", raising=False)
    client = connect(emulator)
    yield Sandboxes(modal.App.lookup("tests", create_if_missing=True, client=client), client)
    client.close()


class Sandboxes:
    """``Sandbox.create`` with the test's App, client and a bare image."""

    def __init__(self, app: modal.App, client: modal.Client) -> None:
        self.app = app
        self.client = client
        self.image = modal.Image.debian_slim("3.11")

    def create(self, *args: str, **options: object) -> modal.Sandbox:
        options.setdefault("image", self.image)
        options.setdefault("timeout", 60)
        return modal.Sandbox.create(*args, app=self.app, client=self.client, **options)  # type: ignore[arg-type]

    def shell(self, script: str, **options: object) -> modal.Sandbox:
        return self.create("sh", "-c", script, **options)

    def output(self, *args: str, **options: object) -> str:
        """Run to the end; the exit code must be 0."""
        sandbox = self.create(*args, **options)
        sandbox.wait()
        assert sandbox.returncode == 0, sandbox.stderr.read()
        return sandbox.stdout.read()

    def running(self, **tags: str) -> list[str]:
        return [one.object_id for one in modal.Sandbox.list(app_id=self.app.app_id, tags=tags, client=self.client)]


@pytest.fixture
def sandboxes(app: modal.App, client: modal.Client) -> Sandboxes:
    return Sandboxes(app, client)


@pytest.fixture(scope="module")
def shared_emulator() -> Iterator[EmulatorThread]:
    """One emulator for a whole module; each test has a workspace of its own in it (``workspace_client``)."""
    with EmulatorThread(EmulatorConfig(any_token=True, record_calls=True)) as emulator:
        yield emulator


@pytest.fixture
def workspace_client(shared_emulator: EmulatorThread, monkeypatch: pytest.MonkeyPatch) -> Iterator[modal.Client]:
    """A client with a token that nobody used before, hence an empty workspace."""
    # The client keeps environments for the process, whatever its workspace.
    monkeypatch.setattr("modal._environments.ENVIRONMENT_CACHE", {})
    token = {"MODAL_TOKEN_ID": f"ak-{uuid.uuid4().hex}", "MODAL_TOKEN_SECRET": "as-any"}
    for name, value in {**shared_emulator.environment(), **token}.items():
        monkeypatch.setenv(name, value)
    client = connect(shared_emulator, **token)
    yield client
    client.close()


@synchronizer.create_blocking
async def rpc(client: modal.Client, method: str, request: Message) -> Any:
    """Make one RPC through the client's own connection: requests that the Python client never makes."""
    return await getattr(client._stub, method)(request)
