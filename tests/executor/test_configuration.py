"""Airflow's configuration into settings; what start refuses and what it warns of."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from airflow.configuration import AirflowConfigParser, conf

from modalflow.executor.configuration import (
    ConfigurationView,
    check_gpu_wait,
    load_settings,
    logging_warning,
    reachability_warning,
    with_longest_gpu_wait,
)
from modalflow.option_table import OPTIONS
from modalflow.settings import Settings, SettingsError, read_settings


def view(team: str | None = None, parser: AirflowConfigParser = conf) -> ConfigurationView:
    return ConfigurationView(conf=parser, team=team, environ=os.environ)


def test_with_nothing_set_every_option_has_its_default() -> None:
    assert load_settings(view()) == read_settings({})
    assert load_settings(view()) != Settings(), "the options table adds defaults of its own, such as memory"


def test_options_come_from_airflow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__MODAL_EXECUTOR__DEFAULT_GPU", "L4")
    monkeypatch.setenv("AIRFLOW__MODAL_EXECUTOR__QUEUE_TEMPLATES", '{"gpu": "gpu-inference"}')
    settings = load_settings(view())
    assert settings.translation.default_gpu == "L4"
    assert settings.translation.queue_templates == {"gpu": "gpu-inference"}


def test_a_misspelt_option_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__MODAL_EXECUTOR__DEFAULT_GPUU", "L4")
    with pytest.raises(SettingsError) as raised:
        load_settings(view())
    assert str(raised.value) == '[modal_executor] default_gpuu: unknown option; did you mean "default_gpu"?'


def test_an_option_that_does_not_parse_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__MODAL_EXECUTOR__ENV", "A=1")
    with pytest.raises(SettingsError) as raised:
        load_settings(view())
    told = """[modal_executor] env: expected a JSON object, e.g. {"HF_HOME": "/models"}; the value is not shown"""
    assert str(raised.value) == told


def test_an_empty_text_brings_back_the_default_or_switches_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__MODAL_EXECUTOR__APP_NAME", "")
    monkeypatch.setenv("AIRFLOW__MODAL_EXECUTOR__LOGS_VOLUME", "")
    launch = load_settings(view()).launch
    assert (launch.app_name, launch.logs_volume) == ("modalflow", None)
    assert read_settings({}).launch.logs_volume == "modalflow-logs"


class TestTeams:
    """Airflow's own view of a team knows nothing of the global section; ours falls back to it."""

    def test_the_global_option_holds_for_a_team(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AIRFLOW__MODAL_EXECUTOR__DEFAULT_GPU", "L4")
        assert load_settings(view("ml")).translation.default_gpu == "L4"

    def test_the_team_s_own_wins_even_if_it_says_the_default(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AIRFLOW__MODAL_EXECUTOR__APP_NAME", "shared")
        monkeypatch.setenv("AIRFLOW__ML___MODAL_EXECUTOR__APP_NAME", "modalflow")
        assert load_settings(view("ml")).launch.app_name == "modalflow"
        assert load_settings(view("etl")).launch.app_name == "shared"

    def test_a_team_s_section_of_the_file(self, monkeypatch: pytest.MonkeyPatch) -> None:
        parser = AirflowConfigParser()
        parser.read_string("[modal_executor]\napp_name = shared\n[ml=modal_executor]\napp_name = ours\n")
        assert load_settings(view("ml", parser)).launch.app_name == "ours"
        assert load_settings(view("etl", parser)).launch.app_name == "shared"

    def test_a_team_s_misspelt_option_is_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AIRFLOW__ML___MODAL_EXECUTOR__APP_NAM", "ours")
        with pytest.raises(SettingsError, match="app_nam: unknown option"):
            load_settings(view("ml"))


class TestGpuWait:
    """A wait longer than Airflow's patience never gets its GPU."""

    def test_a_longer_wait_than_airflow_s_is_refused_naming_both(self) -> None:
        with pytest.raises(SettingsError) as raised:
            check_gpu_wait(read_settings({"gpu_wait": "900"}), 600.0)
        assert str(raised.value) == (
            "[modal_executor] gpu_wait = 900 is more than [scheduler] task_queued_timeout = 600: Airflow would take a task back "
            "while it still waits for its GPU. Raise task_queued_timeout above 900, lower gpu_wait, or set [modal_executor] "
            "allow_long_gpu_wait = True"
        )

    @pytest.mark.parametrize("options", [{}, {"gpu_wait": "600"}, {"gpu_wait": "900", "allow_long_gpu_wait": "True"}])
    def test_anything_else_passes(self, options: dict[str, str]) -> None:
        check_gpu_wait(read_settings(options), 600.0)


def test_a_foreign_logging_class_is_warned_of() -> None:
    assert logging_warning("modalflow.provider.logging_config.LOGGING_CONFIG") is None
    assert logging_warning("") == (
        "[logging] logging_config_class = (empty): the log of a task on Modal is shown while it runs and gone with its sandbox. "
        "Set [logging] logging_config_class = modalflow.provider.logging_config.LOGGING_CONFIG, for the scheduler and the API "
        "server"
    )
    assert logging_warning("ours.LOGGING") == (
        "[logging] logging_config_class = ours.LOGGING: the log of a task on Modal is shown while it runs and gone with its "
        "sandbox. Set [logging] logging_config_class = modalflow.provider.logging_config.LOGGING_CONFIG, and [modal_executor] "
        "base_logging_config_class = ours.LOGGING, for the scheduler and the API server"
    )


@pytest.mark.parametrize(
    ("url", "modal_server", "warned"),
    [
        ("http://localhost:8080/execution/", "", True),
        ("http://127.0.0.1:8080/execution/", "", True),
        ("http://[::1]:8080/execution/", "", True),
        ("http://10.1.2.3/execution/", "", True),
        ("http://airflow-apiserver:8080/execution/", "", True),
        ("http://airflow.default.svc/execution/", "https://api.modal.com", True),
        ("https://airflow.example.com/execution/", "", False),
        ("https://8.8.8.8/execution/", "", False),
        ("http://localhost:8080/execution/", "http://127.0.0.1:9000", False),
        ("http://localhost:8080/execution/", "http://localhost:9000", False),
    ],
)
def test_an_execution_api_out_of_reach_is_warned_of(url: str, modal_server: str, warned: bool) -> None:
    found = reachability_warning(url, modal_server)
    assert (found is not None) is warned
    if warned:
        assert found == (
            f"The execution API is at {url}, which a sandbox on Modal cannot reach: every task would fail to report. Set "
            "[modal_executor] execution_api = relay, or execution_api_url to a public URL of the API server that ends in "
            "/execution/"
        )


def test_every_option_is_documented_as_text() -> None:
    assert [option.name for option in OPTIONS if not option.description.endswith(".")] == []


def test_the_reference_page_is_up_to_date() -> None:
    from modalflow.provider.options_page import render

    page = Path(__file__).parents[2] / "docs" / "reference" / "options.md"
    assert page.read_text() == render(), "run: make docs"


@pytest.mark.parametrize(("options", "longest"), [({}, 600.0), ({"allow_long_gpu_wait": "True"}, None)])
def test_translation_knows_how_long_airflow_lets_a_task_wait(options: dict[str, str], longest: float | None) -> None:
    assert with_longest_gpu_wait(read_settings(options), 600.0).translation.longest_gpu_wait == longest
