"""The remote task log that Airflow reads through: the log Volume, beside whatever remote log the deployment has.

``logging_config`` makes one as ``REMOTE_TASK_LOG``. Airflow calls ``stream`` in the API server each time that a log is shown
(3.3.2, ``FileTaskHandler._read_remote_logs``) and ``upload`` where a log was written: in a triggerer, in a local executor's
worker; never in a sandbox, which writes to the Volume's mount itself. Nothing of Modal is loaded until one of them is called.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Generator, Iterable
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from modalflow.modal_gateway.logs import LogAccess, LogFile, LogsOfAccounts
    from modalflow.settings import Settings

log = logging.getLogger(__name__)

TRIGGER_MARK = ".trigger."
"""In the name of a trigger's log: ``<log_path>.trigger.<triggerer id>.log`` (``FileTaskHandler.add_triggerer_suffix``)."""

EXECUTOR_SUFFIX = ".modalflow.log"
"""Of what the executor said (``launch.task_log``, which brings more than Airflow needs while it configures logging)."""

Lines = Generator[str, None, None]


def read_airflow_settings() -> Settings:
    """Read ``[modal_executor]`` from Airflow's configuration."""
    from airflow.configuration import conf  # noqa: PLC0415 - Airflow imports this module while it configures itself

    from modalflow.executor.configuration import ConfigurationView, load_settings  # noqa: PLC0415 - likewise

    return load_settings(ConfigurationView(conf=conf, environ=os.environ))


def volume_log(settings: Settings) -> tuple[LogAccess | LogsOfAccounts, str] | None:
    """Return access to the log Volume and its name, or ``None`` where there is none (``logs_volume`` empty)."""
    from modalflow.executor.modal_connections import log_access  # noqa: PLC0415 - Airflow imports this module while it configures itself

    name = settings.launch.logs_volume
    return (log_access(settings.launch), name) if name else None


class ModalTaskLog:
    """Airflow's ``RemoteLogStreamIO`` over the log Volume; ``beside`` is the deployment's own, or ``None``.

    Reading never raises: what went wrong is a message above the log.
    """

    def __init__(self, beside: Any = None) -> None:
        self._beside = beside

    @property
    def processors(self) -> tuple[Any, ...]:
        """Those of the deployment's own remote log; we need none."""
        return tuple(getattr(self._beside, "processors", ()) or ())

    def upload(self, path: os.PathLike[str] | str, ti: Any = None) -> None:
        """Keep a log that was written on this host: a trigger's on the Volume, and all of them where the deployment wants."""
        if TRIGGER_MARK in os.fspath(path):
            self._keep(os.fspath(path))
        if self._beside is not None:
            self._beside.upload(path, ti)

    def read(self, relative_path: str, ti: Any) -> tuple[list[str], list[str] | None]:
        """The same as ``stream``, whole."""
        messages, streams = self.stream(relative_path, ti)
        return messages, ["\n".join(lines) for lines in streams] or None

    def stream(self, relative_path: str, ti: Any) -> tuple[list[str], list[Lines]]:
        """Return where the lines come from, and streams of lines (``_streams``), then the deployment's own."""
        messages, streams = self._from_volume(relative_path)
        if self._beside is not None:
            more, others = _read_beside(self._beside, relative_path, ti)
            messages += more
            streams += others
        return messages, streams

    def _from_volume(self, relative_path: str) -> tuple[list[str], list[Lines]]:
        try:
            opened = volume_log(read_airflow_settings())
            if opened is None:
                return [], []
            access, volume = opened
            files = access.files(relative_path)
        except Exception as error:
            log.warning("modalflow: could not read %s from the log Volume: %s", relative_path, error)
            return [f"modalflow: {error}"], []
        # A trigger's log alone is that of a task which runs elsewhere: Airflow would not look at its local log any more.
        if all(TRIGGER_MARK in file.path for file in files):
            for file in files:
                file.content.close()
            return [], []
        return [f"Modal Volume {volume}: {file.path}" for file in files], _streams(files)

    def _keep(self, path: str) -> None:
        from airflow.configuration import conf  # noqa: PLC0415 - see read_airflow_settings

        from modalflow.launch.gateway import GatewayError  # noqa: PLC0415 - not needed to configure logging

        try:
            opened = volume_log(read_airflow_settings())
            if opened is not None:
                folder = Path(conf.get_mandatory_value("logging", "base_log_folder")).expanduser()
                opened[0].write(path, (folder / path).read_bytes())
        except (GatewayError, OSError, ValueError) as error:
            log.warning("modalflow: could not keep %s on the log Volume: %s", path, error)


def _streams(files: Iterable[LogFile]) -> list[Lines]:
    """One stream of what the try's sandboxes wrote, one after another, and one for each other file.

    Airflow reads streams side by side and orders 5,000 lines at a time (3.3.2): two long files of which one begins where the
    other ends would be shown as one mixture.
    """
    tasks: list[LogFile] = []
    others: list[LogFile] = []
    for file in files:
        (others if TRIGGER_MARK in file.path or file.path.endswith(EXECUTOR_SUFFIX) else tasks).append(file)
    whole = [_lines(chain.from_iterable(file.lines() for file in tasks))] if tasks else []
    return whole + [_lines(file.lines()) for file in others]


def _lines(lines: Iterable[str]) -> Lines:
    yield from lines


def _read_beside(beside: Any, relative_path: str, ti: Any) -> tuple[list[str], list[Lines]]:
    """Ask the deployment's own remote log in whichever form it has."""
    try:
        if stream := getattr(beside, "stream", None):
            messages, streams = stream(relative_path, ti)
            return list(messages), list(streams or [])
        messages, texts = beside.read(relative_path, ti)
    except Exception as error:
        # Airflow would show the page's own error instead of the lines that we have.
        log.exception("modalflow: the remote log beside modalflow's could not be read")
        return [f"{type(beside).__name__}: {type(error).__name__}: {error}"], []
    return list(messages), [_lines(text.split("\n")) for text in texts or []]
