"""Who goes by the relay, and what a task is handed."""

from __future__ import annotations

import json
import os

import pytest

from modalflow.executor.configuration import ConfigurationView
from modalflow.executor.dag_bundles import read_bundles
from modalflow.executor.relaying import build_relay, goes_by_relay, with_ticket
from modalflow.executor.worker_environment import build_worker_environment
from modalflow.settings import SettingsError, read_settings

LOCAL = "http://localhost:8080/execution/"


@pytest.mark.parametrize(
    ("execution_api", "url", "modal_server", "by_relay"),
    [
        ("auto", LOCAL, "", True),
        ("auto", "http://10.1.2.3/execution/", "https://api.modal.com", True),
        ("auto", "http://airflow-apiserver:8080/execution/", "", True),
        ("auto", "https://airflow.example.com/execution/", "", False),
        ("auto", LOCAL, "http://127.0.0.1:9000", False),
        ("relay", LOCAL, "http://127.0.0.1:9000", True),
        ("relay", "https://airflow.example.com/execution/", "", True),
        ("direct", LOCAL, "", False),
    ],
)
def test_who_goes_by_the_relay(execution_api: str, url: str, modal_server: str, by_relay: bool) -> None:
    assert goes_by_relay(read_settings({"execution_api": execution_api}), url, modal_server) is by_relay


def view() -> ConfigurationView:
    from airflow.configuration import conf

    return ConfigurationView(conf=conf, environ=os.environ)


def test_no_relay_is_built_for_who_goes_direct() -> None:
    assert build_relay(view(), read_settings({"execution_api": "direct"}), LOCAL, "") is None


def test_two_schedulers_of_one_airflow_have_the_same_keys() -> None:
    one, two = (build_relay(view(), read_settings({"execution_api": "relay"}), LOCAL, "") for _ in range(2))
    assert one is not None and two is not None  # noqa: PT018
    assert one._keys.host("1") == two._keys.host("1")
    other = build_relay(view(), read_settings({"execution_api": "relay", "deployment": "other"}), LOCAL, "")
    assert other is not None
    assert other._keys.host("1") != one._keys.host("1")


def test_a_signing_key_makes_the_keys_where_there_is_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow.api_fastapi.auth import tokens
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.generate()
    monkeypatch.setattr(tokens, "get_signing_args", lambda **_: {"private_key": key})
    one, two = (build_relay(view(), read_settings({"execution_api": "relay"}), LOCAL, "") for _ in range(2))
    assert one is not None and two is not None  # noqa: PT018
    assert one._keys.host("1") == two._keys.host("1")


def test_a_secret_that_is_too_short_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow.api_fastapi.auth import tokens

    monkeypatch.setattr(tokens, "get_signing_args", lambda **_: {"secret_key": "short"})
    with pytest.raises(SettingsError) as error:
        build_relay(view(), read_settings({"execution_api": "relay"}), LOCAL, "")
    assert str(error.value) == (
        "[modal_executor] execution_api: the relay's keys are made from [api_auth] jwt_secret or jwt_private_key_path, which all "
        "schedulers share: expected a secret of 16 bytes or more, got 5. Set it to at least 16 random characters"
    )


def environment(by_relay: bool) -> dict[str, str]:
    settings = read_settings({})
    bundles = read_bundles(view(), settings)
    made = build_worker_environment(view(), settings, bundles, api_url=LOCAL, airflow_version="3.3.2", by_relay=by_relay)
    return dict(made.env)


def test_behind_a_relay_a_sandbox_is_told_no_address_and_tries_for_longer() -> None:
    made = [environment(by_relay) for by_relay in (False, True)]
    only = [dict(one.items() - other.items()) for one, other in (made, made[::-1])]
    assert only == [
        {"AIRFLOW__CORE__EXECUTION_API_SERVER_URL": LOCAL},
        {"AIRFLOW__WORKERS__EXECUTION_API_RETRIES": "10"},
    ]


def test_what_the_site_says_of_retries_goes_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__WORKERS__EXECUTION_API_RETRIES", "3")
    assert environment(by_relay=True)["AIRFLOW__WORKERS__EXECUTION_API_RETRIES"] == "3"


def test_a_ticket_is_put_into_the_workload() -> None:
    ticket = {"id": "a", "key": "b", "addresses": ["h:1"]}
    assert json.loads(with_ticket('{"token":"t"}', ticket)) == {"modalflow_relay": ticket, "token": "t"}
