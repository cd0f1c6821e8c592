"""The client of one gateway: which credentials it uses, and what must be set before it is made.

Flows out: an open ``modal.Client``, used by ``gateway``.
"""

from __future__ import annotations

from modal import Client
from modal.config import config

from modalflow.launch.gateway import Unauthenticated

MISSING = (
    "no Modal credentials: set MODAL_TOKEN_ID and MODAL_TOKEN_SECRET in the scheduler's environment, or run `modal token new` "
    "as the user that runs the scheduler"
)


async def open_client() -> Client:
    """Open a client with the environment's credentials, else those of Modal's active profile.

    It is our own, not the process's singleton, so that it can be closed without taking it from others in this process. Raises
    ``Unauthenticated`` when there are no credentials.
    """
    _hear_of_throttling()
    token_id, token_secret = config.get("token_id"), config.get("token_secret")
    if token_id and token_secret:
        return await Client.from_credentials.aio(str(token_id), str(token_secret))
    if config.get("oauth_refresh_token") and config.get("oauth_client_id"):
        return await Client.from_env.aio()
    raise Unauthenticated(MISSING)


def _hear_of_throttling() -> None:
    """Have the client raise RESOURCE_EXHAUSTED at once.

    By default it sleeps and repeats for as long as the server says (modal 1.6.4, ``_utils/grpc_utils.py``), which nothing could
    see or bound. The setting exists per process only; one that the operator made stays.
    """
    if config.get("max_throttle_wait") is None:
        config.override_locally("max_throttle_wait", "0")
