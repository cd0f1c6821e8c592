"""What the modal client keeps for a whole process, put aside for one test.

Flows in: the modal modules that the process has loaded, if any; none is imported here. Flows out: a client that reads its address
and token anew. Names are modal 1.6.4's.
"""

from __future__ import annotations

import contextlib
import gc
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any


@contextlib.contextmanager
def fresh_client_state() -> Iterator[None]:
    """Have ``modal.Client.from_env`` connect anew within; close what it connected, and bring back what was before."""
    before = _put_aside()
    try:
        yield
    finally:
        _close_client()
        _forget_ids(before.hydrated)
        _bring_back(before)


class _Before:
    """What there was."""

    def __init__(self) -> None:
        self.client: object = None
        self.hydrated: set[int] = set()
        self.environments: dict[str, object] = {}
        self.user_config: object = None


def _put_aside() -> _Before:
    before = _Before()
    before.hydrated = {id(one) for one in _hydrated()}
    if (client := _loaded("modal.client")) is not None:
        before.client = client._Client._client_from_env
        client._Client._client_from_env = None
    if (environments := _loaded("modal._environments")) is not None:
        before.environments = dict(environments.ENVIRONMENT_CACHE)
        environments.ENVIRONMENT_CACHE.clear()
    if (config := _loaded("modal.config")) is not None:
        before.user_config = vars(config)["_user_config"]
        vars(config)["_user_config"] = {}
    return before


def _bring_back(before: _Before) -> None:
    if (client := _loaded("modal.client")) is not None:
        client._Client._client_from_env = before.client
    if (environments := _loaded("modal._environments")) is not None:
        environments.ENVIRONMENT_CACHE.clear()
        environments.ENVIRONMENT_CACHE.update(before.environments)
    if before.user_config is not None and (config := _loaded("modal.config")) is not None:
        vars(config)["_user_config"] = before.user_config


def _close_client() -> None:
    """Close the client that the test's own calls made."""
    client = _loaded("modal.client")
    if client is not None and client._Client._client_from_env is not None:
        client.Client.from_env().close()


def _hydrated() -> list[Any]:
    """Return the objects that know their id: Images, Volumes, Secrets that modules hold, as test code and what it tests do."""
    modal_object = _loaded("modal._object")
    if modal_object is None:
        return []
    return [one for one in gc.get_objects() if isinstance(one, modal_object._Object) and one._is_hydrated]


def _forget_ids(before: set[int]) -> None:
    """Have objects that were looked up during the test look themselves up anew: their ids are of a workspace that is gone."""
    for one in _hydrated():
        if id(one) not in before:
            one._unhydrate()


def _loaded(name: str) -> ModuleType | None:
    return sys.modules.get(name)
