"""Prints ``docs/reference/options.md`` from the table of options: ``python -m modalflow.provider.options_page``.

A test fails when the page and the table differ.
"""

from __future__ import annotations

import sys

from modalflow.executor.dag_bundles import BUNDLES_MOUNT
from modalflow.executor.worker_environment import COPIED_SECTIONS, LOGS_MOUNT, NEVER
from modalflow.option_table import OPTIONS, SECTION, Option

INTRODUCTION = f"""# Options

All options of the section `[{SECTION}]` of Airflow's configuration. As environment variables they are called
`AIRFLOW__{SECTION.upper()}__<OPTION>`; for one team `AIRFLOW__<TEAM>___{SECTION.upper()}__<OPTION>`, with the global value where
the team sets none. An empty option is not set. An unknown one stops the scheduler's start, as does one that does not parse.

The options marked *task* are also keys of `executor_config["modal"]` and of templates, where they win over the value here.

This page is generated from the code by `make docs`.
"""


WORKER = f"""# What Airflow in a sandbox is configured with

This and nothing else of the scheduler's configuration:

- `AIRFLOW__CORE__EXECUTION_API_SERVER_URL`: `execution_api_url`, else `[core] execution_api_server_url`, else
  `[api] base_url` with `/execution/`. By the relay, an address on the sandbox's own localhost, and
  `AIRFLOW__WORKERS__EXECUTION_API_RETRIES`: 10, unless you set it.
- `AIRFLOW__CORE__DAGS_FOLDER` and `AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST`: as configured, without
  the teams of bundles; local bundles that come from a Volume (`dag_source`, `dags_volume`) are at
  `{BUNDLES_MOUNT}/<bundle name>`.
- `AIRFLOW__LOGGING__BASE_LOG_FOLDER`: `{LOGS_MOUNT}`, where the task sees the folder of its own log.
- `AIRFLOW__CORE__LOAD_EXAMPLES`: `False`.
- The options of {" and ".join(f"`[{section}]`" for section in COPIED_SECTIONS)} that somebody set.
  A secrets backend's arguments are among them: the task can read what its own worker needs to read secrets with.
- `worker_env`.
- `MODALFLOW_*`: launch id, log file, hand-over time limit, the scheduler's Airflow version, and what Modal was asked for.

`worker_env` is refused if it sets one of {", ".join(f"`{name}…`" for name in NEVER)}: a task could read it, or Airflow in the
sandbox would not start with it.
"""


def render() -> str:
    """Return the page as Markdown."""
    return "\n".join([INTRODUCTION, *(_entry(option) for option in OPTIONS), WORKER])


def _entry(option: Option) -> str:
    facts = [f"*Expects* {option.expects}.", f"*Default* {f'`{option.default}`' if option.default else 'not set'}."]
    if option.example:
        facts.append(f"*Example* `{option.example}`.")
    mark = " (task)" if option.task_key else ""
    return f"## `{option.name}`{mark}\n\n{option.description}\n\n{' '.join(facts)}\n"


def main() -> int:
    """Print the page."""
    sys.stdout.write(render())
    return 0


if __name__ == "__main__":
    sys.exit(main())
