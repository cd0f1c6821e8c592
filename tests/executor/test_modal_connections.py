"""Reading the Airflow connections that hold Modal's tokens, from a real database, the environment and backends that fail."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from modalflow.executor import ModalExecutor, modal_connections
from modalflow.executor.modal_connections import stored_credentials
from modalflow.launch.credentials import StoredCredentials
from modalflow.launch.gateway import Unauthenticated, Unavailable
from modalflow.settings import LaunchSettings

if TYPE_CHECKING:
    from modalflow.emulator import EmulatorThread


@pytest.fixture
def connections(airflow_database: None) -> Iterator[Any]:
    """Stores connections in Airflow's database; none is left."""
    from airflow.models import Connection
    from airflow.utils.session import create_session
    from sqlalchemy import delete

    def add(conn_id: str, **values: Any) -> None:
        with create_session() as session:
            session.add(Connection(**{"conn_id": conn_id, "conn_type": "modal", **values}))

    yield add
    with create_session() as session:
        session.execute(delete(Connection))


def read(conn_id: str | None = None, team: str | None = None) -> StoredCredentials | None:
    return stored_credentials(LaunchSettings(modal_conn_id=conn_id), team)()


def test_there_may_be_none(connections: Any) -> None:
    assert read() is None


def test_the_fields_of_the_provider(connections: Any) -> None:
    connections("modal", login="ak-1", password="as-1", extra=json.dumps({"environment": "prod"}))
    assert read() == StoredCredentials(conn_id="modal", token_id="ak-1", token_secret="as-1", environment="prod")
    assert "as-1" not in repr(read())


def test_the_environment_comes_before_the_database(connections: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    connections("modal", login="ak-1", password="as-1")
    monkeypatch.setenv("AIRFLOW_CONN_MODAL", "modal://ak-2:as-2@?environment=dev")
    assert read() == StoredCredentials(conn_id="modal", token_id="ak-2", token_secret="as-2", environment="dev")


def test_the_hooks_own_default_is_found_too(connections: Any) -> None:
    connections("modal_default", login="ak-3", password="as-3")
    assert read() == StoredCredentials(conn_id="modal_default", token_id="ak-3", token_secret="as-3")


def test_a_connection_of_another_type_that_happens_to_be_called_so(connections: Any, caplog: pytest.LogCaptureFixture) -> None:
    connections("modal", conn_type="http", login="someone", password="x")
    assert read() is None
    assert caplog.messages == [
        "modalflow: the Airflow connection 'modal' is of type 'http', not 'modal', and is not used for Modal's token"
    ]


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        (
            {"login": "ak-1"},
            (
                "the Airflow connection 'mine' has one half of a token: its Token Secret (password) is empty. Set both, or "
                "neither to use the token of the environment or of Modal's profile"
            ),
        ),
        (
            {"password": "as-very-secret"},
            (
                "the Airflow connection 'mine' has one half of a token: its Token ID (login) is empty. Set both, or neither to "
                "use the token of the environment or of Modal's profile"
            ),
        ),
        ({"conn_type": "http"}, "[modal_executor] modal_conn_id = mine: this connection is of type 'http'; expected 'modal'"),
        (
            {"login": "ak-1", "password": "as-1", "extra": '{"environment": ["prod"]}'},
            "the Airflow connection 'mine': extra.environment: expected the name of a Modal environment, got list",
        ),
    ],
)
def test_a_connection_that_cannot_be_used(connections: Any, values: dict[str, str], sentence: str) -> None:
    connections("mine", **values)
    with pytest.raises(Unauthenticated) as refusal:
        read("mine")
    assert str(refusal.value) == sentence


def test_one_that_is_named_must_exist(connections: Any) -> None:
    connections("modal", login="ak-1", password="as-1")
    with pytest.raises(Unauthenticated) as refusal:
        read("mine")
    assert str(refusal.value) == (
        "[modal_executor] modal_conn_id = mine: Airflow knows no such connection; create it with `airflow connections add mine "
        "--conn-type modal --conn-login TOKEN_ID --conn-password TOKEN_SECRET`, or correct the name"
    )


