"""Airflow's configuration into ``Settings``, and what is checked once when the scheduler starts.

In: Airflow's ``conf``, seen by one team or by all. Out: ``Settings``, or ``SettingsError`` whose text ends the scheduler's
start; and warnings that name what would not work. Next: ``worker_environment``, ``modal_executor``.
"""

from __future__ import annotations

import configparser
import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

from modalflow.executor.kubernetes_options import read_kubernetes_defaults
from modalflow.option_table import OPTIONS, SECTION
from modalflow.settings import Settings, SettingsError, read_settings
from modalflow.translation.plan import ImagePlan

LOGGING_CLASS = "modalflow.provider.logging_config.LOGGING_CONFIG"
"""What ``[logging] logging_config_class`` should say."""

_SUFFIXES = ("_cmd", "_secret")
"""Airflow's indirect spellings of an option; the option of the plain name carries the value."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ConfigurationView:
    """Airflow's configuration as one team sees it (``team=None``: as everybody does).

    Airflow's own ``ExecutorConf`` does not fall back: with a team, an option that only the global section sets answers
    with its default (3.3.2, tried). Here a team's own value wins and the global one answers for the rest.
    """

    conf: Any
    team: str | None = None
    environ: Mapping[str, str]

    def get(self, section: str, option: str, fallback: str = "") -> str:
        """Text of an option, or ``fallback``."""
        found = self.find(section, option)
        return fallback if found is None else found

    def find(self, section: str, option: str) -> str | None:
        """Text of an option, which may be empty; ``None`` if nobody set it and it has no default."""
        team = self.team if self.team and self._team_sets(section, option) else None
        named = {"team_name": team} if team else {}
        found = self.conf.get(section, option, fallback=None, **named)
        return None if found is None else str(found)

    def set_options(self, section: str) -> set[str]:
        """Names of the options that somebody set, for everybody or for this team, in the environment or the file.

        Not ``conf.getsection``: that answers ``None`` for a section that only the environment names (3.3.2).
        """
        return {name for team in (None, self.team) for name in self._set_by(section, team)}

    def _team_sets(self, section: str, option: str) -> bool:
        return option in self._set_by(section, self.team)

    def _set_by(self, section: str, team: str | None) -> set[str]:
        prefix = f"AIRFLOW__{f'{team.upper()}___' if team else ''}{section.upper()}__"
        found = {name.removeprefix(prefix).lower() for name in self.environ if name.startswith(prefix)}
        in_file = f"{team}={section}" if team else section
        # The base class, because Airflow's own lookups mix in defaults and other sections.
        if isinstance(self.conf, configparser.RawConfigParser) and configparser.RawConfigParser.has_section(self.conf, in_file):
            found.update(configparser.RawConfigParser.options(self.conf, in_file))
        return found


def load_settings(
    view: ConfigurationView, *, auto_image: ImagePlan | None = None, given: Mapping[str, str] | None = None
) -> Settings:
    """Read ``[modal_executor]``; options ``given`` otherwise win. Raises ``SettingsError`` for an unknown or unreadable one."""
    known = {option.name for option in OPTIONS}
    texts = {name: text for name in known if (text := view.find(SECTION, name)) is not None}
    for name in view.set_options(SECTION) - known:
        stem = next((name.removesuffix(suffix) for suffix in _SUFFIXES if name.endswith(suffix)), name)
        if stem not in known:
            texts[name] = ""
    return _with_kubernetes_defaults(read_settings({**texts, **(given or {})}, auto_image=auto_image), view, given or {})


def _with_kubernetes_defaults(settings: Settings, view: ConfigurationView, given: Mapping[str, str]) -> Settings:
    """Let ``[kubernetes_executor]`` say what nobody says under ``[modal_executor]``, where ``image`` has a default of its own."""
    found = read_kubernetes_defaults(view)
    if found is None:
        return settings
    keys = dict(settings.translation.task_keys)
    said = {*view.set_options(SECTION), *given}
    if found.image is not None and not any(name in said for name in ("image", *(f"image{suffix}" for suffix in _SUFFIXES))):
        keys.pop("image", None)
    return replace(settings, translation=replace(settings.translation, kubernetes=found, task_keys=keys))


def check_gpu_wait(settings: Settings, task_queued_timeout: float) -> None:
    """Refuse a GPU wait that Airflow would cut short. Raises ``SettingsError`` naming both options and their values.

    Airflow takes back a task that is queued longer than ``task_queued_timeout`` (3.3.2: revoked, queued again, failed the
    third time), so a longer wait never gets its GPU.
    """
    wait = settings.translation.gpu_wait
    if wait <= task_queued_timeout or settings.allow_long_gpu_wait:
        return
    raise SettingsError(
        f"[{SECTION}] gpu_wait = {wait:g} is more than [scheduler] task_queued_timeout = {task_queued_timeout:g}: Airflow "
        f"would take a task back while it still waits for its GPU. Raise task_queued_timeout above {wait:g}, lower gpu_wait, "
        f"or set [{SECTION}] allow_long_gpu_wait = True"
    )


def with_longest_gpu_wait(settings: Settings, task_queued_timeout: float) -> Settings:
    """Let translation tell of a task's own ``gpu_wait`` that Airflow would cut short, unless long waits are allowed."""
    if settings.allow_long_gpu_wait:
        return settings
    return replace(settings, translation=replace(settings.translation, longest_gpu_wait=task_queued_timeout))


def without_functions(settings: Settings) -> Settings:
    """Let translation refuse a task that wants to be a call of a Function, and make none of ``backend = auto``."""
    return replace(settings, translation=replace(settings.translation, calls_functions=False))


def logging_warning(logging_config_class: str) -> str | None:
    """Sentence about task logs that would not be kept, or ``None`` if modalflow's logging is set up."""
    if logging_config_class.startswith("modalflow."):
        return None
    own = f", and [{SECTION}] base_logging_config_class = {logging_config_class}" if logging_config_class else ""
    return (
        f"[logging] logging_config_class = {logging_config_class or '(empty)'}: the log of a task on Modal is shown while it "
        f"runs and gone with its sandbox. Set [logging] logging_config_class = {LOGGING_CLASS}{own}, for the scheduler "
        "and the API server"
    )


def reachability_warning(execution_api_url: str, modal_server_url: str) -> str | None:
    """Sentence about an execution API that sandboxes on Modal cannot reach, or ``None``.

    ``modal_server_url`` is ``MODAL_SERVER_URL``; with the emulator, sandboxes run on this machine and reach anything here.
    """
    host = urlsplit(execution_api_url).hostname or ""
    if not is_private(host) or is_loopback(urlsplit(modal_server_url).hostname or ""):
        return None
    return (
        f"The execution API is at {execution_api_url}, which a sandbox on Modal cannot reach: every task would fail to report. "
        f"Set [{SECTION}] execution_api = relay, or execution_api_url to a public URL of the API server that ends in /execution/"
    )


def is_loopback(host: str) -> bool:
    """Whether a host name or address is this machine's own."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def is_private(host: str) -> bool:
    """Loopback, private address, or a name that only a local resolver knows."""
    try:
        return not ipaddress.ip_address(host).is_global
    except ValueError:
        return is_loopback(host) or "." not in host or host.endswith((".local", ".internal", ".svc"))
