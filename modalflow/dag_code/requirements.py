"""``requirements.txt`` beside the DAGs, as packages of the image that modalflow makes itself. Pure.

In: the text of the file, and what the image has anyway. Out: the packages of both, or what keeps the file from being installed.
What Airflow's own distributions are is the scheduler's to say: a line that names one of them is passed over, so that a task
never gets another Airflow than the one that launched it.
"""

from __future__ import annotations

import re
from functools import lru_cache

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

FILE = "requirements.txt"
"""In the root of a bundle."""
_COMMENT = re.compile(r"(^|\s)#.*$")
AIRFLOW = "apache-airflow"


class NotInstallableError(ValueError):
    """A line that is no plain requirement; the text says which, and what to do."""


@lru_cache(maxsize=64)
def with_requirements(packages: tuple[str, ...], text: str) -> tuple[str, ...]:
    """Return ``packages`` (``name==version``) and what ``text`` asks for beside them. Raises ``NotInstallableError``."""
    have = {canonicalize_name(Requirement(package).name) for package in packages}
    found: dict[str, None] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        wanted = _COMMENT.sub("", line).strip()
        if not wanted:
            continue
        try:
            requirement = Requirement(wanted)
        except InvalidRequirement as error:
            raise NotInstallableError(
                f"{FILE}, line {number}: {_shown(wanted)} is no plain requirement such as pandas>=2, so nothing of the file is "
                "installed in the default image. Write plain requirements, name an image that has them, or set "
                "[modal_executor] dag_requirements = False"
            ) from error
        name = canonicalize_name(requirement.name)
        if name not in have and name != AIRFLOW:
            found[str(requirement)] = None
    return (*packages, *found)


def _shown(line: str) -> str:
    """Quote a line without what may be a password in an address."""
    return repr(re.sub(r"//[^/@\s]*@", "//…@", line)[:80])
