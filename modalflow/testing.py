"""Public pytest fixtures: an emulated Modal for one test.

A pytest plugin (entry point ``modalflow``), so it is imported by every pytest run of everybody who has modalflow installed:
nothing heavy is imported before a fixture is used.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from modalflow.emulator import EmulatorThread


@pytest.fixture
def modal_emulator(monkeypatch: pytest.MonkeyPatch) -> Iterator[EmulatorThread]:
    """An emulator of its own for this test, with the environment set so that a Modal client started now finds it.

    A client that the process has made before keeps its server: pass an explicit ``modal.Client`` (``from_credentials``) in tests
    that share a process, or run the client in a subprocess. ``emulator.calls(method)`` returns the requests seen.
    """
    from modalflow.emulator import EmulatorConfig, EmulatorThread  # noqa: PLC0415 -- heavy

    with EmulatorThread(EmulatorConfig(record_calls=True, image_builds="record", isolation="process")) as emulator:
        for name, value in emulator.environment().items():
            monkeypatch.setenv(name, value)
        yield emulator
