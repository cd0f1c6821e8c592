"""The table of options: what each text means, and what a wrong one is told."""

from __future__ import annotations

import pytest

from modalflow.option_table import OPTIONS
from modalflow.settings import LaunchSettings, Settings, SettingsError, read_settings
from modalflow.translation.gpus.caps import GpuCaps
from modalflow.translation.plan import ImagePlan


def test_with_nothing_set_these_defaults_are_promised() -> None:
    settings = read_settings({})
    assert settings.launch == LaunchSettings(
        app_name="modalflow",
        environment=None,
        deployment="airflow",
        handover_timeout=60.0,
        create_timeout=120.0,
        rpc_timeout=30.0,
        launch_concurrency=64,
        launch_retries=5,
        infra_retries=3,
        cpu_create_rate=20.0,
        gpu_create_rate=5.0,
        max_gpus=GpuCaps(),
        queued_timeout=600.0,
        logs_volume="modalflow-logs",
    )
    assert dict(settings.translation.task_keys) == {"image": "auto", "memory": 512, "timeout": "24h"}
    assert settings.translation.gpu_wait == 480.0
    assert settings.translation.on_unsupported == "warn"
    assert (settings.allow_long_gpu_wait, settings.dags_volume, settings.worker_env) == (False, None, {})
    assert settings.launch == Settings().launch, "the dataclass and the table say the same"


def test_a_rate_of_nothing_is_no_limit() -> None:
    launch = read_settings({"cpu_create_rate": "0", "gpu_create_rate": "0.5", "max_gpus": '{"*": 16, "A10G": 8}'}).launch
    assert (launch.cpu_create_rate, launch.gpu_create_rate) == (None, 0.5)
    assert launch.max_gpus == GpuCaps(total=16, models={"A10": 8})


def test_every_kind_of_text_is_read() -> None:
    image = ImagePlan(reference=None, python_version="3.11")
    settings = read_settings(
        {
            "deployment": "prod-eu.1",
            "cpu": "[0.5, 2]",
            "memory": "2Gi",
            "env": '{"A": "1"}',
            "secrets": "hf, warehouse,",
            "region": '["us", "eu"]',
            "queue_templates": '{"gpu": "gpu-inference"}',
            "template_folders": "/a,/b",
            "allow_long_gpu_wait": "yes",
            "on_unsupported": " Error ",
            "gpu_wait": "0",
            "worker_env": '{"B": "2"}',
        },
        auto_image=image,
    )
    assert settings.launch.deployment == "prod-eu.1"
    assert dict(settings.translation.task_keys) == {
        "image": "auto",
        "cpu": [0.5, 2],
        "memory": "2Gi",
        "env": {"A": "1"},
        "secrets": ["hf", "warehouse"],
        "region": ["us", "eu"],
        "timeout": "24h",
    }
    assert settings.translation.queue_templates == {"gpu": "gpu-inference"}
    assert settings.translation.auto_image == image
    assert (settings.translation.on_unsupported, settings.translation.gpu_wait) == ("error", 0.0)
    assert (settings.template_folders, settings.allow_long_gpu_wait, settings.worker_env) == (("/a", "/b"), True, {"B": "2"})


@pytest.mark.parametrize(
    ("option", "text", "told"),
    [
        ("gpu_wait", "soon", "gpu_wait: expected seconds; got 'soon'"),
        ("gpu_wait", "-1", "gpu_wait: expected seconds; got '-1'"),
        ("gpu_wait", "inf", "gpu_wait: expected seconds; got 'inf'"),
        ("rpc_timeout", "0", "rpc_timeout: expected seconds, more than 0; got '0'"),
        ("launch_concurrency", "0", "launch_concurrency: expected a whole number of 1 or more; got '0'"),
        ("cpu_create_rate", "fast", "cpu_create_rate: expected creates a second; 0 for no limit; got 'fast'"),
        (
            "max_gpus",
            '{"V100": 4}',
            (
                "max_gpus: expected a whole number, or a JSON object of Modal's GPU models to whole numbers, "
                """e.g. {"*": 16, "H100": 8}; got '{"V100": 4}'"""
            ),
        ),
        ("launch_concurrency", "2.5", "launch_concurrency: expected a whole number of 1 or more; got '2.5'"),
        ("launch_retries", "-1", "launch_retries: expected a whole number of 0 or more; got '-1'"),
        ("deployment", "a b", "deployment: expected 1 to 63 letters, digits, '-', '_' and '.'; got 'a b'"),
        ("allow_long_gpu_wait", "perhaps", "allow_long_gpu_wait: expected True or False; got 'perhaps'"),
        ("on_unsupported", "never", "on_unsupported: expected error, warn or ignore; got 'never'"),
        (
            "allow",
            "spec.args",
            (
                'allow: expected a JSON list of fields of a pod, e.g. ["spec.hostNetwork", "spec.containers[*].args", '
                "\"spec.volumes[*].nfs\"]; got 'spec.args'"
            ),
        ),
        ("allow", '["spec.hostNetwrk"]', 'allow[0]: "spec.hostNetwrk" is no field of a pod; did you mean "spec.hostNetwork"?'),
        ("allow", '["spec.hostNetwork", "spec"]', 'allow[1]: "spec" is too wide; name the fields, e.g. spec.hostNetwork'),
        (
            "allow",
            '["spec..args"]',
            'allow[0]: "spec..args" is no path of a field; write e.g. spec.hostNetwork or spec.containers[*].args',
        ),
        ("allow", "[3]", 'allow[0]: "3" is no path of a field; write e.g. spec.hostNetwork or spec.containers[*].args'),
        ("oidc", "aws", "oidc: expected True or False, e.g. True; got 'aws'"),
        ("buckets", '{"raw": {"secrets": "aws"}}', """buckets["raw"]: unknown key "secrets"; did you mean "secret"?"""),
        (
            "namespaces",
            '{"ml": "prod"}',
            (
                "namespaces: expected a JSON object of names to ENVIRONMENT/APP, e.g. "
                """{"ml": "prod/ml-tasks", "etl": "/etl", "airflow": "", "vision": {"conn_id": "modal_vision"}}; """
                """got '{"ml": "prod"}'"""
            ),
        ),
        ("env", "A=1", """env: expected a JSON object, e.g. {"HF_HOME": "/models"}; the value is not shown"""),
        ("env", "[]", """env: expected a JSON object, e.g. {"HF_HOME": "/models"}; the value is not shown"""),
        ("worker_env", '{"A": 1}', "worker_env: 'A': expected text, got int; write it in quotes"),
        ("gpu_waits", "1", 'gpu_waits: unknown option; did you mean "gpu_wait"?'),
        ("zzz", "1", "zzz: unknown option"),
    ],
)
def test_a_wrong_text_is_told_what_to_write(option: str, text: str, told: str) -> None:
    with pytest.raises(SettingsError) as raised:
        read_settings({option: text})
    assert str(raised.value) == f"[modal_executor] {told}"


def test_an_empty_text_is_the_default_except_where_it_switches_off() -> None:
    emptied = read_settings({option.name: "" for option in OPTIONS})
    assert emptied.launch.logs_volume is None
    assert read_settings({option.name: "" for option in OPTIONS if not option.can_be_empty}) == read_settings({})


def test_settings_can_be_the_key_of_what_is_kept_for_a_process() -> None:
    """The API server keeps one connection for the settings: reading a live log failed where they had no hash."""
    settings = read_settings({"max_gpus": '{"H100": 8, "*": 16}'}).launch
    assert hash(settings) == hash(read_settings({"max_gpus": '{"H100": 8, "*": 16}'}).launch)
