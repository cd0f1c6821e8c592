"""The Airflow connections of type ``modal`` that hold Modal's tokens.

In: a connection's name, from ``[modal_executor] modal_conn_id``. Out: what it holds, as ``launch.credentials`` has it. Reading is
a question to a database or a secrets backend, so it happens when the gateway calls ``ReadStored``, in a thread of its own, and
never on the scheduler's. The fields are those of apache-airflow-providers-modal (0.1.0), which owns the type: login is the
token's id, password its secret, ``environment`` in ``extra``. Its hook is not used: it knows no teams, and reads by a way that
takes a database that does not answer for a connection that does not exist.
"""

from __future__ import annotations

import inspect
import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import TYPE_CHECKING, Any

from modalflow.executor.configuration import ConfigurationView, load_settings
from modalflow.launch.credentials import ReadStored, StoredCredentials
from modalflow.launch.gateway import Unauthenticated, Unavailable
from modalflow.option_table import SECTION
from modalflow.translation.plan import MODALFLOWS

if TYPE_CHECKING:
    from airflow.models import Connection

    from modalflow.modal_gateway import ModalGateway
    from modalflow.modal_gateway.accounts import AccountsGateway
    from modalflow.modal_gateway.logs import LogAccess, LogsOfAccounts
    from modalflow.settings import LaunchSettings

log = logging.getLogger(__name__)

CONN_TYPE = "modal"
DEFAULTS = ("modal", "modal_default")
"""Looked for where no option names one; the second is the default of ``ModalHook``."""


def stored_credentials(settings: LaunchSettings, team: str | None = None) -> ReadStored:
    """Return how to read this deployment's own connection, as ``team`` sees it. Reads nothing yet."""
    return partial(_own, settings.modal_conn_id, team)


@dataclass(frozen=True, kw_only=True, slots=True)
class Account:
    """One connection, and the settings as they are for it: its Apps and environments, none of another's."""

    settings: LaunchSettings
    read: ReadStored


def accounts_of(settings: LaunchSettings, team: str | None = None) -> dict[str | None, Account]:
    """Return the deployment's own account (``None``) and those of the further connections. Reads nothing yet."""
    own = tuple(home for home in settings.homes if home.conn_id is None)
    found: dict[str | None, Account] = {
        None: Account(settings=replace(settings, homes=own), read=stored_credentials(settings, team))
    }
    for conn_id in settings.accounts:
        homes = (replace(home, conn_id=None) for home in settings.homes if home.conn_id == conn_id)
        found[conn_id] = Account(
            settings=replace(settings, environment=None, homes=tuple(dict.fromkeys((MODALFLOWS, *homes)))),
            read=partial(named, conn_id, team, f"[{SECTION}] modal_conn_ids or namespaces: {conn_id}"),
        )
    return found


def all_accounts(settings: LaunchSettings) -> dict[str | None, Account]:
    """Return everybody's accounts and those of the teams, for what looks at the whole deployment: logs and commands."""
    from airflow.configuration import conf  # noqa: PLC0415 - Airflow is imported where it is needed

    found = accounts_of(settings)
    if not conf.getboolean("core", "multi_team", fallback=False):
        return found
    for team in _teams():
        own = load_settings(ConfigurationView(conf=conf, team=team, environ=os.environ)).launch
        found |= {f"{conn_id or 'its own'}, team {team}": account for conn_id, account in accounts_of(own, team).items()}
    return found


def _teams() -> list[str]:
    """Names of the teams that have this executor."""
    from airflow.executors.executor_loader import ExecutorLoader  # noqa: PLC0415 - Airflow is imported where it is needed

    names = ExecutorLoader.get_executor_names(validate_teams=False)
    ours = (name for name in names if name.module_path.startswith("modalflow."))
    return list(dict.fromkeys(name.team_name for name in ours if name.team_name is not None))


def gateway_of_all(settings: LaunchSettings, *, read_only: bool = False) -> ModalGateway | AccountsGateway:
    """Make the gateway of a command, with the accounts of all teams. Loads modal.

    ``read_only``: it only looks, and may look with the process's own token where Airflow's database is away.
    """
    return _gateway(all_accounts(settings), may_do_without=read_only and settings.modal_conn_id is None)


def build_gateway(settings: LaunchSettings, team: str | None = None) -> ModalGateway | AccountsGateway:
    """Make the gateway of an executor. Loads modal; connects at the first call."""
    return _gateway(accounts_of(settings, team))


def _gateway(accounts: Mapping[str | None, Account], *, may_do_without: bool = False) -> ModalGateway | AccountsGateway:
    from modalflow.modal_gateway import ModalGateway  # noqa: PLC0415

    gateways = {
        conn_id: ModalGateway(
            account.settings,
            read=partial(_or_none, account.read) if may_do_without and conn_id is None else account.read,
        )
        for conn_id, account in accounts.items()
    }
    if len(gateways) == 1:
        return gateways[None]
    from modalflow.modal_gateway.accounts import AccountsGateway  # noqa: PLC0415

    return AccountsGateway(gateways)


