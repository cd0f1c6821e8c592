"""The client of one gateway: which credentials it uses, where they are from, and what must be set before it is made.

In: what an Airflow connection holds, if there is one, else this process's environment, else Modal's profile. Out:
``Credentials``, and an open ``modal.Client``. Next: ``session``, which renews both.
"""

from __future__ import annotations

import asyncio
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from modal import Client
from modal.config import config

from modalflow.launch.credentials import ReadStored, StoredCredentials
from modalflow.launch.few_questions import FewQuestions
from modalflow.launch.gateway import Unauthenticated, Unavailable

RENEWED_BY_CONNECTION = "or keep the token in an Airflow connection of type modal, which is read again without a restart"


@dataclass(frozen=True, kw_only=True, slots=True)
class Credentials:
    """A token and where it is from. ``source`` and ``remedy`` are parts of sentences; neither holds a secret.

    ``environment`` is what the Airflow connection says; ``None`` leaves it to the client (``MODAL_ENVIRONMENT``, the profile).
    Without a token, ``oauth`` has the arguments of ``Client.from_oauth_credentials``.
    """

    source: str
    remedy: str
    token_id: str = ""
    token_secret: str = field(default="", repr=False)
    oauth: Mapping[str, str] = field(default_factory=dict, repr=False)
    environment: str | None = None

    def in_words(self) -> str:
        """Say where the token is from, and its id, which is no secret."""
        return f"{self.source} (token {self.token_id})" if self.token_id else self.source

    def explained(self, error: Unauthenticated) -> Unauthenticated:
        """Return the refusal with whose credentials were refused, and what to do about it."""
        return Unauthenticated(f"{error}; they are those of {self.source}: {self.remedy}")


@dataclass(frozen=True, kw_only=True, slots=True)
class _Profile:
    """The active section of ``~/.modal.toml``, read anew: the client reads it once a process."""

    name: str
    path: Path
    values: Mapping[str, str]


async def read_credentials(read: ReadStored | None, seconds: float, questions: FewQuestions | None = None) -> Credentials:
    """Read what is valid now, in a thread of its own, within ``seconds``; a thread that hangs keeps its place in ``questions``.

    Raises ``Unauthenticated`` if there are none, ``Unavailable`` if they cannot be read.

    ``read`` asks Airflow; ``None`` where there is no Airflow to ask.
    """
    asked = questions or FewQuestions(at_once=1, limit=seconds)
    try:
        async with asyncio.timeout(seconds):
            return await asked.ask(lambda: _read(read), "modalflow-credentials")
    except TimeoutError as error:
        raise Unavailable(
            f"could not read the Modal credentials: Airflow's connections did not answer in {seconds:g} s"
        ) from error


def _read(read: ReadStored | None) -> Credentials:
    stored = read() if read is not None else None
    if stored is not None and stored.token_id and stored.token_secret:
        return Credentials(
            source=f"the Airflow connection {stored.conn_id!r}",
            remedy=f"correct its Token ID and Token Secret (`airflow connections get {stored.conn_id}`); no restart is needed",
            token_id=stored.token_id,
            token_secret=stored.token_secret,
            environment=stored.environment,
        )
    return _of_process(stored, _read_profile())


def _of_process(stored: StoredCredentials | None, profile: _Profile) -> Credentials:
    """Return what the environment has, else the profile; an Airflow connection without a token says the environment only."""
    environment = stored.environment if stored is not None else None
    found = {name: _setting(name, profile) for name in ("token_id", "token_secret")}
    texts = {name: text for name, (text, _) in found.items()}
    places = list(dict.fromkeys(place for text, place in found.values() if text))
    if all(texts.values()):
        in_file = any(place.startswith("the profile") for place in places)
        mend = "`modal token new` writes another" if in_file else "set others and restart this process"
        return Credentials(
            source=" with ".join(places),
            remedy=f"{mend}, {RENEWED_BY_CONNECTION}",
            token_id=texts["token_id"],
            token_secret=texts["token_secret"],
            environment=environment,
        )
    oauth = {
        ours: text
        for ours, name in (
            ("refresh_token", "oauth_refresh_token"),
            ("oauth_client_id", "oauth_client_id"),
            ("oauth_client_secret", "oauth_client_secret"),
            ("oauth_jwt_key", "oauth_jwt_key"),
        )
        if (text := _setting(name, profile)[0])
    }
    if {"refresh_token", "oauth_client_id"} <= set(oauth):
        source = f"the profile {profile.name!r} of {profile.path} (OAuth)"
        return Credentials(source=source, remedy=f"log in again, {RENEWED_BY_CONNECTION}", oauth=oauth, environment=environment)
    raise Unauthenticated(_missing(stored, profile, texts))


def _setting(name: str, profile: _Profile) -> tuple[str, str]:
    """Return a setting of Modal's and where it is set, as the client looks it up (modal 1.6.4, ``config.Config.get``)."""
    variable = f"MODAL_{name.upper()}"
    if variable in os.environ:
        return os.environ[variable], f"{variable} of this process's environment"
    return profile.values.get(name, ""), f"the profile {profile.name!r} of {profile.path}"


def _missing(stored: StoredCredentials | None, profile: _Profile, texts: Mapping[str, str]) -> str:
    known = "; ".join(
        (
            f"the Airflow connection {stored.conn_id!r} has no token"
            if stored is not None
            else "no Airflow connection of type modal",
            *(
                f"no MODAL_{name.upper()} in this process's environment"
                for name in texts
                if not os.environ.get(f"MODAL_{name.upper()}")
            ),
            f"no token in the profile {profile.name!r} of {profile.path}",
        )
    )
    return (
        f"no Modal credentials ({known}): create the connection with `airflow connections add modal --conn-type modal "
        "--conn-login TOKEN_ID --conn-password TOKEN_SECRET`, or set both variables, or run `modal token new` as this "
        "process's user"
    )


def _read_profile() -> _Profile:
    path = Path(os.environ.get("MODAL_CONFIG_PATH") or Path.home() / ".modal.toml")
    try:
        sections = tomllib.loads(path.read_text())
    except FileNotFoundError:
        sections = {}
    except (OSError, ValueError) as error:  # a TOML error names the line, and quotes none of it
        raise Unauthenticated(f"could not read the Modal profile in {path}: {error}") from error
    tables = {name: section for name, section in sections.items() if isinstance(section, dict)}
    name = os.environ.get("MODAL_PROFILE") or next((name for name, one in tables.items() if one.get("active")), "default")
    return _Profile(name=name, path=path, values={key: str(value) for key, value in tables.get(name, {}).items()})


async def open_client(credentials: Credentials) -> Client:
    """Open a client of our own: the process's singleton could not be closed without taking it from others."""
    _hear_of_throttling()
    if credentials.token_id:
        return await Client.from_credentials.aio(credentials.token_id, credentials.token_secret)
    oauth = dict(credentials.oauth)
    return await Client.from_oauth_credentials.aio(oauth.pop("refresh_token"), **oauth)


def default_environment() -> str | None:
    """Return the Modal environment that the client uses where nobody names one; ``None``: the workspace's default."""
    return config.get("environment") or None


def _hear_of_throttling() -> None:
    """Have the client raise RESOURCE_EXHAUSTED at once.

    By default it sleeps and repeats for as long as the server says (modal 1.6.4, ``_utils/grpc_utils.py``), which nothing could
    see or bound. The setting exists per process only; one that the operator made stays.
    """
    if config.get("max_throttle_wait") is None:
        config.override_locally("max_throttle_wait", "0")
