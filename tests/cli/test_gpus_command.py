"""``modalflow gpus``: the catalogue, and the ranking for a wish."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from modalflow.cli.main import main
from modalflow.translation.gpus.catalogue import CATALOGUE


def test_the_catalogue(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["gpus"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "GPU           GIB  COMPUTE  FAMILY        MOST  USD/H  ALSO"
    assert lines[3] == "A10           24   8.6      ampere        4     1.10   A10G"
    assert lines[-1] == "Prices of 2026-10, for one GPU, without CPU and memory."
    assert len(lines) == len(CATALOGUE) + 3


def test_the_catalogue_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["gpus", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["prices_of"] == "2026-10"
    assert found["gpus"][0] == {
        "gpu": "T4",
        "memory_gib": 16,
        "compute_capability": "7.5",
        "family": "turing",
        "most": 8,
        "usd_an_hour": 0.59,
        "also": [],
    }


def test_the_ranking_says_why(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["gpus", "--for", "memory>=40Gi,count=5,price<=3"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "#  GPU           GIB  COMPUTE  USD/H  WHY",
        "1  L40S:5        48   8.9      9.75   fits",
        "2  A100-40GB:5   40   8.0      10.50  fits",
        "3  A100-80GB:5   80   8.0      12.50  fits",
        "-  T4            16   7.5      0.59   has 16 GiB, not >= 40",
        "-  L4            24   8.9      0.80   has 24 GiB, not >= 40",
        "-  A10           24   8.6      1.10   has 24 GiB, not >= 40; comes in at most 4, not 5",
        "-  A100          40   8.0      2.10   lets Modal choose: only by its name",
        "-  RTX-PRO-6000  96   12.0     3.03   costs $3.03 an hour, more than $3.00",
        "-  H100          80   9.0      3.95   costs $3.95 an hour, more than $3.00",
        "-  H100!         80   9.0      3.95   costs $3.95 an hour, more than $3.00",
        "-  H200          141  9.0      4.54   costs $4.54 an hour, more than $3.00",
        "-  B200          192  10.0     6.25   costs $6.25 an hour, more than $3.00",
        "-  B200+         192  10.0     6.25   costs $6.25 an hour, more than $3.00",
    ]


@pytest.mark.parametrize(
    ("wish", "tried"),
    [
        ("A100:40GB:2", ["A100-40GB:2"]),
        ('["H100", "A100-80GB"]', ["H100", "A100-80GB"]),
        ("any_of=H100|A100-80GB", ["A100-80GB", "H100"]),
        ("ordered=H100|A100-80GB,memory>=80Gi", ["H100", "A100-80GB"]),
        ("compute>=9.0,memory<=100Gi,count=2", ["RTX-PRO-6000:2", "H100!:2"]),
        ("V100", ["A10", "L40S"]),
    ],
)
def test_every_form_of_the_gpu_key_is_ranked(wish: str, tried: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["gpus", "--json", "--for", wish]) == 0
    rows = json.loads(capsys.readouterr().out)["ranking"]
    assert [row["gpu"] for row in rows if row["rank"] is not None] == tried
    assert all(row["why"] for row in rows)


def test_a_region_raises_the_price(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["gpus", "--json", "--for", "any_of=H100|A100-80GB,region=us-east"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["region"] == ["us-east"]
    assert [(row["gpu"], row["usd_an_hour"]) for row in found["ranking"][:2]] == [("A100-80GB", 4.38), ("H100", 6.91)]
    assert main(["gpus", "--for", "name=L4,region=eu"]) == 0
    assert capsys.readouterr().out.endswith("\nPrices with the factor 1.5 of the region eu.\n")


@pytest.mark.parametrize(
    ("wish", "regions", "tried"),
    [
        ("any_of=H100|L4,region=us|us-east,count=2", ["us", "us-east"], [("L4:2", 2.8), ("H100:2", 13.83)]),
        ('{"ordered": ["H100", "L4"], "region": ["us", "eu"]}', ["us", "eu"], [("H100", 5.93), ("L4", 1.2)]),
        ("ordered=H100|L4", [], [("H100", 3.95), ("L4", 0.8)]),
    ],
)
def test_of_several_regions_the_dearest_counts_and_the_order_is_the_wishs(
    wish: str, regions: list[str], tried: list[tuple[str, float]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["gpus", "--json", "--for", wish]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["region"], found["prices_of"]) == (regions, "2026-10")
    ranked = [row for row in found["ranking"] if row["rank"] is not None]
    assert [(row["rank"], row["gpu"], row["usd_an_hour"]) for row in ranked] == [
        (rank, gpu, usd) for rank, (gpu, usd) in enumerate(tried, start=1)
    ]
    assert main(["gpus", "--for", wish]) == 0
    last = capsys.readouterr().out.rpartition("\n\n")[2]
    assert last.startswith("Prices with the factor ") == bool(regions)


def test_nothing_fits(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["gpus", "--json", "--for", "memory>=400Gi"]) == 1
    rows = json.loads(capsys.readouterr().out)["ranking"]
    assert {row["rank"] for row in rows} == {None}
    assert rows[0]["why"] == "has 16 GiB, not >= 400"


@pytest.mark.parametrize(
    ("wish", "text"),
    [
        (
            "memory>=40Gi,large",
            "modalflow gpus: --for: expected NAME>=VALUE, got 'large'; write e.g. memory>=40Gi,count=2,price<=3\n",
        ),
        ("count>=2", "modalflow gpus: --for: count takes '=', got '>='; write e.g. memory>=40Gi,count=2,price<=3\n"),
        ("count=two", "modalflow gpus: --for: count: expected a number, got 'two'\n"),
        ("region=us|moon", 'modalflow gpus: --for: region: no region of Modal\'s is known for "moon"\n'),
        ('{"region": 1}', "modalflow gpus: --for: region: expected a region or a list of them, got an int\n"),
        ("region=moon", 'modalflow gpus: --for: region: no region of Modal\'s is known for "moon"\n'),
        (
            "memory>=much",
            (
                'modalflow gpus: --for["memory"]: expected a bound such as ">=40Gi", got ">=much": at character 3, a number is '
                'expected [bad-gpu-memory]\n    ">=much"\n       ^~~~\n'
            ),
        ),
        ("A10GG", 'modalflow gpus: --for: unknown GPU "A10GG"; did you mean "A10G"? [unknown-gpu]\n'),
        ("{", "modalflow gpus: --for: no JSON: Expecting property name enclosed in double quotes: line 1 column 2 (char 1)\n"),
    ],
)
def test_a_wish_that_cannot_be_read(wish: str, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["gpus", "--for", wish]) == 2
    assert capsys.readouterr().err == text


def test_airflow_is_not_loaded() -> None:
    script = (
        "import sys; from modalflow.cli.main import main; main(['gpus']); "
        "print([m for m in ('airflow', 'modal', 'grpclib', 'kubernetes') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
