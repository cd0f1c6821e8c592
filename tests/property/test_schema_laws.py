"""What the JSON Schema of ``executor_config["modal"]`` lets through, translation reads: it may refuse a value, never a shape."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modalflow.templates import TemplateFolders
from modalflow.translation.inputs import TaskContext, TranslationOptions
from modalflow.translation.keys import KEYS
from modalflow.translation.schema import modal_schema
from modalflow.translation.translate import translate

SHAPE = re.compile(r"expected .*, got (?:a dict|a list|an int|a float|a bool|text|None|true|false)\b")
"""Texts that refuse a value for what kind of thing it is."""
TEMPLATES = TemplateFolders()
VALIDATOR = jsonschema.Draft202012Validator(modal_schema())
WORDS = st.sampled_from(["A10G", "H100:2", "2", "500m", "4Gi", "1h", ">=40Gi", "us-east", "/w", "a", "name", "8.9"])


def values_of(schema: Mapping[str, Any]) -> st.SearchStrategy[Any]:
    """Return values that a schema of ours accepts; it may give others, which the caller leaves out."""
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    if "anyOf" in schema:
        return st.one_of([values_of(one) for one in schema["anyOf"]])
    kinds = schema.get("type", "object")
    return st.one_of([_of_kind(kind, schema) for kind in (kinds if isinstance(kinds, list) else [kinds])])


def _of_kind(kind: str, schema: Mapping[str, Any]) -> st.SearchStrategy[Any]:
    if kind == "object":
        return _objects(schema)
    if kind == "array":
        items = values_of(schema["items"]) if "items" in schema else WORDS
        return st.lists(items, min_size=schema.get("minItems", 0), max_size=schema.get("maxItems", 3))
    plain: dict[str, st.SearchStrategy[Any]] = {
        "string": WORDS,
        "integer": st.integers(schema.get("minimum", 1), schema.get("maximum", 9)),
        "number": st.one_of(st.integers(1, 9), st.floats(0.5, 9)),
        "boolean": st.booleans(),
        "null": st.none(),
    }
    return plain[kind]


def _objects(schema: Mapping[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    properties = {name: values_of(one) for name, one in schema.get("properties", {}).items()}
    required = set(schema.get("required", ()))
    listed = st.fixed_dictionaries(
        {name: one for name, one in properties.items() if name in required},
        optional={name: one for name, one in properties.items() if name not in required},
    )
    further = schema.get("additionalProperties")
    if not isinstance(further, Mapping):
        return listed
    # A set of GPU models: that there is no model "A" is nothing that the schema knows.
    names = ["H100", "L4"] if "propertyNames" in schema else ["A", "B_C", "/m", "H100"]
    return st.dictionaries(st.sampled_from(names), values_of(further), max_size=3)


@pytest.mark.parametrize("name", sorted(KEYS))
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_no_accepted_value_is_refused_for_its_shape(name: str, data: st.DataObject) -> None:
    value = data.draw(values_of(KEYS[name].schema))
    config = {name: value}
    if not VALIDATOR.is_valid(config):
        return
    result = translate({"modal": config}, context=TaskContext(), options=TranslationOptions(), templates=TEMPLATES)
    assert [str(found) for found in result.errors if SHAPE.search(found.message)] == []
    assert "unknown-key" not in {found.code for found in result.errors}
