"""The JSON Schema of ``kind: ModalTask``, made from the table of keys.

``python -m modalflow.translation.schema > templates/modal-task.schema.json`` renews the shipped file; a test holds them equal.
"""

from __future__ import annotations

import json
import sys

from modalflow.translation.keys import KEYS
from modalflow.translation.layers import API_VERSION

NOT_IN_TEMPLATES = ("template", "execution_timeout")
"""Keys that only an ``executor_config`` has."""


def task_schema() -> dict[str, object]:
    """Return the schema as plain data."""
    names: dict[str, object] = {"type": "string", "minLength": 1}
    keys = {name: {"description": key.meaning, **key.schema} for name, key in KEYS.items() if name not in NOT_IN_TEMPLATES}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
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
                "anyOf": [names, {"type": "array", "items": names}],
            },
            "spec": {"type": "object", "additionalProperties": False, "properties": keys},
        },
    }


def main() -> None:
    """Write the schema to standard output."""
    json.dump(task_schema(), sys.stdout, indent=2, ensure_ascii=False)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
