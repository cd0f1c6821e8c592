"""``modalflow schema``, and that what the docs show satisfies it."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from modalflow.cli.main import main
from modalflow.provider.command_table import COMMANDS
from modalflow.translation.keys import BACKENDS, KEYS
from modalflow.translation.schema import NOT_IN_TEMPLATES, SCHEMAS, config_schema, task_schema, text_of

ROOT = Path(__file__).parents[2]
PAGES = sorted({ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *(ROOT / "docs" / "reference").glob("*.md")})
BLOCK = re.compile(r"^```(yaml|python)\n(.*?)^```", re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("name", sorted(SCHEMAS))
def test_each_schema_is_one(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema", "--of", name]) == 0
    out = capsys.readouterr().out
    assert out == text_of(name)
    jsonschema.Draft202012Validator.check_schema(json.loads(out))


def test_the_schema_of_templates_is_the_default(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema"]) == 0
    assert json.loads(capsys.readouterr().out) == task_schema()


def test_every_key_is_in_them() -> None:
    modal: dict[str, Any] = config_schema()["properties"]["modal"]  # type: ignore[index]
    assert set(modal["properties"]) == set(KEYS)
    spec: dict[str, Any] = task_schema()["properties"]["spec"]  # type: ignore[index]
    assert set(spec["properties"]) == set(KEYS) - set(NOT_IN_TEMPLATES)


def test_the_table_of_commands_knows_the_names() -> None:
    """It imports nothing, so it spells them itself."""
    choices = [dict(argument.options).get("choices") for name in ("schema", "translate") for argument in COMMANDS[name].arguments]
    assert tuple(SCHEMAS) in choices
    assert BACKENDS in choices


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({"modal": {"gpuu": "H100"}}, "Additional properties are not allowed ('gpuu' was unexpected)"),
        ({"pod_overide": {}}, "Additional properties are not allowed ('pod_overide' was unexpected)"),
        ({"modal": {"env": {"A": 1}}}, "1 is not of type 'string', 'null'"),
        ({"pod_override": {"spec": {"containers": {}}}}, "{} is not of type 'array'"),
    ],
)
def test_the_schema_of_executor_configs_finds_mistakes(config: dict[str, Any], told: str) -> None:
    with pytest.raises(jsonschema.ValidationError) as caught:
        jsonschema.validate(config, config_schema())
    assert caught.value.message == told


def templates_in_docs() -> Iterator[Any]:
    for page in PAGES:
        for kind, text in BLOCK.findall(page.read_text(encoding="utf-8")):
            if kind == "yaml" and "kind: ModalTask" in text:
                yield from (pytest.param(document, id=page.name) for document in yaml.safe_load_all(text))
    for path in sorted((ROOT / "docs" / "examples" / "templates").glob("*.yaml")):
        if path.stem != "broken":
            yield pytest.param(yaml.safe_load(path.read_text(encoding="utf-8")), id=path.name)


def configs_in_docs() -> Iterator[Any]:
    """Yield each ``executor_config={...}`` of literals, of the pages and of the DAGs that ship."""
    sources = [
        (page.name, text) for page in PAGES for kind, text in BLOCK.findall(page.read_text(encoding="utf-8")) if kind == "python"
    ]
    dags = (*(ROOT / "modalflow" / "example_dags").glob("*.py"), ROOT / "docs" / "examples" / "training.py")
    sources += [(path.name, path.read_text(encoding="utf-8")) for path in sorted(dags) if path.stem != "modal_typo"]
    for name, text in sources:
        for match in re.finditer(r"executor_config=(?=\{)", text):
            config = _literal(text[match.end() :])
            if config is not None:
                yield pytest.param(config, id=name)


def _literal(text: str) -> object:
    """Return the literal that ``text`` starts with; ``None`` if it is none (``k8s.V1Pod(...)``)."""
    for end in (found.end() for found in re.finditer(r"\}", text)):
        try:
            return ast.literal_eval(text[:end])
        except (SyntaxError, ValueError):
            continue
    return None


@pytest.mark.parametrize("document", list(templates_in_docs()))
def test_templates_of_the_docs_satisfy_the_schema(document: object) -> None:
    jsonschema.validate(document, task_schema())


@pytest.mark.parametrize("config", list(configs_in_docs()))
def test_executor_configs_of_the_docs_satisfy_the_schema(config: object) -> None:
    jsonschema.validate(config, config_schema())


def test_there_is_something_to_look_at() -> None:
    assert len(list(templates_in_docs())) >= 2
    assert len(list(configs_in_docs())) >= 10
