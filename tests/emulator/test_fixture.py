"""The public pytest fixture."""

from __future__ import annotations

import os

import modal

from modalflow.emulator import EmulatorThread


def test_the_fixture_points_the_environment_at_an_emulator(modal_emulator: EmulatorThread) -> None:
    assert os.environ["MODAL_SERVER_URL"] == modal_emulator.url
    client = modal.Client.from_credentials(os.environ["MODAL_TOKEN_ID"], os.environ["MODAL_TOKEN_SECRET"])
    modal.App.lookup("tests", create_if_missing=True, client=client)
    assert len(modal_emulator.calls("AppGetOrCreate")) == 1
    client.close()
