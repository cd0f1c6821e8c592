"""What Airflow's providers manager learns about modalflow: options, executor, commands.

Called in every Airflow process, so nothing heavy is imported. The options come from the table in ``settings``; the same
table makes ``docs/reference/options.md``. The connection type ``modal`` belongs to apache-airflow-providers-modal and is
not defined again.
"""

from __future__ import annotations

from modalflow.option_table import OPTIONS, SECTION, Option

VERSION_ADDED = "0.4.0"


def get_provider_info() -> dict[str, object]:
    """Return the provider description; its schema is ``airflow/provider_info.schema.json`` (3.3.2)."""
    return {
        "package-name": "modalflow",
        "name": "Modalflow",
        "description": "Runs Airflow tasks in `Modal <https://modal.com>`__ sandboxes.",
        "executors": ["modalflow.executor.ModalExecutor"],
        "cli": ["modalflow.provider.commands.get_modal_cli_commands"],
        "config": {
            SECTION: {
                "description": "How tasks run on Modal. A task's own ``executor_config`` wins over everything here.",
                "options": {option.name: _described(option) for option in OPTIONS},
            }
        },
    }


def _described(option: Option) -> dict[str, object]:
    return {
        "description": option.description,
        "version_added": VERSION_ADDED,
        "type": "string",
        "example": option.example or None,
        "default": option.default,
    }
