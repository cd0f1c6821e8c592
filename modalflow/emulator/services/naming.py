"""Finding or making an object by name, as ``object_creation_type`` says: the rules that Dicts and Queues share.

Flows in: a request with ``deployment_name``, ``environment_name`` and the creation type. Flows out: the object, or the status
that the client turns into its ``NotFoundError``, ``AlreadyExistsError`` or ``InvalidError``.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Protocol, TypeVar

from grpclib import Status
from modal_proto import api_pb2

from modalflow.emulator.core import Core
from modalflow.emulator.state.ids import new_id
from modalflow.emulator.state.named import NamedObject, Objects
from modalflow.emulator.state.store import Workspace
from modalflow.emulator.wire import Call, fail

UNNAMED = (api_pb2.OBJECT_CREATION_TYPE_EPHEMERAL, api_pb2.OBJECT_CREATION_TYPE_ANONYMOUS_OWNED_BY_APP)
"""Creation types of objects that no name finds."""
_NAME = re.compile(r"[a-zA-Z0-9\-_.]{1,64}")
_APP_ID = re.compile(r"ap-[a-zA-Z0-9]{22}")

T = TypeVar("T", bound=NamedObject)


class GetOrCreate(Protocol):
    """The fields that such requests have in common."""

    @property
    def deployment_name(self) -> str:
        """The name; nothing for an unnamed object."""

    @property
    def environment_name(self) -> str:
        """The environment; nothing for the default one."""

    @property
    def object_creation_type(self) -> api_pb2.ObjectCreationType.ValueType:
        """Whether to find, make, or both."""


def check_name(kind: str, name: str) -> None:
    """End the call with INVALID_ARGUMENT unless an object may be called so: the rule of modal 1.6.4's ``check_object_name``."""
    if not _NAME.fullmatch(name) or _APP_ID.fullmatch(name):
        fail(
            Status.INVALID_ARGUMENT,
            f"Invalid {kind} name: '{name}'. Write 1 to 64 letters, digits, dashes, periods or underscores, and no App ID",
        )


def find_or_make(
    core: Core, objects: Objects[T], kind: str, call: Call, request: GetOrCreate, make: Callable[[str, str], T]
) -> tuple[T, bool]:
    """Return the object and whether it was made now. ``make`` gets the environment and the name."""
    environment = call.environment(request.environment_name)
    creation = request.object_creation_type
    if creation in UNNAMED:
        return objects.add(make(environment, "")), True
    name = request.deployment_name
    check_name(kind, name)
    known = objects.named(environment, name)
    if creation == api_pb2.OBJECT_CREATION_TYPE_UNSPECIFIED and known is None:
        fail(Status.NOT_FOUND, f"{kind} '{name}' not found in environment '{environment}'")
    if creation == api_pb2.OBJECT_CREATION_TYPE_CREATE_FAIL_IF_EXISTS and known is not None:
        fail(Status.ALREADY_EXISTS, f"{kind} '{name}' already exists in environment '{environment}'")
    if creation == api_pb2.OBJECT_CREATION_TYPE_CREATE_OVERWRITE_IF_EXISTS and known is not None:
        objects.remove(known.object_id)
        core.state_changed(call.workspace, known)
        known = None
    if known is not None:
        return known, False
    return objects.add(make(environment, name)), True


def fresh(workspace: Workspace, prefix: str) -> tuple[str, float]:
    """Return a new object's id and time of creation. Times are all different: the client pages its lists by them."""
    return new_id(prefix), workspace.next_created_at()


def creation_info(workspace: Workspace, one: NamedObject) -> api_pb2.CreationInfo:
    """Say when it was made and by whom."""
    return api_pb2.CreationInfo(created_at=one.created_at, created_by=workspace.username)
