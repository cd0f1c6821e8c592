"""The demo's table, drawn by rich: live on a terminal, once at the end elsewhere."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from modalflow.demo.observe import Row

STYLES = {"success": "green", "failed": "red", "running": "cyan"}


def draw(rows: Sequence[Row]) -> Table:
    """One line a task: what was asked, who decided, what Modal got, how it ended."""
    table = Table(title="modalflow demo", title_justify="left", pad_edge=False, expand=False)
    for heading in ("task", "asked for", "decided by", "Modal got", "sandbox", "result", "s"):
        names = heading in ("task", "sandbox")
        table.add_column(heading, overflow="fold", no_wrap=names, justify="right" if heading == "s" else "left")
    for row in rows:
        result = Text(row.state, style=STYLES.get(row.state, ""))
        if row.problem:
            result.append(f"\n{row.problem}", style="bold red")
        elif row.finished:
            result.append(" as expected", style="dim")
        table.add_row(
            row.task,
            Text(row.asked),
            Text(row.decided_by),
            row.got,
            row.sandbox,
            result,
            "" if row.seconds is None else f"{row.seconds:.1f}",
        )
    return table