def _or_none(read: ReadStored) -> StoredCredentials | None:
    try:
        return read()
    except Unavailable as error:
        log.warning("modalflow: %s; looking with the token of the environment or of Modal's profile", error)
        return None


@cache
def log_access(settings: LaunchSettings) -> LogAccess | LogsOfAccounts:
    """Return this process's access to Modal's logs for these settings. Loads modal."""
    from modalflow.modal_gateway.logs import LogAccess, LogsOfAccounts  # noqa: PLC0415

    found = [LogAccess(account.settings, account.read) for account in all_accounts(settings).values()]
    return found[0] if len(found) == 1 else LogsOfAccounts(found)


def _own(conn_id: str | None, team: str | None) -> StoredCredentials | None:
    if conn_id is not None:
        return named(conn_id, team, f"[{SECTION}] modal_conn_id = {conn_id}")
    for default in DEFAULTS:
        connection = _find(default, team)
        if connection is None:
            continue
        if connection.conn_type == CONN_TYPE:
            return _stored(default, connection)
        log.warning(
            "modalflow: the Airflow connection %r is of type %r, not %r, and is not used for Modal's token",
            default,
            connection.conn_type,
            CONN_TYPE,
        )
    return None


def named(conn_id: str, team: str | None, where: str) -> StoredCredentials:
    """Read a connection that must exist. ``where`` names it. Raises ``Unauthenticated`` if it is not there or not Modal's."""
    connection = _find(conn_id, team)
    if connection is None:
        raise Unauthenticated(
            f"{where}: Airflow knows no such connection; create it with `airflow connections add {conn_id} --conn-type modal "
            "--conn-login TOKEN_ID --conn-password TOKEN_SECRET`, or correct the name"
        )
    if connection.conn_type != CONN_TYPE:
        raise Unauthenticated(f"{where}: this connection is of type {connection.conn_type!r}; expected {CONN_TYPE!r}")
    return _stored(conn_id, connection)


def _stored(conn_id: str, connection: Connection) -> StoredCredentials:
    token_id, token_secret = connection.login or None, connection.password or None
    environment = connection.extra_dejson.get("environment")
    if bool(token_id) != bool(token_secret):
        missing = "Token Secret (password)" if token_id else "Token ID (login)"
        raise Unauthenticated(
            f"the Airflow connection {conn_id!r} has one half of a token: its {missing} is empty. Set both, or neither to use "
            "the token of the environment or of Modal's profile"
        )
    if environment is not None and not isinstance(environment, str):
        raise Unauthenticated(
            f"the Airflow connection {conn_id!r}: extra.environment: expected the name of a Modal environment, "
            f"got {type(environment).__name__}"
        )
    return StoredCredentials(conn_id=conn_id, token_id=token_id, token_secret=token_secret, environment=environment or None)


def _find(conn_id: str, team: str | None) -> Connection | None:
    """Ask Airflow's secrets backends, then its database, in their order (3.3.2, ``Connection.get_connection_from_secrets``).

    Unlike that, a backend that fails is not one that has no such connection: ``Unavailable`` if another does not have it either.
    """
    from airflow.configuration import ensure_secrets_loaded  # noqa: PLC0415 - Airflow is imported where it is needed
    from cryptography.fernet import InvalidToken  # noqa: PLC0415 - likewise

    failed: list[str] = []
    for backend in ensure_secrets_loaded():
        try:
            found = _ask(backend.get_connection, conn_id, team)
        except InvalidToken as error:  # Airflow decrypts a connection while it loads it (3.3.2)
            raise Unauthenticated(
                f"the Airflow connection {conn_id!r} cannot be decrypted: [core] fernet_key is not the one it was saved with"
            ) from error
        except Exception as error:  # whatever a site's backend raises
            if type(error).__name__ == "AirflowSecretsBackendAccessDenied":
                raise Unauthenticated(
                    f"{type(backend).__name__} refuses to give the Airflow connection {conn_id!r} to this process"
                ) from error
            log.debug("modalflow: %s could not be asked for %r", type(backend).__name__, conn_id, exc_info=True)
            failed.append(f"{type(backend).__name__}: {type(error).__name__}")
            continue
        if found is not None:
            return found
    if failed:
        raise Unavailable(f"the Airflow connection {conn_id!r} could not be read ({'; '.join(failed)})")
    return None


def _ask(get_connection: Callable[..., Any], conn_id: str, team: str | None) -> Connection | None:
    """Call a backend as Airflow does: ``team_name`` only where the backend's method takes it (3.2 and later do)."""
    takes = inspect.signature(get_connection).parameters
    knows_teams = "team_name" in takes or any(one.kind is inspect.Parameter.VAR_KEYWORD for one in takes.values())
    found: Connection | None = get_connection(conn_id=conn_id, **({"team_name": team} if knows_teams else {}))
    return found
