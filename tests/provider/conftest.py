"""The policy reads options once per process; each test here has its own."""

from __future__ import annotations

from collections.abc import Iterator

import airflow.settings  # noqa: F401 - first, as in Airflow's processes: it loads the policy by its entry point
import pytest

from modalflow.provider import policy


@pytest.fixture(autouse=True)
def fresh_site() -> Iterator[None]:
    policy._site.cache_clear()
    yield
    policy._site.cache_clear()
