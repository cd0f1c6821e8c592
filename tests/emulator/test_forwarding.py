"""IPv4 forwarding, which the emulators of one machine share: on for the first that needs it, off again with the last."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from modalflow.emulator.machines import network_cleanup


@pytest.fixture
def forwarding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The kernel's switch and the note of who turned it, as files of this test."""
    switch = tmp_path / "ip_forward"
    switch.write_text("0\n")
    monkeypatch.setattr(network_cleanup, "_FORWARDING", switch)
    monkeypatch.setattr(network_cleanup, "_SWITCHED", tmp_path / "switched")
    return switch


def test_it_is_on_until_the_last_user_has_gone(forwarding: Path) -> None:
    network_cleanup.switch_forwarding_on("a")
    network_cleanup.switch_forwarding_on("b")
    network_cleanup.switch_forwarding_back("a")
    assert forwarding.read_text() == "1"
    network_cleanup.switch_forwarding_back("b")
    assert forwarding.read_text() == "0"
    assert [path.name for path in forwarding.parent.iterdir()] == ["ip_forward"], "the note is gone"


def test_it_stays_as_it_was_found_on(forwarding: Path) -> None:
    forwarding.write_text("1\n")
    network_cleanup.switch_forwarding_on("a")
    network_cleanup.switch_forwarding_back("a")
    assert forwarding.read_text() == "1\n"
    assert [path.name for path in forwarding.parent.iterdir()] == ["ip_forward"]


def test_many_at_once_come_and_go(forwarding: Path) -> None:
    def come_and_go(emulator_id: str) -> None:
        for _ in range(50):
            network_cleanup.switch_forwarding_on(emulator_id)
            assert forwarding.read_text() != "0"
            network_cleanup.switch_forwarding_back(emulator_id)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(come_and_go, map(str, range(8))))
    assert forwarding.read_text() == "0"
    assert [path.name for path in forwarding.parent.iterdir()] == ["ip_forward"]
