"""Files of ``export NAME=value`` lines, for a shell to read with ``.``.

Flows in: variables. Flows out: text, and a file that only its owner can read, because tokens are among them.
``emulator_commands`` and ``modalflow.demo.command`` come next.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from pathlib import Path


def export_lines(environment: Mapping[str, str]) -> str:
    """One ``export`` line a variable, quoted for a POSIX shell."""
    return "".join(f"export {name}={shlex.quote(value)}\n" for name, value in environment.items())


def write_private(path: Path, text: str) -> None:
    """Write or replace ``path`` as a whole, mode 0600. Raises ``OSError``."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
    temporary.replace(path)
