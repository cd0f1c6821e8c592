"""One test's workspace of the emulator: how to reach it, what was asked and created in it, what it holds, what goes wrong in it.

Flows in: the session's ``EmulatorThread``. Flows out: ``EmulatedWorkspace``, which the fixture ``modal_workspace`` hands out.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from functools import cached_property
from io import BytesIO
from typing import TYPE_CHECKING

from google.protobuf.message import Message
from grpclib import Status

from modalflow.emulator.config import parse_gpus
from modalflow.emulator.faults import Fault
from modalflow.emulator.introspection import SandboxRecord
from modalflow.testing.records import failure, matching

if TYPE_CHECKING:
    import modal

    from modalflow.emulator import EmulatorThread
    from modalflow.emulator.clock import Clock


class WorkspaceFaults:
    """Scripted failures of this workspace's calls, and of nobody else's."""

    def __init__(self, emulator: EmulatorThread, workspace: str) -> None:
        self._emulator = emulator
        self._workspace = workspace
        self._added: list[Fault] = []

    def add(self, method: str, *, status: Status | str | None = None, **what: object) -> Fault:
        """Have something happen to calls of ``method``; as ``emulator.faults.add``, with ``status`` also by name."""
        code = Status[status.upper()] if isinstance(status, str) else status
        rule = self._emulator.faults.add(method, status=code, workspace=self._workspace, **what)  # type: ignore[arg-type]
        self._added.append(rule)
        return rule

    def clear(self) -> None:
        """Take back what was added here."""
        while self._added:
            self._emulator.faults.remove(self._added.pop().number)


class EmulatedVolume:
    """A Volume by name, for setting up and looking at; made when it is first used."""

    def __init__(self, name: str, client: modal.Client) -> None:
        self.name = name
        self._client = client

    @cached_property
    def handle(self) -> modal.Volume:
        """The ``modal.Volume``."""
        import modal  # noqa: PLC0415 -- the test uses it already

        return modal.Volume.from_name(self.name, create_if_missing=True, version=2, client=self._client).hydrate()

    def write(self, path: str, content: bytes | str) -> None:
        """Put a file, over what is there."""
        data = content.encode() if isinstance(content, str) else content
        with self.handle.batch_upload(force=True) as batch:
            batch.put_file(BytesIO(data), path)

    def read(self, path: str) -> bytes:
        """Return a file as it was last committed. ``FileNotFoundError`` if there is none."""
        return b"".join(self.handle.read_file(path))

    def files(self) -> list[str]:
        """Return the paths of all files, sorted."""
        return sorted(entry.path for entry in self.handle.iterdir("/", recursive=True) if entry.type.name == "FILE")


class EmulatedWorkspace:
    """An empty workspace: its token is known to this test only."""

    def __init__(self, emulator: EmulatorThread) -> None:
        self.emulator = emulator
        self.token_id = "ak-test-" + secrets.token_hex(8)
        self.token_secret = "as-" + secrets.token_hex(16)
        self.faults = WorkspaceFaults(emulator, self.token_id)
        self._client: modal.Client | None = None

    # -- reaching it

    @property
    def url(self) -> str:
        """``MODAL_SERVER_URL``."""
        return self.emulator.url

    @property
    def env(self) -> dict[str, str]:
        """The variables that point a Modal client here; set already for this process and its children."""
        return {**self.emulator.environment(), "MODAL_TOKEN_ID": self.token_id, "MODAL_TOKEN_SECRET": self.token_secret}

    @property
    def client(self) -> modal.Client:
        """A client of this workspace, for code that takes one. Code that takes none is served as well."""
        if self._client is None:
            import modal  # noqa: PLC0415 -- only if the test wants it

            self._client = modal.Client.from_credentials(self.token_id, self.token_secret)
        return self._client

    # -- what was asked and created

    @property
    def sandboxes(self) -> list[SandboxRecord]:
        """Every sandbox that was created here, the oldest first, as it is now."""
        return self.emulator.sandbox_records(self.token_id)

    def requests(self, method: str) -> list[Message]:
        """Return the requests of that RPC from here so far, as they were on the wire."""
        return self.emulator.calls(method, workspace=self.token_id)

    def assert_sandbox_created(self, *, times: int | None = None, **wanted: object) -> SandboxRecord:
        """Return the newest sandbox that has all that is wanted; ``times``: there must be exactly so many.

        ``gpu="A10G"`` or ``"H100:2"``, ``None``: none; ``cpu`` in cores; ``memory`` in MiB; ``image``: part of its reference;
        ``env``: names of variables; ``tags`` and ``volumes`` (``{"/data": "name"}``): at least these; ``argv``, ``timeout`` in
        seconds, ``workdir``, ``region``, ``name``, ``app``, ``status`` (``running``, ``success``, …), ``exit_code``: as given.
        ``AssertionError`` with the nearest ones and what is different; ``TypeError`` for anything else.
        """
        records = self.sandboxes
        found = matching(records, wanted)
        if not found or (times is not None and len(found) != times):
            raise AssertionError(failure(records, wanted, len(found), times))
        return found[-1]

    def assert_no_sandbox_created(self, **wanted: object) -> None:
        """``AssertionError`` if any sandbox has all that is named."""
        records = self.sandboxes
        if found := matching(records, wanted):
            raise AssertionError(failure(records, wanted, len(found), 0))

    # -- what it holds

    def volume(self, name: str) -> EmulatedVolume:
        """Return a Volume by name."""
        return EmulatedVolume(name, self.client)

    def secret(self, name: str, values: Mapping[str, str]) -> modal.Secret:
        """Make a named Secret, in the place of one that is there."""
        import modal  # noqa: PLC0415

        modal.Secret.objects.delete(name, allow_missing=True, client=self.client)
        modal.Secret.objects.create(name, dict(values), client=self.client)
        return modal.Secret.from_name(name, client=self.client)

    @property
    def secrets(self) -> dict[str, dict[str, str]]:
        """Named Secrets with their values, which no client can read."""
        return self.emulator.named_secrets(self.token_id)

    def dict(self, name: str) -> modal.Dict:
        """Return a Dict by name, made if it is not there."""
        import modal  # noqa: PLC0415

        return modal.Dict.from_name(name, create_if_missing=True, client=self.client)

    def queue(self, name: str) -> modal.Queue:
        """Return a Queue by name, made if it is not there."""
        import modal  # noqa: PLC0415

        return modal.Queue.from_name(name, create_if_missing=True, client=self.client)

    # -- what happens in it

    def stock(self, gpus: str | Mapping[str, int]) -> None:
        """Have only these GPUs in stock from now on, as ``"A10G=1"`` or ``{"A10G": 1}``. Before any GPU is asked for."""
        self.emulator.stock_gpus(self.token_id, parse_gpus(gpus) if isinstance(gpus, str) else gpus)

    @property
    def clock(self) -> Clock:
        """The emulator's time, which all its workspaces share."""
        return self.emulator.clock

    def close(self) -> None:
        """End what runs here and forget the workspace."""
        self.faults.clear()
        if self._client is not None:
            self._client.close()
            self._client = None
        self.emulator.end_workspace(self.token_id)
