"""The page of what is served is the code's, and every handler says what it does."""

from __future__ import annotations

from pathlib import Path

from modal_proto.api_grpc import ModalClientBase
from modal_proto.task_command_router_grpc import TaskCommandRouterBase

from modalflow.emulator.coverage import page
from modalflow.emulator.router import CommandRouter
from modalflow.emulator.services import ControlPlane
from modalflow.emulator.wire import implemented

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "emulator-coverage.md"


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text() == page(), "run: python -m modalflow.emulator.coverage > docs/reference/emulator-coverage.md"


def test_every_handler_says_what_it_does() -> None:
    for mixin, base in ((ControlPlane, ModalClientBase), (CommandRouter, TaskCommandRouterBase)):
        for name in implemented(mixin, base):
            assert getattr(mixin, name).__doc__, name
