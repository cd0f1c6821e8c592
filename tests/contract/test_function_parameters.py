"""Plans of Functions against the client as installed: what ``with_options`` takes, and what it would send."""

from __future__ import annotations

import inspect
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import modal
import pytest
from modal._function_variants import _FunctionOptions
from modal._utils.async_utils import synchronizer

from modalflow.modal_gateway.function_parameters import function_kwargs
from modalflow.translation.functions.plan import FunctionPlan
from modalflow.translation.plan import ImagePlan, SecretPlan, VolumePlan

if TYPE_CHECKING:
    from modalflow.emulator import EmulatorThread

FULL = FunctionPlan(
    app="modalflow",
    function="Runner.run",
    image=ImagePlan(reference=None),
    gpu_candidates=("H100:2", "A100-80GB:2"),
    cpu=(2.0, 4.0),
    memory=(1024, 2048),
    secrets=(SecretPlan(name="hf"),),
    volumes=(VolumePlan(mount_path="/models", name="models", read_only=True, sub_path="v1"),),
    region=("us-east", "us-west"),
    cloud="aws",
    longest=21_600,
    env={"A": "1"},
    timeout=7200,
    tags={"dag_id": "etl"},
)


def test_with_options_takes_every_argument_of_a_plan_and_no_plan_has_another() -> None:
    options = inspect.signature(modal.Function.with_options)
    arguments = {**function_kwargs(FULL, "H100:2"), "secrets": [], "volumes": {}}
    options.bind(modal.Function.from_name("modalflow", "runner"), **arguments)
    assert set(arguments) == {"cpu", "memory", "gpu", "timeout", "region", "cloud", "secrets", "volumes"}
    assert set(arguments) <= set(inspect.signature(modal.Cls.with_options).parameters), "a Runner can be a class as well"
    assert options.parameters["gpu"].annotation == "str | None" or options.parameters["gpu"].annotation == (str | None)


def test_a_bare_task_leaves_the_function_as_it_was_deployed() -> None:
    bare = FunctionPlan(app="modalflow", function="Runner.run", image=ImagePlan(reference=None))
    assert function_kwargs(bare, None) == {"timeout": 86_400}


def test_a_candidate_with_regions_of_its_own_is_called_there_and_has_its_own_pool() -> None:
    paired = replace(FULL, candidate_regions=(("us-east",), ()))
    assert [function_kwargs(paired, gpu).get("region") for gpu in paired.gpu_candidates] == [["us-east"], ["us-east", "us-west"]]
    assert ['"region":["us-east"]' in key for key in paired.pool_keys] == [True, False]


def test_the_client_makes_a_variant_of_the_function() -> None:
    variant = modal.Function.from_name("modalflow", "runner").with_options(**function_kwargs(FULL, "A100-80GB:2"))
    assert repr(variant) == "modal.Function.from_name('modalflow', 'runner').with_options(...)"


@pytest.mark.emulated
def test_what_the_client_would_send_to_bind_the_options(modal_emulator: EmulatorThread) -> None:
    with modal.Client.from_env() as client:
        modal.Secret.objects.create("hf", {"TOKEN": "x"}, client=client)
        secret = modal.Secret.from_name("hf").hydrate(client)
        volume = modal.Volume.from_name("models", create_if_missing=True).hydrate(client)
        inner: Any = synchronizer
        mounted: Any = volume.with_mount_options(read_only=True, sub_path="v1")
        plain: dict[str, Any] = dict(function_kwargs(FULL, "H100:2"))
        sent = _FunctionOptions.new(
            **plain,
            secrets=[inner._translate_in(secret)],
            volumes={"/models": inner._translate_in(mounted)},
        ).to_proto()
    resources = sent.resources
    assert (resources.milli_cpu, resources.milli_cpu_max, resources.memory_mb, resources.memory_mb_max) == (
        2000,
        4000,
        1024,
        2048,
    )
    assert (resources.gpu_config.gpu_type, resources.gpu_config.count) == ("H100", 2)
    assert (sent.timeout_secs, sent.cloud_provider_str) == (21_600, "aws")
    assert list(sent.scheduler_placement.regions) == ["us-east", "us-west"]
    assert (list(sent.secret_ids), sent.replace_secret_ids, sent.replace_volume_mounts) == ([secret.object_id], True, True)
    [mount] = sent.volume_mounts
    assert (mount.mount_path, mount.volume_id, mount.read_only, mount.sub_path) == ("/models", volume.object_id, True, "v1")
    assert not sent.HasField("retry_policy"), "a try belongs to Airflow"
