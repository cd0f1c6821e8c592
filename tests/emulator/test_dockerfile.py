"""Dockerfile text is read as Docker reads it."""

from __future__ import annotations

import pytest

from modalflow.emulator.state.dockerfile import DockerfileError, Heredoc, expanded, filled, parse, split_expanded
from modalflow.emulator.state.image_layers import ImageSettings, Scope


def test_continued_lines_comments_and_blank_lines_are_one_instruction() -> None:
    (instruction,) = parse(["RUN a && \\", "  # a comment", "", "  b"])
    assert (instruction.keyword, instruction.rest) == ("RUN", "a &&   b")


def test_text_with_line_ends_is_several_instructions() -> None:
    assert [one.keyword for one in parse(["from base\n# comment\nenv A=1", "run true"])] == ["FROM", "ENV", "RUN"]


def test_the_escape_directive_is_followed() -> None:
    (instruction,) = parse(["# escape=`", "RUN a `", "b"])
    assert instruction.rest == "a b"


def test_heredocs_belong_to_their_instruction() -> None:
    first, second = parse(["RUN cat <<A <<-'B' > /x", "one $HOME", "A", "\ttwo", "\tB", "RUN true"])
    assert first.heredocs == (Heredoc("A", "one $HOME\n", quoted=False), Heredoc("B", "two\n", quoted=True))
    assert second.rest == "true"


def test_flags_and_json_words() -> None:
    copy, run = parse(['COPY --chown=1:2 --link ["a b", "/c"]', "RUN echo --not-a-flag"])
    assert (dict(copy.flags), copy.words()) == ({"chown": "1:2", "link": "true"}, ("a b", "/c"))
    assert (dict(run.flags), run.words()) == ({}, None)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("FROM base\nFRMO x", "Dockerfile line 2: unknown instruction: 'FRMO'"),
        ("RUN", "Dockerfile line 1: RUN needs at least one argument"),
        ("RUN cat <<END\nx", "Dockerfile line 1: the heredoc 'END' has no end"),
    ],
)
def test_what_is_no_dockerfile_is_told_by_line(text: str, message: str) -> None:
    with pytest.raises(DockerfileError) as caught:
        parse([text])
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("$A/${A}x", "1/1x"),
        ("${B:-none} ${A:-none} ${A:+set}${B:+set}", "none 1 set"),
        ("\\$A '$A' \"$A\"", "$A 1 1"),
        ('"a\\"b\\c"', 'a"b\\c'),
        ("$$A", "$1"),
    ],
)
def test_variables_and_quotes(text: str, result: str) -> None:
    assert expanded(text, {"A": "1"}) == result


def test_words_are_split_outside_quotes_only() -> None:
    assert split_expanded("a='b c' $A  \"\" d\\ e", {"A": "x y"}) == ["a=b c", "x y", "", "d e"]


def test_a_heredocs_text_keeps_its_quotes() -> None:
    assert filled("it's $A \\$A\n", {"A": "1"}) == "it's 1 $A\n"


def test_arguments_hold_where_no_variable_has_their_name() -> None:
    scope = Scope(settings=ImageSettings(env={"B": "env"}), build_args={"A": "given", "B": "given"})
    for instruction in parse(["ARG A=default B", "ARG C=$A", "ENV D=$A-$B-$C"]):
        scope = scope.after(instruction)
    assert scope.settings.env["D"] == "given-env-given"
    assert "A" not in scope.settings.env


def test_the_shell_runs_what_comes_after_it() -> None:
    scope = Scope(settings=ImageSettings())
    for instruction in parse(["CMD one", 'SHELL ["/bin/bash", "-ec"]', "ENTRYPOINT two", "USER app"]):
        scope = scope.after(instruction)
    settings = scope.settings
    assert (settings.entrypoint, settings.command, settings.user) == (("/bin/bash", "-ec", "two"), (), "app")
