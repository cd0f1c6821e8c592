"""The emulator's state, and nothing else: no processes, no files of sandboxes, no wire.

Flows in: what services decide. Flows out: the objects that they answer from. One ``Workspace`` per token; everything that one
token makes is invisible to every other.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field

from google.protobuf.message import Message
from modal_proto import api_pb2

from modalflow.emulator.clock import Clock
from modalflow.emulator.state.admission import Admission
from modalflow.emulator.state.apps import App
from modalflow.emulator.state.capacity import Inventory
from modalflow.emulator.state.conditions import Conditions, Weather
from modalflow.emulator.state.dicts import ModalDict
from modalflow.emulator.state.environments import Environment, WorkspaceSettings
from modalflow.emulator.state.images import FileMount, Image, ImageName
from modalflow.emulator.state.named import Objects
from modalflow.emulator.state.queues import ModalQueue
from modalflow.emulator.state.volume_tree import VolumeTree

USERNAME = "emulator"
"""Who made everything: tokens of the emulator belong to nobody in particular."""
REMEMBERED_ANSWERS = 10_000
"""Answers kept for retries of creates, by idempotency key. The client retries within seconds."""
REMEMBERED_SANDBOXES = 20_000
"""Finished sandboxes that can still be asked for by id."""


@dataclass(kw_only=True, slots=True)
class Secret:
    """A Secret; ``name`` is empty if it belongs to one call or app."""

    secret_id: str
    name: str
    environment: str
    values: dict[str, str]
    created_at: float
    app_id: str = ""
    """The App that an unnamed one ends with."""
    last_used_at: float = 0.0


@dataclass(kw_only=True, slots=True)
class Volume:
    """A Volume and its committed content."""

    volume_id: str
    name: str
    environment: str
    version: int
    created_at: float
    tree: VolumeTree = field(default_factory=VolumeTree)
    app_id: str = ""
    """The App that an unnamed one ends with; any other unnamed one ends with its heartbeats."""
    heard_at: float = 0.0


@dataclass(kw_only=True, slots=True, eq=False)
class Sandbox:
    """What the control plane knows of a sandbox. ``scheduled``: it left the queue; ``result``: it ended."""

    sandbox_id: str
    task_id: str
    v2: bool
    app_id: str
    definition: api_pb2.Sandbox
    tags: dict[str, str]
    created_at: float
    name: str = ""
    scheduled: bool = False
    started_at: float = 0.0
    finished_at: float = 0.0
    ready_at: float = 0.0
    """When its readiness probe succeeded."""
    env_names: tuple[str, ...] = ()
    """Names of the variables that its Secrets set."""
    result: api_pb2.GenericResult | None = None


@dataclass(kw_only=True, eq=False)
class Workspace:
    """Everything that belongs to one token."""

    name: str
    inventory: Inventory
    admission: Admission
    clock: Clock = field(default_factory=Clock)
    apps: dict[str, App] = field(default_factory=dict)
    secrets: dict[str, Secret] = field(default_factory=dict)
    volumes: dict[str, Volume] = field(default_factory=dict)
    dicts: Objects[ModalDict] = field(default_factory=Objects)
    queues: Objects[ModalQueue] = field(default_factory=Objects)
    images: dict[str, Image] = field(default_factory=dict)
    image_ids: dict[str, str] = field(default_factory=dict)
    """Ids of built images by the digest of their definition (``images.definition_key``)."""
    image_names: dict[str, ImageName] = field(default_factory=dict)
    """Published images by ``ENVIRONMENT/NAME:TAG``."""
    mounts: dict[str, FileMount] = field(default_factory=dict)
    mount_names: dict[tuple[str, str], str] = field(default_factory=dict)
    environments: dict[str, Environment] = field(default_factory=dict)
    """By name. The default one is made with the workspace."""
    settings: WorkspaceSettings = field(default_factory=WorkspaceSettings)
    sandboxes: dict[str, Sandbox] = field(default_factory=dict)
    tasks: dict[str, Sandbox] = field(default_factory=dict)
    running_names: dict[tuple[str, str], Sandbox] = field(default_factory=dict)
    uploads: dict[str, tuple[tuple[str, ...], int]] = field(default_factory=dict)
    """Whole uploads (``MountPutFile``) by SHA-256: the blocks they were cut into, and the size in bytes."""
    answers: OrderedDict[str, Message] = field(default_factory=OrderedDict)
    _last_created: float = 0.0

    def __post_init__(self) -> None:
        self.created_at = self.next_created_at()
        default = self.settings.default_environment
        made = Environment(environment_id="en-" + self._digest, name=default, created_at=self.created_at, implied=True)
        self.environments.setdefault(default, made)

    @property
    def workspace_id(self) -> str:
        """The workspace's id, the same whenever it is made for this token."""
        return "ac-" + self._digest

    @property
    def user_id(self) -> str:
        """Id of the workspace's one user."""
        return "us-" + self._digest

    @property
    def _digest(self) -> str:
        return hashlib.sha256(self.name.encode()).hexdigest()[:22]

    @property
    def username(self) -> str:
        """The name that objects say they were made by."""
        return USERNAME

    # -- apps, secrets, volumes, images

    def app_named(self, environment: str, name: str) -> App | None:
        """Return the App of that name that was not stopped."""
        for app in self.apps.values():
            if app.name == name and app.environment == environment and app.stopped_at is None:
                return app
        return None

    def secret_named(self, environment: str, name: str) -> Secret | None:
        """Return the Secret of that name."""
        return next((one for one in self.secrets.values() if one.name == name and one.environment == environment), None)

    def volume_named(self, environment: str, name: str) -> Volume | None:
        """Return the Volume of that name."""
        return next((one for one in self.volumes.values() if one.name == name and one.environment == environment), None)

    def image(self, image_id: str) -> Image | None:
        """Return the image of that id, unless its time is over."""
        found = self.images.get(image_id)
        return None if found is None or 0 < found.expires_at <= self.clock.time() else found

    # -- sandboxes

    def next_created_at(self) -> float:
        """Return the time, but later than any before: the client pages lists by it and would loop on a tie."""
        self._last_created = max(self.clock.time(), self._last_created + 1e-6)
        return self._last_created

    def add_sandbox(self, sandbox: Sandbox) -> None:
        """Keep a new sandbox, which holds its name from now on."""
        self.sandboxes[sandbox.sandbox_id] = sandbox
        self.tasks[sandbox.task_id] = sandbox
        if sandbox.name:
            self.running_names[sandbox.app_id, sandbox.name] = sandbox

    def finish_sandbox(self, sandbox: Sandbox, result: api_pb2.GenericResult) -> None:
        """Record the end of a sandbox and free its name."""
        sandbox.result = result
        sandbox.finished_at = self.clock.time()
        if self.running_names.get((sandbox.app_id, sandbox.name)) is sandbox:
            del self.running_names[sandbox.app_id, sandbox.name]

    def forgettable(self) -> list[Sandbox]:
        """Return the oldest finished sandboxes past the number that is remembered."""
        excess = len(self.sandboxes) - REMEMBERED_SANDBOXES
        if excess <= 0:
            return []
        finished = (sandbox for sandbox in self.sandboxes.values() if sandbox.result is not None)
        return [sandbox for _, sandbox in zip(range(excess), finished, strict=False)]

    def forget_sandbox(self, sandbox: Sandbox) -> None:
        """Drop a finished sandbox; asking for it answers NOT_FOUND from now on."""
        self.sandboxes.pop(sandbox.sandbox_id, None)
        self.tasks.pop(sandbox.task_id, None)

    def newest_first(self) -> Iterator[Sandbox]:
        """All sandboxes, the newest first."""
        return reversed(self.sandboxes.values())

    # -- idempotency

    def remember(self, key: str, answer: Message) -> None:
        """Keep the answer of a create, for a retry that carries the same key."""
        self.answers[key] = answer
        if len(self.answers) > REMEMBERED_ANSWERS:
            self.answers.popitem(last=False)


class Store:
    """All workspaces, made when their token is first seen."""

    def __init__(self, weather: Weather | None = None, clock: Clock | None = None) -> None:
        self._weather = weather or Weather(Conditions())
        self._clock = clock or Clock()
        self.workspaces: dict[str, Workspace] = {}

    def workspace(self, token_id: str) -> Workspace:
        """Return the workspace of that token."""
        found = self.workspaces.get(token_id)
        if found is None:
            found = self.workspaces[token_id] = Workspace(
                name=token_id,
                inventory=Inventory(weather=self._weather),
                admission=Admission(weather=self._weather, clock=self._clock),
                clock=self._clock,
            )
        return found
