"""The committed tree, as pure state."""

from __future__ import annotations

import pytest

from modalflow.emulator.state.volume_tree import (
    Change,
    File,
    Folder,
    Link,
    VolumeConflictError,
    VolumeNotFoundError,
    VolumePathError,
    VolumeTree,
)

ONE = File(blocks=("1",), size=1)
TWO = File(blocks=("2",), size=1)


def tree_of(*paths: str) -> VolumeTree:
    tree = VolumeTree()
    for path in paths:
        tree.put(path, ONE)
    return tree


def paths(tree: VolumeTree) -> list[str]:
    return [entry.path for entry in tree.listing("", recursive=True)]


def test_a_listing_is_sorted_and_folders_come_before_what_is_in_them() -> None:
    assert paths(tree_of("b/y", "b/x", "a")) == ["a", "b", "b/x", "b/y"]
    assert [entry.path for entry in tree_of("b/y").listing("/b/", recursive=False)] == ["b/y"]
    assert [entry.path for entry in tree_of("b/y").listing("b/y", recursive=False)] == ["b/y"]


@pytest.mark.parametrize("path", ["..", "a/../../b", "a/.."])
def test_a_path_with_dots_is_refused(path: str) -> None:
    with pytest.raises(VolumePathError, match=r"must not contain '\.\.'"):
        VolumeTree().put(path, ONE)


def test_a_nul_byte_is_refused() -> None:
    with pytest.raises(VolumePathError, match="NUL"):
        VolumeTree().put("a\0b", ONE)


def test_what_is_missing_is_named() -> None:
    with pytest.raises(VolumeNotFoundError, match="No such file or directory: 'a/b'"):
        tree_of("a/c").get("a/b")


def test_a_file_and_a_folder_do_not_replace_each_other_from_outside() -> None:
    with pytest.raises(VolumeConflictError, match="Is a directory: 'a'"):
        tree_of("a/b").put("a", ONE)
    with pytest.raises(VolumeConflictError, match="Not a directory: 'a' in 'a'"):
        tree_of("a").put("a/b", ONE)
    with pytest.raises(VolumeConflictError, match="is the Volume itself"):
        VolumeTree().put("/", ONE)


def test_a_folder_is_removed_only_recursively() -> None:
    tree = tree_of("a/b")
    with pytest.raises(VolumeConflictError, match="remove it with recursive=True"):
        tree.remove("a", recursive=False)
    tree.remove("a", recursive=True)
    assert paths(tree) == []


def test_copying_is_that_of_cp() -> None:
    tree = tree_of("a", "d/x")
    tree.copy(["a"], "b", recursive=False)
    tree.copy(["a", "b"], "d", recursive=False)
    assert paths(tree) == ["a", "b", "d", "d/a", "d/b", "d/x"]
    with pytest.raises(VolumeConflictError, match="copy it with recursive=True"):
        tree.copy(["d"], "e", recursive=False)
    with pytest.raises(VolumeConflictError, match="several sources need an existing folder"):
        tree.copy(["a", "b"], "nowhere", recursive=False)
    tree.copy(["d"], "e", recursive=True)
    tree.put("e/x", TWO)
    assert tree.file("d/x") == ONE, "a copy is a copy"


def test_copying_a_folder_merges_and_never_loses_what_is_there() -> None:
    tree = tree_of("d/x", "d/sub/y", "e/d/kept", "f")
    tree.copy(["d"], "e", recursive=True)
    assert paths(tree) == ["d", "d/sub", "d/sub/y", "d/x", "e", "e/d", "e/d/kept", "e/d/sub", "e/d/sub/y", "e/d/x", "f"]
    for sources, target, message in (
        (["d"], "d/sub", "Cannot copy 'd' into itself, 'd/sub/d'"),
        (["d"], "f", "Not a directory: 'f' in 'f'"),
        (["/"], "e", "Path '/' is the Volume itself"),
    ):
        with pytest.raises(VolumeConflictError, match=message):
            tree.copy(sources, target, recursive=True)
    assert tree.file("f") == ONE


def test_a_commit_changes_only_its_own_paths() -> None:
    tree = tree_of("base/kept", "base/gone", "outside")
    tree.apply("base", [Change(path="new", node=Folder()), Change(path="new/file", node=TWO), Change(path="gone", node=None)])
    assert paths(tree) == ["base", "base/kept", "base/new", "base/new/file", "outside"]


def test_a_commit_does_not_remove_a_folder_that_somebody_else_has_filled() -> None:
    tree = tree_of("d/mine", "d/theirs")
    tree.apply("", [Change(path="d/mine", node=None), Change(path="d", node=None)])
    assert paths(tree) == ["d", "d/theirs"]
    tree.apply("", [Change(path="d/theirs", node=None), Change(path="d", node=None), Change(path="never", node=None)])
    assert paths(tree) == []


def test_a_commit_may_change_the_kind_of_a_path() -> None:
    tree = tree_of("a", "d/x")
    tree.apply("", [Change(path="a", node=Folder()), Change(path="a/b", node=TWO), Change(path="d", node=Link(target="a"))])
    assert paths(tree) == ["a", "a/b", "d"]
    tree.apply("", [Change(path="d/deep/file", node=ONE)])
    assert paths(tree) == ["a", "a/b", "d", "d/deep", "d/deep/file"]
