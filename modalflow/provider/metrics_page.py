"""Prints ``docs/reference/metrics.md`` from the table of metrics: ``python -m modalflow.provider.metrics_page``.

A test fails when the page and the table differ.
"""

from __future__ import annotations

import sys

from modalflow.executor.metrics import METRICS, Metric
from modalflow.launch.sights import WORDS

INTRODUCTION = """# Metrics

What modalflow adds to Airflow's metrics. They go where `[metrics]` sends Airflow's own (StatsD, Datadog, OpenTelemetry), below
the same prefix (`airflow.` unless configured otherwise), from the scheduler. [How to use them](../how-to/observe.md).

Plain StatsD has no tags. With `[metrics] legacy_names_on` (Airflow's default), a metric that has a tag in **bold** is sent
twice, the second time with that tag's value at the end of its name: `modal_executor.failures.out-of-memory`,
`modal_executor.gpus.running.H100`.

`gpu` is the model (`A10` for Modal's `A10G` too, `H100`, …), `cpu` for a task without one. Money is by Modal's
list prices for what a task requests: an estimate, as Modal bills the larger of what is requested and what is used.

This page is generated from the code by `make docs`.

| metric | kind | unit | tags | meaning |
|---|---|---|---|---|
"""

PHASES = """
## Phases

The values of `phase` (and the states of `in_flight`, which has `running` and the states of ending besides), in the order of a
launch's life:

| phase | in words |
|---|---|
"""


def render() -> str:
    """Return the page as Markdown."""
    phases = [f"| `{state.replace(' ', '_')}` | {words} |" for state, words in WORDS.items()]
    return INTRODUCTION + "\n".join(map(_row, METRICS)) + "\n" + PHASES + "\n".join(phases) + "\n"


def _row(metric: Metric) -> str:
    tags = ", ".join(f"**`{tag}`**" if tag == metric.by else f"`{tag}`" for tag in metric.tags)
    return f"| `{metric.name}` | {metric.kind} | {metric.unit} | {tags} | {metric.meaning} |"


def main() -> int:
    """Print the page."""
    sys.stdout.write(render())
    return 0


if __name__ == "__main__":
    sys.exit(main())
