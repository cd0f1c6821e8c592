"""Errors that point: what is wrong with a quantity, a time or a bound, and where; and the grammar itself, held to Kubernetes'."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kubernetes.utils.quantity import parse_quantity as oracle

from modalflow.translation.diagnostics import Diagnostic
from modalflow.translation.malformed import Find, Mistake, drawn, in_bound, in_capability, in_duration, in_quantity
from modalflow.translation.quantities import LARGEST_QUANTITY, parse_duration, parse_quantity, read_cpu
from modalflow.translation.report import Place, Root

SUFFIXES = ("", "n", "u", "m", "k", "M", "G", "T", "P", "E", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei")


def pointed(text: str, find: Find) -> list[str]:
    mistake = find(text)
    assert mistake is not None
    hint = [f"write {mistake.meant}"] if mistake.meant else []
    return [*drawn(text, mistake).splitlines(), mistake.why, *hint]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("0.5 cores", ['"0.5 cores"', "    ^~~~~~", '" cores" is no unit', "write 0.5"]),
        ("10 GB", ['"10 GB"', "   ^~~", '" GB" is no unit', "write 10G"]),
        ("1.5gib", ['"1.5gib"', "    ^~~", '"gib" is no unit', "write 1.5Gi"]),
        ("12K", ['"12K"', "   ^", '"K" is no unit']),
        ("500 millicores", ['"500 millicores"', "    ^~~~~~~~~~~", '" millicores" is no unit', "write 500m"]),
        ("lots", ['"lots"', " ^~~~", "a number is expected"]),
        ("-", ['"-"', "  ^", "a number is expected"]),
        ("1..5", ['"1..5"', "   ^~", '".5" is no unit']),
        ("1,5", ['"1,5"', "  ^~", '",5" is no unit']),
        ("0x10", ['"0x10"', "  ^~~", '"x10" is no unit']),
        ("1e", ['"1e"', "   ^", "an exponent has digits"]),
        ("1e+", ['"1e+"', "    ^", "an exponent has digits"]),
        ("1e5x", ['"1e5x"', "    ^", "an exponent has digits only"]),
        ("2eib", ['"2eib"', "  ^~~", '"eib" is no unit', "write 2Ei"]),
    ],
)
def test_a_quantity(text: str, told: list[str]) -> None:
    assert pointed(text, in_quantity) == told


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("6 hours", ['"6 hours"', "  ^~~~~~", '" hours" is no unit: write d, h, m or s', "write 6h"]),
        ("2 hours and 5 minutes", ['"2 hours and 5 minutes"', "  ^" + "~" * 19, "…", "write 2h5m"]),
        ("1h30", ['"1h30"', "     ^", "a unit is expected: d, h, m or s"]),
        ("1h 30m", ['"1h 30m"', "   ^~~~", "a number is expected", "write 1h30m"]),
        ("1m30h", ['"1m30h"', "   ^~~", "h cannot follow m"]),
        ("1h2h", ['"1h2h"', "   ^~", "h cannot follow h"]),
        ("1.5h", ['"1.5h"', "  ^~~", '".5h" is no unit: write d, h, m or s']),
        ("-5", ['"-5"', " ^~", "a number is expected"]),
        ("soon", ['"soon"', " ^~~~", "a number is expected"]),
    ],
)
def test_a_time(text: str, told: list[str]) -> None:
    found = pointed(text, in_duration)
    assert [line if line != "…" else found[2] for line in told] == found


@pytest.mark.parametrize(
    ("text", "find", "told"),
    [
        (">=40Gx", in_bound, ['">=40Gx"', "     ^~", '"Gx" is none of Gi, GB, Mi and MB']),
        (">=40", in_bound, ['">=40"', "     ^", "a unit is expected: Gi, GB, Mi or MB", "write >=40Gi"]),
        ("40 gb", in_bound, ['"40 gb"', "   ^~~", '" gb" is none of Gi, GB, Mi and MB', "write 40G"]),
        ("=>40Gi", in_bound, ['"=>40Gi"', " ^~~~~~", ">=, <=, ==, > or < and a number are expected"]),
        (">=x", in_bound, ['">=x"', "   ^", "a number is expected"]),
        ("ampere", in_capability, ['"ampere"', " ^~~~~~", "a version such as 8.0 is expected"]),
        (">=8.x", in_capability, ['">=8.x"', "    ^~", "nothing more is expected"]),
    ],
)
def test_a_bound(text: str, find: Find, told: list[str]) -> None:
    assert pointed(text, find) == told


def read(value: object) -> Diagnostic:
    findings: list[Diagnostic] = []
    assert read_cpu(value, Place(Root(layer="x", prefix="cpu", style="dotted"), (), findings)) is None
    return findings[0]


def test_a_finding_is_one_line_and_carries_the_excerpt() -> None:
    found = read("0.5 cores")
    line = 'cpu: expected physical cores such as 2 or 0.5, got "0.5 cores": at character 4, " cores" is no unit; write "0.5"'
    assert str(found) == line
    assert found.full() == f'{line} [bad-cpu]\n    "0.5 cores"\n        ^~~~~~'


def test_the_end_of_a_text_is_called_so() -> None:
    assert str(read("1e")) == 'cpu: expected physical cores such as 2 or 0.5, got "1e": at the end, an exponent has digits'


@pytest.mark.parametrize("value", ["½ core", "1\t\x00", "x" * 65, "", None, ["a", "b", "c"], {}])
def test_what_cannot_be_drawn_has_no_excerpt(value: object) -> None:
    assert read(value).excerpt == ""


@given(st.text(max_size=70))
def test_any_text_is_right_or_has_a_mistake_inside_it(text: str) -> None:
    for find in (in_quantity, in_duration, in_bound, in_capability):
        mistake = find(text)
        assert mistake is None or (0 <= mistake.start <= len(text) and mistake.end > mistake.start)
    if text.strip() and len(text) <= 64 and parse_quantity(text) is None:
        assert in_quantity(text) is not None or _is_large(text)
    if text.strip() and len(text) <= 15 and parse_duration(text) is None:
        assert in_duration(text) is not None


@given(st.from_regex(r"[-+]?[0-9.]{0,4}([eE][-+]?[0-9]{0,3}|[a-zA-Z]{0,2})[a-z ]?", fullmatch=True))
@settings(max_examples=500)
def test_what_is_refused_is_explained_and_only_that(text: str) -> None:
    explained = in_quantity(text)
    refused = parse_quantity(text) is None
    assert refused or explained is None
    assert not refused or explained is not None or _is_large(text)
    if explained is not None and explained.meant:
        assert parse_quantity(explained.meant) is not None or _is_large(explained.meant)


def _is_large(text: str) -> bool:
    """Whether a number in text is beyond what any machine has: right by its grammar, and no amount of ours."""
    try:
        return abs(Decimal(text.strip())) >= LARGEST_QUANTITY
    except ArithmeticError:
        digits = text.strip().rstrip("numkKMGTPEi")
        return digits != "" and abs(Decimal(digits)) * 1024**6 >= LARGEST_QUANTITY


NUMBERS = st.from_regex(r"[-+]?([0-9]{1,6}(\.[0-9]{0,4})?|\.[0-9]{1,4})", fullmatch=True)


@given(NUMBERS, st.sampled_from(SUFFIXES))
def test_the_grammar_is_kubernetes_own(number: str, suffix: str) -> None:
    """The client's reader knows every suffix and takes the same numbers."""
    expected = oracle(number + suffix)
    found = parse_quantity(number + suffix)
    assert found == (expected if abs(expected) < LARGEST_QUANTITY else None)


