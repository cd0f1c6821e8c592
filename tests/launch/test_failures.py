"""Every way to fail has a class, a sentence, and a row in the reference."""

from __future__ import annotations

from pathlib import Path

import pytest

from modalflow.launch import exit_codes, failures_page, outcomes
from modalflow.launch.failures import BY_EXIT_CODE, BY_KIND, MEANINGS, FailureClass, of_end, of_error, with_hint
from modalflow.launch.gateway import (
    CapacityExhausted,
    EndKind,
    GatewayError,
    ImageBuildFailed,
    InvalidRequest,
    NameTaken,
    NotFound,
    RateLimited,
    SandboxEnd,
    Unauthenticated,
    Unavailable,
)

PAGE = Path(__file__).parents[2] / "docs/reference/failures.md"


def test_the_page_is_what_the_code_says() -> None:
    assert PAGE.read_text() == failures_page.page(), "stale: run `make docs`"


def test_every_class_is_explained_and_can_happen() -> None:
    assert set(MEANINGS) == set(FailureClass)


def test_every_exit_code_and_every_end_of_modals_has_a_class_and_a_sentence() -> None:
    codes = {value for name, value in vars(exit_codes).items() if name.startswith("EXIT_")} - {exit_codes.EXIT_REPORTED}
    assert set(BY_EXIT_CODE) == set(outcomes.BY_EXIT_CODE) == codes
    assert set(BY_KIND) == set(outcomes.BY_KIND) == set(EndKind) - {EndKind.SUCCESS, EndKind.FAILURE}


@pytest.mark.parametrize(
    ("end", "failure"),
    [
        (SandboxEnd(kind=EndKind.FAILURE, exit_code=3), FailureClass.USER),
        (SandboxEnd(kind=EndKind.FAILURE, exit_code=66), FailureClass.IMAGE),
        (SandboxEnd(kind=EndKind.FAILURE, exit_code=137), FailureClass.OUT_OF_MEMORY),
        (SandboxEnd(kind=EndKind.SUCCESS, exit_code=1), FailureClass.AIRFLOW),
        (SandboxEnd(kind=EndKind.TERMINATED, exit_code=137), FailureClass.PREEMPTED),
        (SandboxEnd(kind=EndKind.INIT_FAILURE, exit_code=66), FailureClass.INIT),
    ],
)
def test_modals_word_counts_before_the_exit_code(end: SandboxEnd, failure: FailureClass) -> None:
    assert of_end(end) is failure


@pytest.mark.parametrize(
    ("error", "failure"),
    [
        (Unavailable("x"), FailureClass.NETWORK),
        (RateLimited("x"), FailureClass.QUOTA),
        (CapacityExhausted("x"), FailureClass.CAPACITY),
        (NameTaken("x"), FailureClass.MODAL),
        (NotFound("x"), FailureClass.REFUSED),
        (InvalidRequest("x"), FailureClass.REFUSED),
        (Unauthenticated("x"), FailureClass.CREDENTIALS),
        (ImageBuildFailed("x"), FailureClass.IMAGE_BUILD),
        (GatewayError("x"), FailureClass.MODAL),
    ],
)
def test_each_error_of_modals_has_a_class(error: GatewayError, failure: FailureClass) -> None:
    assert of_error(error) is failure


def test_every_kind_of_error_is_in_the_table() -> None:
    for kind in GatewayError.__subclasses__():
        assert of_error(kind("x")) is not FailureClass.MODAL or kind is NameTaken, kind


def test_an_error_without_a_hint_of_its_own_is_told_as_it_is() -> None:
    assert with_hint(Unavailable("no answer")) == "no answer"
    assert with_hint(GatewayError("odd")) == "odd"
