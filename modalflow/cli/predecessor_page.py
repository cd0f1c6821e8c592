"""The tables of ``docs/coming-from-modalflow-0.3.md``: ``python -m modalflow.cli.predecessor_page FILE`` puts them there.

In: ``modalflow.predecessor``. Out: everything of the page from its first table on; what stands before it is written by hand.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from modalflow.predecessor import DEPLOY_FLAGS, OBJECTS, SYNC_FLAGS, VARIABLES, Former

BEGIN = "## `modalflow deploy`\n"
TABLES: tuple[tuple[str, Sequence[Former]], ...] = (
    ("`modalflow deploy`", DEPLOY_FLAGS),
    ("`modalflow sync`", SYNC_FLAGS),
    ("Variables", VARIABLES),
    ("Objects and names", OBJECTS),
)


def tables() -> str:
    """Return the generated part of the page."""
    return "\n".join(line for title, rows in TABLES for line in _table(title, rows))


def _table(title: str, rows: Sequence[Former]) -> Iterator[str]:
    yield f"## {title}\n"
    yield "| 0.3.1 | what it was | here |"
    yield "|---|---|---|"
    for row in rows:
        name = row.name if "`" in row.name else f"`{row.name}`"
        yield f"| {name} | {row.was} | {row.here} |"
    yield ""


def renewed(page: str) -> str:
    """Return the page with its tables as the code has them."""
    return page.partition(BEGIN)[0] + tables()


def main(argv: Sequence[str]) -> int:
    """Write the tables into the page."""
    path = Path(argv[0])
    path.write_text(renewed(path.read_text(encoding="utf-8")), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
