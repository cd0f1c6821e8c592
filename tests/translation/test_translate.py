"""The entry of translation: total, pure, and honest about the parse-time subset."""

from __future__ import annotations

from modalflow.settings import read_settings
from modalflow.translation.inputs import LoadedTemplate, TaskContext
from modalflow.translation.origins import Origin
from modalflow.translation.translate import translate

OPTIONS = read_settings({}).translation


class NoTemplates:
    def load(self, name: str, *, asked_by: Origin) -> LoadedTemplate:
        raise AssertionError(name)


def test_the_short_form_gives_the_gpu_as_written() -> None:
    result = translate({"modal": {"gpu": "a10g"}}, context=TaskContext(), options=OPTIONS, templates=NoTemplates())
    assert result.plan is not None
    assert result.plan.gpu_candidates == ("A10G",)
    assert result.plan.backend == "sandbox-v1"
    assert str(result.origins["gpu_candidates"]) == 'executor_config["modal"]["gpu"]'