@given(NUMBERS, st.integers(-12, 12), st.sampled_from("eE"))
def test_exponents(number: str, exponent: int, letter: str) -> None:
    assert parse_quantity(f"{number}{letter}{exponent}") == oracle(f"{number}{letter}{exponent}")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        # Where the client errs: resource.ParseQuantity of k8s.io/apimachinery takes these.
        ("1E", Decimal(10) ** 18),
        ("1Ei", Decimal(1024) ** 6),
        ("1E2", Decimal(100)),
        ("1e+2", Decimal(100)),
        ("1e0002", Decimal(100)),
        ("5.", Decimal(5)),
        (".5Gi", Decimal(2) ** 29),
        ("0", Decimal(0)),
        # And these it does not, whatever Python's Decimal thinks of them.
        ("1_000", None),
        ("NaN", None),
        ("Infinity", None),
        ("1K", None),
        ("1mi", None),
        ("1e", None),
        ("1e1.5", None),
        ("1eKi", None),
        ("١", None),
        (".", None),
        ("Ki", None),
        ("+ 1", None),
        ("1 Ki", None),
        ("0x1", None),
    ],
)
def test_the_grammar_by_hand(text: str, value: Decimal | None) -> None:
    assert parse_quantity(text) == value


def test_a_mistake_is_plain_data() -> None:
    assert in_quantity("1x") == Mistake(start=1, end=2, why='"x" is no unit', meant="")
