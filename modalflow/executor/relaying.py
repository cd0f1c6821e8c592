"""Whether tasks reach the execution API by a relay, and the relay's half that runs beside this scheduler.

In: Airflow's configuration and signing key. Out: a ``RelayService`` not yet started, or ``None`` where tasks go direct;
workloads with a ticket in them. Next: ``relay.service``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.resources import files
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from modalflow.executor.configuration import ConfigurationView, is_loopback, is_private
from modalflow.executor.modal_connections import stored_credentials
from modalflow.option_table import SECTION
from modalflow.settings import Settings, SettingsError

if TYPE_CHECKING:
    from modalflow.relay.service import RelayService

TICKET = "modalflow_relay"
"""Key of the workload's document that the sandbox's program takes out (``worker.relay``)."""
RETRIES = "AIRFLOW__WORKERS__EXECUTION_API_RETRIES"
RETRIES_BY_RELAY = "10"
"""Tries of one request to the API: with Airflow's 5, about 40 s of a gap are bridged; with 10, some minutes (3.3.2's waits)."""


def goes_by_relay(settings: Settings, api_url: str, modal_server_url: str) -> bool:
    """Decide ``execution_api``: ``auto`` is ``relay`` for an API on a loopback or private address, which Modal cannot reach.

    ``modal_server_url`` is ``MODAL_SERVER_URL``: sandboxes of an emulator on this machine reach what is on it, and ``auto``
    leaves them to that.
    """
    if settings.execution_api != "auto":
        return settings.execution_api == "relay"
    return is_private(urlsplit(api_url).hostname or "") and not is_loopback(urlsplit(modal_server_url).hostname or "")


def build_relay(
    view: ConfigurationView, settings: Settings, api_url: str, modal_server_url: str, team: str | None = None
) -> RelayService | None:
    """Return this scheduler's half of the relay, or ``None`` if tasks go direct. Raises ``SettingsError``."""
    if not goes_by_relay(settings, api_url, modal_server_url):
        return None
    from modalflow.relay.keys import Keys  # noqa: PLC0415 - asyncssh and aiohttp, which few schedulers need
    from modalflow.relay.service import EVERYWHERE, RelayService, RelaySettings  # noqa: PLC0415
    from modalflow.worker import telling_source  # noqa: PLC0415

    launch = settings.launch
    try:
        keys = Keys(_shared_secret(), launch.deployment)
    except ValueError as error:
        raise SettingsError(
            f"[{SECTION}] execution_api: the relay's keys are made from [api_auth] jwt_secret or jwt_private_key_path, which all "
            f"schedulers share: {error}. Set it to at least 16 random characters"
        ) from error

    def gateway() -> Any:
        from modalflow.modal_gateway.relays import RelayGateway  # noqa: PLC0415 - on the relay's own thread

        return RelayGateway(launch, read=stored_credentials(launch, team))

    emulated = is_loopback(urlsplit(modal_server_url).hostname or "")
    return RelayService(
        gateway,
        keys,
        RelaySettings(
            deployment=launch.deployment,
            api_url=api_url,
            certificate=view.get("api", "ssl_cert") or None,
            station=files("modalflow.relay").joinpath("station.py").read_text(encoding="utf-8"),
            tell=("python", "-c", telling_source()),
            listen_host="127.0.0.1" if emulated else EVERYWHERE,
        ),
    )


def _shared_secret() -> bytes:
    """What all schedulers have and nobody else: the key by which they sign tokens. ``ValueError`` if there is none."""
    from airflow.api_fastapi.auth.tokens import get_signing_args  # noqa: PLC0415 - Airflow is imported where it is needed

    found = get_signing_args(make_secret_key_if_needed=False)
    if "private_key" not in found:
        return str(found["secret_key"]).encode()
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat  # noqa: PLC0415

    told: bytes = found["private_key"].private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    return told


def with_ticket(workload: str, ticket: Mapping[str, object]) -> str:
    """Put the ticket into the workload's document. Both are secrets of the one sandbox that they are handed to."""
    return f"{{{json.dumps(TICKET)}:{json.dumps(ticket)},{workload.lstrip()[1:]}"
