"""What an Airflow connection of type ``modal`` holds, as the gateway is given it.

Flows in: a connection, read by ``executor.modal_connections`` in a thread of its own, for a database or a secrets backend
answers. Flows out: plain data for ``modal_gateway.connection``, which opens a client with it. ``say_credentials`` is what
``backend`` does with them at start.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field

from modalflow.launch.gateway import Gateway, GatewayError, Unavailable

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredCredentials:
    """One connection. Without a token it only says the environment, and the token is the process's own, as in ``ModalHook``."""

    conn_id: str
    token_id: str | None = None
    token_secret: str | None = field(default=None, repr=False)
    environment: str | None = None


ReadStored = Callable[[], StoredCredentials | None]
"""Reads the connection, and may block. ``None``: there is none, and none was named. Raises ``GatewayError`` in one sentence."""


async def say_credentials(gateway: Callable[[], Gateway]) -> None:
    """Tell the scheduler's log whose credentials are in use and whether Modal takes them. Raises nothing: tasks say it too."""
    try:
        log.info("modalflow: Modal takes the credentials of %s", await gateway().check())
    except Unavailable as error:
        log.warning("modalflow: the Modal credentials could not be checked: %s", error)
    except GatewayError as error:
        log.error("modalflow: launches fail until this is mended: %s", error)  # noqa: TRY400 - the sentence says it all
    except Exception:
        log.exception("modalflow: the Modal credentials could not be checked")
