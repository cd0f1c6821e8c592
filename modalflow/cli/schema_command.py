"""``schema [--of NAME]``: the JSON Schema of templates, of ``executor_config["modal"]`` or of a whole ``executor_config``."""

from __future__ import annotations

import argparse
import sys

from modalflow.translation.schema import text_of


def run(arguments: argparse.Namespace) -> int:
    """Write the schema."""
    sys.stdout.write(text_of(arguments.of))
    return 0
