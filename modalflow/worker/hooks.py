"""Runs one lifecycle hook of a pod: a command, a pause or a request to an address.

Part of the programs of ``bootstrap`` (postStart) and ``stopping`` (preStop). Flows in: one ``HookPlan`` as plain data.
"""

from __future__ import annotations

import time
from typing import Any

OK = range(200, 400)


class HookError(Exception):
    """The hook failed; the text is half a sentence."""


def run_hook(hook: Any, *, seconds: float | None, environ: Any = None, user: Any = None) -> None:
    """Run it, for at most ``seconds``. Raises ``HookError``."""
    if "sleep" in hook:
        time.sleep(hook["sleep"] if seconds is None else min(hook["sleep"], seconds))
    elif "url" in hook:
        _request(hook, seconds)
    else:
        _command(hook["argv"], seconds, environ, user)


def _command(argv: Any, seconds: float | None, environ: Any, user: Any) -> None:
    import subprocess

    try:
        ended = subprocess.run(  # noqa: S603 - the pod's own words
            argv,
            timeout=seconds,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=environ,
            check=False,
            **({} if user is None else user.arguments),
        ).returncode
    except subprocess.TimeoutExpired as error:
        raise HookError(f"{argv[0]} took longer than {seconds:g} s") from error
    except OSError as error:
        raise HookError(f"{argv[0]} cannot be started ({error.strerror})") from error
    if ended:
        raise HookError(f"{argv[0]} ended with {f'exit code {ended}' if ended > 0 else f'signal {-ended}'}")


def _request(hook: Any, seconds: float | None) -> None:
    import http.client
    import ssl
    import urllib.parse

    parts = urllib.parse.urlsplit(hook["url"])
    timeout = 30.0 if seconds is None else seconds
    try:
        if parts.scheme == "https":
            # As the kubelet does: the certificate of a hook is not checked.
            context = ssl._create_unverified_context()  # noqa: S323
            connection: Any = http.client.HTTPSConnection(parts.hostname or "", parts.port, timeout=timeout, context=context)
        else:
            connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=timeout)
        path = urllib.parse.urlunsplit(("", "", parts.path, parts.query, ""))
        connection.request("GET", path, headers=hook.get("headers", {}))
        status = connection.getresponse().status
        connection.close()
    except (OSError, http.client.HTTPException) as error:
        raise HookError(f"GET {hook['url']} failed ({type(error).__name__})") from error
    if status not in OK:
        raise HookError(f"GET {hook['url']} was answered with {status}")
