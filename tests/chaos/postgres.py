"""A PostgreSQL of one's own, on a free port of loopback, gone when the context ends.

Flows in: nothing; the server's programs must be installed (``apt-get install postgresql``). Flows out: the URL for Airflow. As
root it runs as the system's user ``postgres``, for PostgreSQL refuses to run as root.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from modalflow.demo.deployment import free_ports

START_SECONDS = 30.0
PLACES = ("/usr/lib/postgresql", "/usr/pgsql")


def programs() -> Path | None:
    """The folder with ``initdb`` and ``postgres``, the newest; None if there is none."""
    found = [path.parent for place in PLACES for path in Path(place).glob("*/bin/initdb")]
    on_path = shutil.which("initdb")
    return max(found, default=Path(on_path).parent if on_path else None, key=str)


@contextlib.contextmanager
def postgres_running() -> Iterator[str]:
    """Yield ``postgresql+psycopg2://…`` of an empty database. ``RuntimeError`` if PostgreSQL is missing or does not start."""
    bin_folder = programs()
    if bin_folder is None:
        raise RuntimeError("PostgreSQL is not installed: no initdb in /usr/lib/postgresql/*/bin nor on the PATH")
    folder = Path(tempfile.mkdtemp(prefix="modalflow-postgres-"))
    as_user: tuple[str, ...] = ()
    if os.geteuid() == 0:
        user = pwd.getpwnam("postgres")
        os.chown(folder, user.pw_uid, user.pw_gid)
        as_user = ("setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups")
    [port] = free_ports(1)
    data = str(folder / "data")
    env = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"}
    where = ("-h", "127.0.0.1", "-p", str(port), "-U", "airflow")
    try:
        with (folder / "log").open("ab") as log:
            init = [*as_user, str(bin_folder / "initdb"), "-D", data, "-A", "trust", "-U", "airflow", "--no-sync"]
            subprocess.run(init, env=env, cwd=folder, stdout=log, stderr=log, check=True)
            options = ["-c", "fsync=off", "-c", "max_connections=200", "-k", "", "-h", "127.0.0.1", "-p", str(port)]
            serve = [*as_user, str(bin_folder / "postgres"), "-D", data, *options]
            with subprocess.Popen(serve, env=env, cwd=folder, stdout=log, stderr=log) as process:
                try:
                    _wait(process, [str(bin_folder / "pg_isready"), *where], folder)
                    subprocess.run([str(bin_folder / "createdb"), *where, "airflow"], env=env, check=True)
                    yield f"postgresql+psycopg2://airflow@127.0.0.1:{port}/airflow"
                finally:
                    process.send_signal(3)  # SIGQUIT: at once, nothing is to be kept
                    process.wait(30)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _wait(process: subprocess.Popen[bytes], ready: list[str], folder: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while subprocess.run(ready, capture_output=True, check=False).returncode != 0:
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"PostgreSQL did not start: {(folder / 'log').read_text()[-1000:]}")
        time.sleep(0.1)
