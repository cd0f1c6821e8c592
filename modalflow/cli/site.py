"""The deployment that a command stands for: options, template folders, the App; from ``-o``, or from Airflow's configuration too.

In: parsed arguments. Out: ``Site``. Standalone commands that load no DAG know of ``-o`` and ``--templates`` only.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from modalflow.settings import Settings, SettingsError, read_settings
from modalflow.templates import TemplateFolders
from modalflow.translation.inputs import TranslationOptions


@dataclass(frozen=True, kw_only=True, slots=True)
class Site:
    """``folders`` are those of the configuration, then those of the command line."""

    settings: Settings
    folders: tuple[str, ...]

    @property
    def options(self) -> TranslationOptions:
        """What ``translate`` takes."""
        return self.settings.translation

    def templates(self, *further: str | Path) -> TemplateFolders:
        """Return a source for these folders."""
        return TemplateFolders([*self.folders, *further])


def site_of(arguments: argparse.Namespace, *, with_airflow: bool = False) -> Site:
    """Read the site: Airflow's configuration under ``airflow modal`` or ``with_airflow``, and ``-o`` on top of it.

    Raises ``SettingsError``, whose text is one sentence.
    """
    given = given_options(arguments)
    for folder in arguments.templates:
        if not Path(folder).is_dir():
            raise SettingsError(f"--templates {folder}: no such folder")
    settings = _airflow_settings(given) if with_airflow or arguments.airflow else read_settings(given)
    return Site(settings=settings, folders=(*settings.template_folders, *arguments.templates))


def given_options(arguments: argparse.Namespace) -> dict[str, str]:
    """Read ``-o``. Raises ``SettingsError``."""
    given: dict[str, str] = {}
    for text in arguments.option:
        name, equals, value = text.partition("=")
        if not equals:
            raise SettingsError(f"--option {text}: expected NAME=VALUE")
        given[name.strip()] = value
    if getattr(arguments, "backend", None):
        given["backend"] = arguments.backend
    return given


def _airflow_settings(given: Mapping[str, str]) -> Settings:
    from airflow.configuration import conf  # noqa: PLC0415 - Airflow is imported where it is needed

    from modalflow.executor.auto_image import describe_auto_image  # noqa: PLC0415
    from modalflow.executor.configuration import ConfigurationView, load_settings, with_longest_gpu_wait  # noqa: PLC0415
    from modalflow.executor.hooks import with_hooks  # noqa: PLC0415

    view = ConfigurationView(conf=conf, environ=os.environ)
    settings = load_settings(view, auto_image=describe_auto_image(), given=given)
    return with_hooks(with_longest_gpu_wait(settings, conf.getfloat("scheduler", "task_queued_timeout")))
