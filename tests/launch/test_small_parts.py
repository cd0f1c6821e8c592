"""Identity, backoff and outcomes: pure and small."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modalflow.launch import exit_codes, outcomes
from modalflow.launch.backoff import LONGEST, pause_before
from modalflow.launch.gateway import EndKind, SandboxEnd
from modalflow.launch.identity import ExternalId, attempt_name, is_launch_id, parse_attempt_name, parse_external_id
from modalflow.worker import bootstrap_source
from tests.launch.plans import LAUNCH


class TestIdentity:
    @pytest.mark.parametrize(("attempt", "name"), [(1, LAUNCH), (2, f"{LAUNCH}.2"), (13, f"{LAUNCH}.13")])
    def test_names_of_attempts(self, attempt: int, name: str) -> None:
        assert attempt_name(LAUNCH, attempt) == name
        assert parse_attempt_name(name) == (LAUNCH, attempt)
        assert len(name) <= 64, "Modal's limit"

    def test_attempts_count_from_one(self) -> None:
        with pytest.raises(ValueError, match=r"^attempt: expected 1 or more, got 0$"):
            attempt_name(LAUNCH, 0)

    @pytest.mark.parametrize("name", ["", "x", f"{LAUNCH}.", f"{LAUNCH}.1", f"{LAUNCH}.-2", f"{LAUNCH}.x", f"{LAUNCH}x"])
    def test_other_names_are_not_ours(self, name: str) -> None:
        assert parse_attempt_name(name) is None

    @pytest.mark.parametrize("text", ["", "celery-task-1", LAUNCH.upper(), LAUNCH.replace("-", ""), f"{{{LAUNCH}}}"])
    def test_other_ids_are_not_launch_ids(self, text: str) -> None:
        assert not is_launch_id(text)

    @pytest.mark.parametrize(
        ("text", "parsed"),
        [
            (LAUNCH, ExternalId(launch_id=LAUNCH)),
            (f"{LAUNCH}/sb-1", ExternalId(launch_id=LAUNCH, sandbox_id="sb-1")),
        ],
    )
    def test_external_ids_in_both_forms(self, text: str, parsed: ExternalId) -> None:
        assert parse_external_id(text) == parsed
        assert str(parsed) == text

    @pytest.mark.parametrize("text", [None, "", "x", f"{LAUNCH}/", f"{LAUNCH}/pod-1", "arn:aws:ecs/sb-1"])
    def test_other_external_ids_are_not_ours(self, text: str | None) -> None:
        assert parse_external_id(text) is None


class TestBackoff:
    def test_it_doubles_and_is_cut_off(self) -> None:
        assert [pause_before(n, jitter=0.0) for n in (1, 2, 3, 4, 50)] == [0.25, 0.5, 1.0, 2.0, LONGEST / 2]

    @given(st.integers(1, 10_000), st.floats(0, 1, exclude_max=True), st.none() | st.floats(0, 3600))
    def test_it_is_bounded_and_honours_what_modal_asks(self, repetition: int, jitter: float, asked: float | None) -> None:
        pause = pause_before(repetition, jitter=jitter, retry_after=asked)
        assert (asked or 0.25) <= pause or pause >= 0.25
        assert pause <= max(LONGEST, asked or 0.0)


class TestOutcomes:
    @pytest.mark.parametrize("kind", [kind for kind in EndKind if kind is not EndKind.SUCCESS])
    def test_every_kind_of_end_has_a_sentence(self, kind: EndKind) -> None:
        sentence = outcomes.reason(SandboxEnd(kind=kind, exit_code=3, detail="why"), sandbox_id="sb-1")
        assert sentence.endswith(" (sandbox sb-1)")
        assert (": why" in sentence) == (kind not in (EndKind.TERMINATED, EndKind.TIMEOUT, EndKind.IDLE_TIMEOUT))
        assert "\n" not in sentence

    def test_only_exit_zero_is_a_success(self) -> None:
        assert outcomes.succeeded(SandboxEnd(kind=EndKind.SUCCESS, exit_code=0))
        assert not outcomes.succeeded(SandboxEnd(kind=EndKind.FAILURE, exit_code=1))
        assert not outcomes.succeeded(SandboxEnd(kind=EndKind.TERMINATED, exit_code=137))

    def test_an_unknown_exit_code_is_named(self) -> None:
        end = SandboxEnd(kind=EndKind.FAILURE, exit_code=3)
        assert outcomes.reason(end, sandbox_id="sb-1") == (
            "the task's process in the sandbox ended with exit code 3 (sandbox sb-1)"
        )  # fmt: skip

    def test_a_token_in_the_output_is_not_repeated(self) -> None:
        tail = "Authorization: Bearer eyJhbGciOiJIUzUxMiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl\n"
        end = SandboxEnd(kind=EndKind.FAILURE, exit_code=1, detail="eyJhbGciOiJIUzUxMiJ9.eyJzdWIiOiIxIn0.x")
        sentence = outcomes.reason(end, sandbox_id="sb-1", tail=tail)
        assert "eyJ" not in sentence
        assert sentence.endswith(": *** (sandbox sb-1); its last output was: Authorization: Bearer ***")

    def test_the_last_lines_are_kept_and_cut(self) -> None:
        assert outcomes.last_lines("\n".join(str(n) for n in range(20))) == "12 | 13 | 14 | 15 | 16 | 17 | 18 | 19"
        assert len(outcomes.last_lines("x" * 5000)) == outcomes.TAIL_CHARACTERS + 1

    def test_of_json_lines_what_was_said_is_kept(self) -> None:
        lines = [
            'imestamp": "2026-11-24", "event": "cut at its start", "level": "info"}',
            '{"event": "::group::Pre Execute", "level": "info", "logger": "task"}',
            '{"event": "Filling up the DagBag", "level": "info", "logger": "airflow.dag_processing.dagbag.BundleDagBag"}',
            '{"event": "Modal was asked for a sandbox-v2: GPU none", "level": "info", "logger": "modalflow"}',
            '{"event": "about to lose the sandbox", "level": "info", "logger": "task.stdout"}',
            '{"event": "from a logger of theirs", "level": "info", "logger": "their.module"}',
            '{"event": "no space left", "level": "error", "logger": "airflow.sdk.log"}',
            "Killed",
        ]
        assert (
            outcomes.last_lines("\n".join(lines))
            == "about to lose the sandbox | from a logger of theirs | no space left | Killed"
        )

    @pytest.mark.parametrize("key", ["exception", "error_detail"])
    def test_the_exception_of_a_line_is_told(self, key: str) -> None:
        raised = [
            {"exc_type": "ValueError", "exc_value": "bad amount:\n 3", "is_cause": False, "frames": []},
            {"exc_type": "KeyError", "exc_value": "'inner'", "is_cause": True, "frames": []},
        ]
        lines = [
            json.dumps({"event": "Callback execution failed", "level": "error", "logger": "callback", key: raised}),
            json.dumps({"event": "without one", "level": "error", "logger": "callback", key: []}),
        ]
        assert outcomes.last_lines("\n".join(lines)) == "Callback execution failed: ValueError: bad amount: 3 | without one"

    def test_the_exit_codes_are_the_bootstraps(self) -> None:
        theirs = {int(code) for code in re.findall(r"^EXIT_\w+ = (\d+)$", bootstrap_source(), re.MULTILINE)}
        only_ours = {exit_codes.EXIT_NOT_FOUND, exit_codes.EXIT_KILLED}  # of the shell and the kernel
        ours = {value for name, value in vars(exit_codes).items() if name.startswith("EXIT_")} - only_ours
        assert theirs == ours
