"""JSON Schemas of what tasks and templates may say, made from the table of keys.

``python -m modalflow.translation.schema template > templates/modal-task.schema.json`` renews a shipped file (``FILES`` has all);
a test holds them equal. ``modalflow schema`` prints the same. A schema knows shapes, names and literals; what a text says (a
quantity, the name of a GPU) only translation knows.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping

from modalflow.translation.keys import KEYS
from modalflow.translation.layers import API_VERSION

NOT_IN_TEMPLATES = ("template", "execution_timeout")
"""Keys that only an ``executor_config`` has."""
DIALECT = "https://json-schema.org/draft/2020-12/schema"

_NAME: Mapping[str, object] = {"type": "string", "minLength": 1}


def task_schema() -> dict[str, object]:
    """Return the schema of ``kind: ModalTask``."""
    return {
        "$schema": DIALECT,
        "title": "modalflow task template",
        "type": "object",
        "additionalProperties": False,
        "required": ["apiVersion", "kind"],
        "properties": {
            "apiVersion": {"const": API_VERSION},
            "kind": {"const": "ModalTask"},
            "metadata": {"type": "object"},
            "extends": {
                "description": "Templates below this one, weakest first.",
                "anyOf": [_NAME, {"type": "array", "items": _NAME}],
            },
            "spec": _keys(NOT_IN_TEMPLATES),
        },
    }


def modal_schema() -> dict[str, object]:
    """Return the schema of ``executor_config["modal"]``."""
    return {"$schema": DIALECT, "title": 'modalflow executor_config["modal"]', **_keys()}


def config_schema() -> dict[str, object]:
    """Return the schema of a whole ``executor_config``. Of a pod it says no more than that it is one."""
    return {
        "$schema": DIALECT,
        "title": "modalflow executor_config",
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "modal": {"description": "What the task needs, in Modal's words.", **_keys()},
            "pod_override": {
                "description": "KubernetesExecutor's form: a pod as plain data, here without its objects.",
                "type": "object",
                "properties": {
                    "apiVersion": {"const": "v1"},
                    "kind": {"const": "Pod"},
                    "metadata": {"type": "object"},
                    "spec": {"type": "object", "properties": {"containers": {"type": "array", "items": {"type": "object"}}}},
                },
            },
            "pod_template_file": {"description": "Name or absolute path of a pod template, or of a task template.", **_NAME},
            "KubernetesExecutor": {
                "description": "The form of Airflow 1.x; write pod_override.",
                "deprecated": True,
                "type": "object",
            },
        },
    }


def _keys(left_out: tuple[str, ...] = ()) -> dict[str, object]:
    keys = {name: {"description": key.meaning, **key.schema} for name, key in KEYS.items() if name not in left_out}
    return {"type": "object", "additionalProperties": False, "properties": keys}


SCHEMAS: Mapping[str, Callable[[], dict[str, object]]] = {
    "template": task_schema,
    "modal": modal_schema,
    "executor-config": config_schema,
}
"""By the name that ``modalflow schema --of`` takes."""
FILES: Mapping[str, str] = {
    "template": "modal-task.schema.json",
    "modal": "modal.schema.json",
    "executor-config": "executor-config.schema.json",
}
"""The shipped files, beside the templates."""


def text_of(name: str) -> str:
    """Return a schema as text."""
    return json.dumps(SCHEMAS[name](), indent=2, ensure_ascii=False) + "\n"


def main() -> None:
    """Write the schema named on the command line, else that of templates, to standard output."""
    sys.stdout.write(text_of(sys.argv[1] if len(sys.argv) > 1 else "template"))


if __name__ == "__main__":
    main()
