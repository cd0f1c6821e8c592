"""Tables for people: columns where every path, name and address stays whole, else one record a row.

In: headings and rows of ``Text``. Out: what is printed to the console. A path that is broken at a column's edge could not be
copied, so a table that is too narrow for its longest word is written as records, whose lines only the terminal wraps.
"""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

NARROWEST = 100
"""Columns of a table on something that is no terminal."""
FRAME = 3
"""What a column costs beside its words: a space on each side and a line."""


def console() -> Console:
    """Return a console for stdout that keeps tables readable in a pipe."""
    plain = Console(soft_wrap=False, highlight=False)
    return plain if plain.is_terminal else Console(soft_wrap=False, highlight=False, width=max(NARROWEST, plain.width))


def print_table(out: Console, headings: Sequence[str], rows: Sequence[Sequence[Text]], *, titled: int = 2) -> None:
    """Print the rows; as records, where the console is too narrow. The first ``titled`` cells are a record's first line."""
    texts = [tuple(headings), *(tuple(cell.plain for cell in row) for row in rows)]
    widths = _widths([[text[index] for text in texts] for index in range(len(headings))], out.width)
    if widths is None:
        _print_records(out, headings, rows, titled)
        return
    table = Table(pad_edge=False)
    for heading, width in zip(headings, widths, strict=True):
        table.add_column(heading, overflow="fold", width=width)
    for row in rows:
        table.add_row(*row)
    out.print(table)


def _widths(columns: Sequence[Sequence[str]], room: int) -> list[int] | None:
    """Return the width of each column, or ``None`` if some word has no room."""
    room -= FRAME * len(columns) - 1
    least = [max(len(word) for cell in column for word in (*cell.split(), "")) for column in columns]
    widths = [max(len(line) for cell in column for line in (*cell.splitlines(), "")) for column in columns]
    if sum(least) > room:
        return None
    while sum(widths) > room:
        widest = max((index for index in range(len(widths)) if widths[index] > least[index]), key=widths.__getitem__)
        widths[widest] -= 1
    return widths


def _print_records(out: Console, headings: Sequence[str], rows: Sequence[Sequence[Text]], titled: int) -> None:
    for row in rows:
        out.print(Text(": ").join(cell for cell in row[:titled] if cell.plain), soft_wrap=True)
        for heading, cell in zip(headings[titled:], row[titled:], strict=True):
            if cell.plain:
                lines = cell.plain.replace("\n", "\n" + " " * (len(heading) + 4))
                out.print(Text(f"  {heading}: {lines}"), soft_wrap=True)
