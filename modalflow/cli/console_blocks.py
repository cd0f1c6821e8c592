"""Runs the ``console`` blocks of a page again, so that what the page shows is what the commands print.

``python -m modalflow.cli.console_blocks docs/commands.md`` writes the page anew: in each block the line ``$ modalflow …`` stays,
and what follows it is replaced by what it prints now, in ``examples/`` beside the page. A test holds the page to that.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import sys
import tempfile
from pathlib import Path

BLOCK = re.compile(r"^```console\n\$ modalflow (?P<arguments>[^\n]*)\n.*?^```$", re.MULTILINE | re.DOTALL)
LONGEST = 80
"""Lines of output that a page shows; the rest is cut, and said to be."""
COLUMNS = "100"


def refreshed(text: str) -> str:
    """Return the page with the output of now. Changes the process's folder while it runs."""
    return BLOCK.sub(lambda block: _block(block["arguments"]), text)


def _block(arguments: str) -> str:
    from modalflow.cli.main import main  # noqa: PLC0415 - after the environment is set

    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        code = main(shlex.split(arguments))
    lines = [line.rstrip() for line in out.getvalue().rstrip().splitlines()]
    if len(lines) > LONGEST:
        lines = [*lines[:LONGEST], f"… ({len(lines) - LONGEST} more lines)"]
    ended = [f"(exit code {code})"] if code else []
    return "\n".join(["```console", f"$ modalflow {arguments}", *lines, *ended, "```"])


def main() -> None:
    """Write the page named on the command line anew."""
    page = Path(sys.argv[1]).resolve()
    with tempfile.TemporaryDirectory() as home:
        for name in [name for name in os.environ if name.startswith("AIRFLOW")]:
            del os.environ[name]
        os.environ |= {"AIRFLOW_HOME": home, "COLUMNS": COLUMNS, "AIRFLOW__CORE__DAGS_FOLDER": str(page.parent / "examples")}
        os.chdir(page.parent / "examples")
        page.write_text(refreshed(page.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
