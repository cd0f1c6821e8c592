"""Settings that cannot be used are refused with what to write instead."""

from __future__ import annotations

from pathlib import Path

import pytest

from modalflow.emulator import EmulatorConfig, EmulatorConfigError
from modalflow.emulator.config import parse_buckets, parse_gpus
from modalflow.emulator.machines.buckets import BucketError, Buckets


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        pytest.param(
            {"host": "0.0.0.0"},
            "host: '0.0.0.0' is not loopback; whoever reaches the emulator can run commands here. "
            "Write 127.0.0.1, or allow it explicitly (allow_remote)",
            id="host",
        ),
        pytest.param(
            {"host": "0.0.0.0", "allow_remote": True, "any_token": True},
            "any_token: refused on '0.0.0.0'; it accepts everybody and is for 127.0.0.1 only",
            id="any token",
        ),
        pytest.param({"port": 70_000}, "port: expected 0 to 65535, got 70000", id="port"),
        pytest.param({"latency": -1.0}, "latency: expected seconds of at least 0, got -1.0", id="latency"),
        pytest.param({"latency": float("nan")}, "latency: expected seconds of at least 0, got nan", id="no latency"),
        pytest.param({"token_id": "ak"}, "token_id and token_secret: give both, or neither for random ones", id="half a token"),
    ],
)
def test_a_wrong_setting(settings: dict[str, object], message: str) -> None:
    with pytest.raises(EmulatorConfigError) as caught:
        EmulatorConfig(**settings)  # type: ignore[arg-type]
    assert str(caught.value) == message


def test_the_secret_is_not_in_the_repr() -> None:
    assert "as-hidden" not in repr(EmulatorConfig(token_id="ak", token_secret="as-hidden"))


@pytest.mark.parametrize(
    ("gpus", "message"),
    [
        ({"A10X": 1}, "gpus: Unknown GPU type 'A10X'; did you mean 'A10'?"),
        ({"H100": -1}, "gpus: H100: expected a count of at least 0, got -1"),
    ],
)
def test_a_wrong_stock(gpus: dict[str, int], message: str) -> None:
    with pytest.raises(EmulatorConfigError) as caught:
        EmulatorConfig(gpus=gpus).conditions_at_start()
    assert str(caught.value) == message


def test_spellings_of_one_gpu_add_up() -> None:
    assert EmulatorConfig(gpus={"A10": 1, "a10g": 2}).conditions_at_start().gpus == {"A10": 3}


def test_gpus_of_the_command_line() -> None:
    assert parse_gpus("A10G=2, H100=8") == {"A10G": 2, "H100": 8}
    assert parse_gpus("") == {}
    with pytest.raises(EmulatorConfigError) as caught:
        parse_gpus("A10G:2")
    assert str(caught.value) == "gpus: expected TYPE=COUNT such as A10G=2,H100=8; got 'A10G:2'"


def test_buckets_are_local_folders(tmp_path: Path) -> None:
    assert parse_buckets([f"raw={tmp_path}"]) == {"raw": tmp_path}
    with pytest.raises(EmulatorConfigError) as caught:
        parse_buckets(["raw"])
    assert str(caught.value) == "bucket: expected NAME=FOLDER such as raw=./data; got 'raw'"
    with pytest.raises(EmulatorConfigError) as caught:
        parse_buckets([f"raw={tmp_path}/none"])
    assert str(caught.value) == f"bucket: raw: there is no folder '{tmp_path}/none'"


@pytest.mark.parametrize("name", ["", "..", "a/b", "../etc", "a..b"])
def test_a_bucket_cannot_leave_its_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(BucketError):
        Buckets(tmp_path, {}, "ak-1").folder(name, "ak-1")
    assert list(tmp_path.iterdir()) == []
