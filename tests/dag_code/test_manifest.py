"""What a copy is called: the same for the same content, another for any other; and what no copy may hold."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modalflow.dag_code.manifest import (
    BLOCK_SIZE,
    CodeFile,
    UnsafeNameError,
    amount,
    block_content,
    block_count,
    block_hash,
    check_name,
    manifest_of,
)

NAMES = st.lists(st.text("ab.-é ", min_size=1, max_size=4).filter(lambda part: part not in {".", ".."}), min_size=1, max_size=3)
FILES = st.builds(
    CodeFile,
    path=NAMES.map("/".join),
    size=st.integers(0, 50),
    executable=st.booleans(),
    blocks=st.lists(st.sampled_from([b"a" * 32, b"b" * 32]), max_size=2).map(tuple),
)


@given(st.lists(FILES, unique_by=lambda file: file.path, max_size=6), st.randoms(use_true_random=False))
def test_the_order_in_which_files_are_found_does_not_matter(files: list[CodeFile], random: object) -> None:
    shuffled = files.copy()
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert manifest_of(files) == manifest_of(shuffled)
    assert manifest_of(files).digest == manifest_of(shuffled).digest


@given(
    st.lists(FILES, unique_by=lambda file: file.path, max_size=4), st.lists(FILES, unique_by=lambda file: file.path, max_size=4)
)
def test_other_files_are_another_copy(one: list[CodeFile], other: list[CodeFile]) -> None:
    same = manifest_of(one).files == manifest_of(other).files
    assert (manifest_of(one).digest == manifest_of(other).digest) == same


@pytest.mark.parametrize(
    "change", [{"path": "b.py"}, {"size": 2}, {"executable": True}, {"blocks": (b"y" * 32,)}, {"blocks": (b"x" * 32, b"x" * 32)}]
)
def test_each_field_counts(change: dict[str, object]) -> None:
    file = CodeFile(path="a.py", size=1, blocks=(b"x" * 32,))
    assert manifest_of([file]).digest != manifest_of([replace(file, **change)]).digest  # type: ignore[arg-type]


def test_the_digest_of_a_known_copy_stays() -> None:
    """Another one would have every deployment upload everything again: then FORMAT changes, and this line."""
    file = CodeFile(path="etl.py", size=3, blocks=(block_hash(b"abc"),))
    assert manifest_of([file]).digest == "fda8b38b242407196ec7e9f8172539d1"


@pytest.mark.parametrize("path", ["", "/etc/passwd", "..", "a/../b", "./a", "a//b", "a/", "a\0b", "\udcff.py"])
def test_a_name_that_leads_elsewhere_is_refused(path: str) -> None:
    with pytest.raises(UnsafeNameError):
        manifest_of([CodeFile(path=path, size=0)])


@pytest.mark.parametrize("path", ["a..b", "...", "a b/ü.py", ".airflowignore", "a\nb"])
def test_an_odd_name_is_a_name(path: str) -> None:
    check_name(path)


def test_a_name_that_is_there_twice_is_refused() -> None:
    with pytest.raises(UnsafeNameError, match="there twice"):
        manifest_of([CodeFile(path="a", size=0), CodeFile(path="a", size=0)])


@given(st.binary(max_size=20), st.integers(0, 5))
def test_zeros_at_a_blocks_end_are_not_stored(content: bytes, zeros: int) -> None:
    block = content + b"\0" * zeros
    assert block_hash(block) == hashlib.sha256(content.rstrip(b"\0")).digest()
    assert block_content(block) + b"\0" * (len(block) - len(block_content(block))) == block


@pytest.mark.parametrize(("size", "blocks"), [(0, 0), (1, 1), (BLOCK_SIZE, 1), (BLOCK_SIZE + 1, 2)])
def test_blocks_of_a_size(size: int, blocks: int) -> None:
    assert block_count(size) == blocks


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0 bytes"), (1023, "1023 bytes"), (1024, "1.0 KiB"), (3 * 2**20, "3.0 MiB"), (2**30, "1.0 GiB")]
)
def test_an_amount_for_people(size: int, text: str) -> None:
    assert amount(size) == text


def test_everybody_may_read_a_copy() -> None:
    assert CodeFile(path="a", size=0).mode == 0o644
    assert CodeFile(path="a", size=0, executable=True).mode == 0o755