def test_a_database_that_fails_is_no_missing_connection(connections: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow.secrets.metastore import MetastoreBackend

    def broken(*_: Any, **__: Any) -> None:
        raise TimeoutError("no answer from postgresql://user:pw@host")

    monkeypatch.setattr(MetastoreBackend, "get_connection", broken)
    with pytest.raises(Unavailable) as unavailable:
        read()
    assert str(unavailable.value) == "the Airflow connection 'modal' could not be read (MetastoreBackend: TimeoutError)"


def test_another_fernet_key(connections: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow.models import Connection
    from cryptography.fernet import InvalidToken

    connections("modal", login="ak-1", password="as-1")

    def undecipherable(_self: Connection) -> str:
        raise InvalidToken

    monkeypatch.setattr(Connection, "get_password", undecipherable)
    monkeypatch.setattr(Connection, "password", property(undecipherable))
    with pytest.raises(Unauthenticated) as refusal:
        read()
    assert str(refusal.value) == (
        "the Airflow connection 'modal' cannot be decrypted: [core] fernet_key is not the one it was saved with"
    )


def test_a_team_has_its_own(connections: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__CORE__MULTI_TEAM", "True")
    monkeypatch.setenv("AIRFLOW_CONN__ML___MODAL", "modal://ak-ml:as-ml@")
    monkeypatch.setenv("AIRFLOW_CONN_MODAL", "modal://ak-all:as-all@")
    of_the_team, of_all = read(team="ml"), read()
    assert of_the_team is not None
    assert of_all is not None
    assert (of_the_team.token_id, of_all.token_id) == ("ak-ml", "ak-all")


def test_a_backend_that_knows_no_teams(monkeypatch: pytest.MonkeyPatch) -> None:
    def of_before_teams(conn_id: str) -> str:
        return conn_id

    assert modal_connections._ask(of_before_teams, "modal", "ml") == "modal"


@pytest.mark.parametrize(
    "values",
    [
        {"login": "ak-1", "password": "as-1"},
        {"login": "ak-1", "password": "as-1", "extra": '{"environment": "prod"}'},
        {"extra": '{"environment": "prod"}'},
        {"login": "ak-1"},
        {"password": "as-1"},
    ],
)
def test_it_takes_and_refuses_what_airflows_own_hook_does(
    connections: Any, monkeypatch: pytest.MonkeyPatch, values: dict[str, str]
) -> None:
    from airflow.models import Connection
    from airflow.providers.modal.exceptions import ModalConnectionError
    from airflow.providers.modal.hooks.modal import ModalHook

    connections("mine", **values)
    given: dict[str, Any] = {"conn_id": "mine", "conn_type": "modal", **values}
    monkeypatch.setattr(ModalHook, "get_connection", lambda _self, _conn_id: Connection(**given))
    hook = ModalHook("mine")
    try:
        theirs = (hook.credentials, hook.environment_name)
    except ModalConnectionError:
        with pytest.raises(Unauthenticated):
            read("mine")
        return
    ours = read("mine")
    assert ours is not None
    assert theirs == ((ours.token_id, ours.token_secret) if ours.token_id else None, ours.environment)


class Threads(logging.Handler):
    """Waits for the sentence about the credentials."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.said = threading.Event()
        self.record: logging.LogRecord | None = None

    def emit(self, record: logging.LogRecord) -> None:
        self.record = record
        self.said.set()


@pytest.mark.emulated
@pytest.mark.parametrize(
    ("secret", "level", "sentence"),
    [
        (
            "as-1",
            "INFO",
            (
                "modalflow: Modal takes the credentials of the Airflow connection 'modal' (token ak-1); environment main, App "
                "modalflow"
            ),
        ),
        (
            "as-wrong",
            "ERROR",
            (
                "modalflow: launches fail until this is mended: could not check the credentials: Modal refused the "
                "credentials: Invalid token: this emulator accepts only the one it was started with; they are those of the "
                "Airflow connection 'modal': correct its Token ID and Token Secret (`airflow connections get modal`); no "
                "restart is needed"
            ),
        ),
    ],
)
def test_the_scheduler_is_told_at_start_and_reads_nothing_itself(
    modal_emulator: EmulatorThread,
    connections: Any,
    monkeypatch: pytest.MonkeyPatch,
    secret: str,
    level: str,
    sentence: str,
) -> None:
    modal_emulator.accept_token("ak-1", "as-1", workspace="w")
    connections("modal", login="ak-1", password=secret, extra='{"environment": "main"}')
    threads: list[str] = []
    find = modal_connections._find

    def noted(conn_id: str, team: str | None) -> Any:
        threads.append(threading.current_thread().name)
        return find(conn_id, team)

    monkeypatch.setattr(modal_connections, "_find", noted)
    handler, logger = Threads(), logging.getLogger("modalflow.launch.credentials")
    monkeypatch.setattr(logger, "level", logging.INFO)
    logger.addHandler(handler)
    executor = ModalExecutor(parallelism=1)
    executor.start()
    try:
        assert handler.said.wait(30.0)
    finally:
        executor.end()
        logger.removeHandler(handler)
    assert handler.record is not None
    assert (handler.record.levelname, handler.record.getMessage()) == (level, sentence)
    assert set(threads) == {"modalflow-credentials"}
