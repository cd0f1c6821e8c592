"""Test code that uses Modal, offline: a pytest plugin with an emulated Modal and a workspace of its own for each test.

A pytest plugin (entry point ``modalflow``), so it is imported by every pytest run of everybody who has modalflow installed:
nothing heavy is imported before a fixture is used. Flows in: options, ini values, marks. Flows out: the fixtures
``modal_emulator`` and ``modal_workspace``; ``workspace`` holds what the latter is, ``records`` how sandboxes are looked for.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from modalflow.emulator import EmulatorThread
    from modalflow.testing.workspace import EmulatedWorkspace

_FORGOTTEN = (
    "MODAL_PROFILE",
    "MODAL_ENVIRONMENT",
    "MODAL_SANDBOX_V2",
    "MODAL_OAUTH_REFRESH_TOKEN",
    "MODAL_OAUTH_CLIENT_ID",
    "MODAL_OAUTH_CLIENT_SECRET",
    "MODAL_OAUTH_JWT_KEY",
)
"""Variables of the user's own Modal that would win over the emulator's, or lead the client elsewhere."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the options, each also as an ini value."""
    group = parser.getgroup("modal", "an emulated Modal (modalflow)")
    gpus = "GPUs in stock of each test's emulated workspace, as A10G=1,H100=8; unlimited by default"
    group.addoption("--modal-gpus", metavar="A10G=1", help=gpus)
    parser.addini("modal_gpus", gpus)
    python = "interpreter, or environment folder, that plays every Modal image; the one that runs pytest by default"
    group.addoption("--modal-python", metavar="PATH", help=python)
    parser.addini("modal_python", python)
    isolation = "how emulated sandboxes are run: auto, container or process"
    group.addoption("--modal-isolation", metavar="auto", help=isolation)
    parser.addini("modal_isolation", isolation)
    builds = "what becomes of an image's RUN and pip_install: record (default), run, or auto: run in containers"
    group.addoption("--modal-image-builds", metavar="record", help=builds)
    parser.addini("modal_image_builds", builds)


def pytest_configure(config: pytest.Config) -> None:
    """Declare the marks."""
    config.addinivalue_line(
        "markers", "modal_gpus(stock): GPUs in stock for this test's modal_workspace, as 'A10G=1' or {'A10G': 1}"
    )
    config.addinivalue_line(
        "markers",
        "modal_fault(method, status=..., delay=..., times=...): what happens to calls of this test's modal_workspace",
    )


@pytest.fixture(scope="session")
def modal_emulator(request: pytest.FixtureRequest) -> Iterator[EmulatorThread]:
    """The emulator that this process's tests share, one per worker of pytest-xdist. Its tests use ``modal_workspace``."""
    from modalflow.emulator import EmulatorConfig, EmulatorThread  # noqa: PLC0415 -- heavy
    from modalflow.emulator.config import parse_gpus  # noqa: PLC0415 -- heavy

    gpus, python = _option(request, "modal_gpus"), _option(request, "modal_python")
    config = EmulatorConfig(
        any_token=True,
        record_calls=True,
        gpus=parse_gpus(gpus) if gpus else None,
        python=Path(python) if python else None,
        isolation=_option(request, "modal_isolation") or "auto",
        image_builds=_option(request, "modal_image_builds") or "record",  # type: ignore[arg-type]
    )
    with EmulatorThread(config) as emulator:
        yield emulator


@pytest.fixture
def modal_workspace(
    request: pytest.FixtureRequest, modal_emulator: EmulatorThread, monkeypatch: pytest.MonkeyPatch
) -> Iterator[EmulatedWorkspace]:
    """An empty workspace of the emulator for this test, with the environment set so that every Modal client finds it.

    Also one in this process: ``modal.App.lookup(...)`` without a client. What the test leaves running is ended after it.
    """
    from modalflow.testing.client_state import fresh_client_state  # noqa: PLC0415 -- heavy
    from modalflow.testing.workspace import EmulatedWorkspace  # noqa: PLC0415 -- heavy

    workspace = EmulatedWorkspace(modal_emulator)
    for mark in request.node.iter_markers("modal_gpus"):
        workspace.stock(*mark.args, **mark.kwargs)
    for mark in request.node.iter_markers("modal_fault"):
        workspace.faults.add(*mark.args, **mark.kwargs)
    for name in _FORGOTTEN:
        monkeypatch.delenv(name, raising=False)
    for name, value in workspace.env.items():
        monkeypatch.setenv(name, value)
    with fresh_client_state():
        try:
            yield workspace
        finally:
            workspace.close()


def _option(request: pytest.FixtureRequest, name: str) -> str:
    return str(request.config.getoption(name) or request.config.getini(name) or "")
