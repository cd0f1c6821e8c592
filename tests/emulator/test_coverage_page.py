"""The page of what is served is the code's, every handler says what it does, and a new client's RPCs and fields are seen."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from modal_proto import api_pb2

from modalflow.cli.main import main
from modalflow.emulator.coverage import coverage, known_list
from modalflow.emulator.coverage_page import page
from modalflow.emulator.sandbox_fields import FIELDS
from modalflow.emulator.wire import Service, missing_from, partial, unary

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "emulator-coverage.md"


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text() == page(), "run: python -m modalflow.emulator.coverage > docs/reference/emulator-coverage.md"


def test_every_handler_says_what_it_does() -> None:
    assert [rpc.name for rpc in coverage().rpcs if rpc.state != "not served" and not rpc.does] == []


def test_the_installed_protocol_is_the_one_that_is_known() -> None:
    found = coverage()
    assert (found.new, found.gone) == ((), ()), (
        "serve what is new or leave it, then: python -m modalflow.emulator.coverage --known > modalflow/emulator/known_rpcs.txt"
    )
    assert coverage(known_list(found)).new == ()


def test_a_new_client_shows_what_is_new_and_what_is_gone() -> None:
    found = coverage(
        known_list(coverage()).replace("ModalClient/AppList\n", "ModalClient/AppListen\n").replace("modal 1.", "modal 0.")
    )
    assert (found.new, found.gone) == (("ModalClient/AppList",), ("ModalClient/AppListen",))
    text = page(found)
    assert "- new: `ModalClient/AppList`\n- gone: `ModalClient/AppListen`\n" in text
    assert "Compared with modal 0." in text


def test_partly_served_is_said_in_words() -> None:
    @partial("the rest")
    @unary
    async def some(self: Service, request: object, call: object) -> api_pb2.AppListResponse:
        """Do some of it."""
        raise NotImplementedError

    assert missing_from(some) == "the rest"
    assert some.__doc__ == "Do some of it."
    [create] = [rpc for rpc in coverage().rpcs if rpc.name == "SandboxCreate"]
    assert create.state == "partly"
    assert f"| `SandboxCreate` | partly | {create.does} *Missing: {create.missing}.* |" in page()


@pytest.mark.parametrize("message", FIELDS)
def test_every_field_of_a_create_has_its_fate(message: str) -> None:
    fields = {field.name for field in getattr(api_pb2, message).DESCRIPTOR.fields}
    assert set(FIELDS[message]) == fields, "say in modalflow/emulator/sandbox_fields.py what becomes of it"


def test_the_command_prints_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["emulator", "coverage", "--check"]) == 0
    out = capsys.readouterr().out
    assert "ModalClient               served  partly  not served\n" in out
    assert "partly: SandboxCreate: " in out
    assert main(["emulator", "coverage", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {"service": "ModalClient", "name": "FunctionMap", "state": "not served"}.items() <= next(
        rpc.items() for rpc in found["rpcs"] if rpc["name"] == "FunctionMap"
    )
