"""Templates on disk: found, kept until they change, and never a way out of their folders."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from modalflow.templates import TemplateFolders, parse_template, shipped_folder
from modalflow.translation.diagnostics import Diagnostic
from modalflow.translation.inputs import LoadedTemplate, TaskContext, TranslationOptions
from modalflow.translation.origins import Origin
from modalflow.translation.schema import FILES, SCHEMAS, task_schema, text_of
from modalflow.translation.translate import translate

ASKED = Origin(layer="test", path="asked")
SHIPPED = ["cpu", "default", "gpu-inference", "gpu-training"]


def load(folders: TemplateFolders, name: str) -> LoadedTemplate:
    found = folders.load(name, asked_by=ASKED)
    assert isinstance(found, LoadedTemplate), str(found)
    return found


def refusal(folders: TemplateFolders, name: str) -> str:
    found = folders.load(name, asked_by=ASKED)
    assert isinstance(found, Diagnostic)
    return str(found)


def test_shipped_templates_are_found_and_translate() -> None:
    assert TemplateFolders().names() == SHIPPED
    for name in SHIPPED:
        config = {"modal": {"template": name}}
        result = translate(config, context=TaskContext(), options=TranslationOptions(), templates=TemplateFolders())
        assert result.diagnostics == ()


@pytest.mark.parametrize("name", sorted(SCHEMAS))
def test_the_schema_files_are_the_table_of_keys(name: str) -> None:
    """Renew one by ``python -m modalflow.translation.schema NAME > templates/FILE``."""
    assert (shipped_folder() / FILES[name]).read_text(encoding="utf-8") == text_of(name)


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_templates_satisfy_the_schema(name: str) -> None:
    document = yaml.safe_load((shipped_folder() / f"{name}.yaml").read_text(encoding="utf-8"))
    jsonschema.validate(document, task_schema())


@pytest.mark.parametrize("spec", [{"gpus": "A10G"}, {"env": {"A": 1}}, {"gpu": {"memry": "40Gi"}}, {"template": "cpu"}])
def test_the_schema_finds_mistakes(spec: dict[str, Any]) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"apiVersion": "modalflow/v1", "kind": "ModalTask", "spec": spec}, task_schema())


def test_a_users_folder_comes_first(tmp_path: Path) -> None:
    (tmp_path / "cpu.yml").write_text("kind: ModalTask\nspec: {cpu: 9}", encoding="utf-8")
    found = load(TemplateFolders([tmp_path]), "cpu")
    assert found.document == {"kind": "ModalTask", "spec": {"cpu": 9}}
    assert found.file == str(tmp_path / "cpu.yml")
    assert found.name == "cpu"


def test_lines_of_keys_and_of_list_items(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("kind: Pod\nspec:\n  containers:\n    - name: base\n      image: x\n", encoding="utf-8")
    lines = load(TemplateFolders([tmp_path]), "a").lines
    assert lines["kind",] == 1
    assert lines["spec", "containers"] == 3
    assert lines["spec", "containers", 0, "image"] == 5


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    folders = TemplateFolders([tmp_path])
    path.write_text("kind: A", encoding="utf-8")
    first = load(folders, "a")
    assert load(folders, "a").document is first.document
    path.write_text("kind: B", encoding="utf-8")
    os.utime(path, ns=(1, 1))
    assert load(folders, "a").document == {"kind": "B"}


def test_an_absolute_path_is_taken_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "pod.yaml"
    path.write_text("kind: Pod", encoding="utf-8")
    assert load(TemplateFolders(), str(path)).name == "pod"


def test_names_do_not_leave_their_folder(tmp_path: Path) -> None:
    inside = tmp_path / "templates"
    inside.mkdir()
    (tmp_path / "secret.yaml").write_text("kind: Pod", encoding="utf-8")
    (inside / "link.yaml").symlink_to(tmp_path / "secret.yaml")
    folders = TemplateFolders([inside])
    assert refusal(folders, "../secret") == "asked: \"../secret\" leaves the template folders; write a name without '..'"
    assert refusal(folders, "link") == f'asked: "link" is a link that leads out of {inside}'


def test_a_link_inside_its_folder_is_followed(tmp_path: Path) -> None:
    """A mounted ConfigMap is made of such links."""
    (tmp_path / "..data").mkdir()
    (tmp_path / "..data" / "a.yaml").write_text("kind: Pod", encoding="utf-8")
    (tmp_path / "a.yaml").symlink_to("..data/a.yaml")
    assert load(TemplateFolders([tmp_path]), "a").document == {"kind": "Pod"}


def test_a_missing_template_is_suggested(tmp_path: Path) -> None:
    assert refusal(TemplateFolders([tmp_path]), "gpu-trainng") == 'asked: no template "gpu-trainng"; did you mean "gpu-training"?'
    assert refusal(TemplateFolders([tmp_path / "none"]), "x") == f'asked: no template "x"; known: {", ".join(SHIPPED)}'
    assert refusal(TemplateFolders(), "/none/x.yaml") == 'asked: no file "/none/x.yaml"'
    assert refusal(TemplateFolders(), "a\0b").startswith("asked: ")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        pytest.param(
            "a: [", "template bad ({file}:1): not YAML: expected the node content, but found '<stream end>'", id="cut off"
        ),
        pytest.param("- a", "template bad ({file}): expected a mapping with apiVersion, kind and spec", id="a list"),
        pytest.param("", "template bad ({file}): expected a mapping with apiVersion, kind and spec", id="empty"),
        pytest.param("a: 1\nb: 2\na: 3", 'template bad ({file}:3): the key "a" is there twice', id="a key twice"),
        pytest.param("a: 1\n---\nb: 2", "template bad ({file}:2): not YAML: but found another document", id="two documents"),
        pytest.param(
            "a: !!python/object/apply:os.system [x]",
            "template bad ({file}:1): a template holds plain data, no !!python/object/apply:os.system",
            id="a Python object",
        ),
        pytest.param("a: !!int x", 'template bad ({file}:1): not YAML: "x" is no valid int', id="no int"),
        pytest.param("? [a]\n: 1", "template bad ({file}:1): expected a plain key", id="a list as key"),
        pytest.param("a: \0", "template bad ({file}): not YAML: it holds a character that YAML does not allow", id="NUL"),
    ],
)
def test_malformed_files(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text, encoding="utf-8")
    assert refusal(TemplateFolders([tmp_path]), "bad") == told.replace("{file}", str(path))


def test_a_file_that_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_bytes(b"\xff\xfe\xff")
    assert refusal(TemplateFolders([tmp_path]), "bad") == 'asked: the template "bad" cannot be read: not UTF-8 text'


def test_merge_keys_and_anchors_as_safe_load_reads_them() -> None:
    text = "base: &b {a: 1, b: 2}\nother: &o {b: 3, c: 4}\nmine:\n  <<: [*b, *o]\n  a: 9\n"
    assert parse_template(text).document == yaml.safe_load(text)


def test_aliases_cannot_fill_the_memory() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 9)]
    assert parse_template("\n".join(lines)).problem == "more than 20000 values or 64 levels"
    assert parse_template("a: &a [*a]").problem in {"more than 20000 values or 64 levels", "nested more than 64 levels deep"}


def test_only_files_are_templates(tmp_path: Path) -> None:
    (tmp_path / "folder.yaml").mkdir()
    os.mkfifo(tmp_path / "pipe.yaml")
    folders = TemplateFolders([tmp_path])
    assert folders.names() == SHIPPED
    assert refusal(folders, "pipe") == f'asked: no template "pipe"; known: {", ".join(SHIPPED)}'


def test_a_file_is_read_no_further_than_its_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("modalflow.templates.LARGEST_FILE", 10)
    path = tmp_path / "long.yaml"
    path.write_text("#" * 11, encoding="utf-8")
    assert refusal(TemplateFolders([tmp_path]), "long") == f"template long ({path}): larger than 10 bytes"
