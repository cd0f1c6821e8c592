"""Options as text become settings; every default that the reference promises."""

from __future__ import annotations

import pytest

from modalflow.settings import OPTIONS, LaunchSettings, SettingsError, read_settings
from modalflow.translation.inputs import TranslationOptions
from modalflow.translation.keys import KEYS
from modalflow.translation.plan import ImagePlan


def test_defaults() -> None:
    settings = read_settings({})
    assert settings.launch == LaunchSettings()
    assert settings.translation == TranslationOptions(task_keys={"image": "auto", "memory": 512, "timeout": "24h"})
    assert settings.allow_long_gpu_wait is False
    assert settings.template_folders == ()
    assert settings.execution_api_url is None
    assert settings.dags_volume is None
    assert settings.worker_env == {}


def test_an_empty_text_is_the_default_except_where_it_switches_off() -> None:
    assert read_settings({option.name: "" for option in OPTIONS if option.name != "logs_volume"}) == read_settings({})
    assert read_settings({"logs_volume": ""}).launch.logs_volume is None


def test_everything_set() -> None:
    settings = read_settings(
        {
            "cpu": "[1, 2]",
            "memory": "2Gi",
            "env": '{"A": "1"}',
            "secrets": "a, b",
            "queue_templates": '{"gpu": "gpu-inference"}',
            "template_folders": "/a,/b",
            "on_unsupported": "WARN",
            "allow_long_gpu_wait": "true",
            "gpu_wait": "60",
            "worker_env": '{"X": "1"}',
        },
        auto_image=ImagePlan(reference=None, python_version="3.11"),
    )
    assert settings.translation.task_keys["cpu"] == [1, 2]
    assert settings.translation.task_keys["memory"] == "2Gi"
    assert settings.translation.task_keys["env"] == {"A": "1"}
    assert settings.translation.task_keys["secrets"] == ["a", "b"]
    assert settings.translation.queue_templates == {"gpu": "gpu-inference"}
    assert settings.translation.on_unsupported == "warn"
    assert settings.translation.gpu_wait == 60.0
    assert settings.translation.auto_image.python_version == "3.11"
    assert settings.template_folders == ("/a", "/b")
    assert settings.allow_long_gpu_wait is True
    assert settings.worker_env == {"X": "1"}


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("gpu_wiat", "1", '[modal_executor] gpu_wiat: unknown option; did you mean "gpu_wait"?'),
        ("gpu_wait", "soon", "[modal_executor] gpu_wait: expected seconds; got 'soon'"),
        ("env", "A=1", '[modal_executor] env: expected a JSON object, e.g. {"HF_HOME": "/models"}; got \'A=1\''),
        ("env", "[]", '[modal_executor] env: expected a JSON object, e.g. {"HF_HOME": "/models"}; got \'[]\''),
        ("on_unsupported", "ignore", "[modal_executor] on_unsupported: expected error or warn; got 'ignore'"),
        ("launch_concurrency", "many", "[modal_executor] launch_concurrency: expected a whole number; got 'many'"),
        ("allow_long_gpu_wait", "maybe", "[modal_executor] allow_long_gpu_wait: expected True or False; got 'maybe'"),
        ("worker_env", '{"A": 1}', "[modal_executor] worker_env: 'A': expected text, got 1; write it in quotes"),
    ],
)
def test_an_option_that_cannot_be_used(name: str, text: str, told: str) -> None:
    with pytest.raises(SettingsError) as caught:
        read_settings({name: text})
    assert str(caught.value) == told


def test_every_option_explains_itself() -> None:
    names = [option.name for option in OPTIONS]
    assert len(set(names)) == len(names)
    assert all(option.description.endswith(".") and option.expects for option in OPTIONS)


def test_options_that_are_task_keys_are_modal_keys() -> None:
    assert {option.name for option in OPTIONS if option.task_key} <= set(KEYS)
