"""What of a folder is code, and that only what changed is read."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modalflow.dag_code import reading
from modalflow.dag_code.manifest import BLOCK_SIZE, block_hash
from modalflow.dag_code.reading import FolderReader, FolderRules, Look
from modalflow.dag_code.tree import FolderChangedError, Found, walk
from modalflow.executor.dag_code import considered_by_airflow
from modalflow.launch.gateway import DagCodeError

# Airflow 3.3.2 asks pathspec by a name that pathspec 1.0 gave up.
pytestmark = pytest.mark.filterwarnings("ignore:GitWildMatchPattern:DeprecationWarning")


def later() -> int:
    """A clock that is ahead: what was just written is old for it."""
    return time.time_ns() + 60 * 10**9


def write(folder: Path, *paths: str, text: str = "x = 1\n") -> None:
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)


def reader(folder: Path, *, syntax: str = "glob", **rules: bool | int) -> FolderReader:
    return FolderReader(str(folder), FolderRules(**rules), considered_by_airflow(syntax), clock_ns=later)  # type: ignore[arg-type]


def names(look: Look) -> list[str]:
    return [file.path for file in look.manifest.files]


def test_all_files_but_caches_version_control_and_virtual_environments(tmp_path: Path) -> None:
    write(tmp_path, "etl.py", "sql/load.sql", "etl/__init__.py", ".hidden", "a..b.py")
    write(tmp_path, "__pycache__/etl.cpython-311.pyc", "etl/__pycache__/x.pyc", ".git/config", "sub/.git", ".hg/x", "CVS/x")
    write(tmp_path, "venv/pyvenv.cfg", "venv/bin/python", ".venv/lib/x.py")
    assert names(reader(tmp_path).look()) == [".hidden", "a..b.py", "etl.py", "etl/__init__.py", "sql/load.sql"]


IGNORED = ["data.csv", "shared/model.py", "shared/model.sql", "tests/test_etl.py"]


@pytest.mark.parametrize(
    ("syntax", "rules"),
    [("glob", "shared/\n*.csv  # data\n/tests\n"), ("regexp", "shared/.*\n.*\\.csv\ntests\n")],
)
def test_what_airflow_ignores_is_left_out_but_for_modules(tmp_path: Path, syntax: str, rules: str) -> None:
    write(tmp_path, "etl.py", "sub/etl.py", *IGNORED)
    write(tmp_path, ".airflowignore", text=rules)
    assert names(reader(tmp_path, syntax=syntax).look()) == [
        ".airflowignore", "etl.py", "shared/model.py", "sub/etl.py", "tests/test_etl.py"
    ]  # fmt: skip
    assert names(reader(tmp_path, syntax=syntax, ignored_modules=False).look()) == [".airflowignore", "etl.py", "sub/etl.py"]


def test_a_rule_in_a_subfolder_holds_there_and_a_later_one_overrides(tmp_path: Path) -> None:
    write(tmp_path, "a/keep.csv", "a/x.csv", "b/x.csv")
    write(tmp_path, "a/.airflowignore", text="*.csv\n!keep.csv\n")
    assert names(reader(tmp_path).look()) == ["a/.airflowignore", "a/keep.csv", "b/x.csv"]


def test_a_changed_rule_counts_at_the_next_look(tmp_path: Path) -> None:
    write(tmp_path, "a.csv", ".airflowignore", text="*.txt\n")
    looking = reader(tmp_path)
    assert names(looking.look()) == [".airflowignore", "a.csv"]
    write(tmp_path, ".airflowignore", text="*.csv\n")
    assert names(looking.look()) == [".airflowignore"]


def test_links_count_as_what_they_lead_to(tmp_path: Path) -> None:
    write(tmp_path, "real/etl.py", text="same\n")
    (tmp_path / "etl.py").symlink_to("real/etl.py")
    (tmp_path / "folder").symlink_to(tmp_path / "real")
    look = reader(tmp_path).look()
    assert names(look) == ["etl.py", "folder/etl.py", "real/etl.py"]
    assert len({file.blocks for file in look.manifest.files}) == 1
    assert look.left_out == ()


def test_links_that_lead_out_nowhere_or_in_a_circle_are_left_out_with_a_word(tmp_path: Path) -> None:
    dags, outside = tmp_path / "dags", tmp_path / "secrets"
    write(tmp_path, "dags/etl.py", "secrets/airflow.cfg")
    (dags / "cfg").symlink_to(outside / "airflow.cfg")
    (dags / "up").symlink_to("..")
    (dags / "root").symlink_to("/")
    (dags / "self").symlink_to(dags)
    (dags / "gone").symlink_to("nothing")
    (dags / "itself").symlink_to("itself")
    (dags / ".git").symlink_to(outside)
    os.mkfifo(dags / "pipe")
    (dags / os.fsdecode(b"\xff.py")).symlink_to("etl.py")
    look = reader(dags).look()
    assert names(look) == ["etl.py"]
    out = "[modal_executor] dag_outside_links = True follows it"
    assert sorted(look.left_out) == [
        r"'\udcff.py' is left out: its name is not UTF-8",
        f"cfg is left out: a link that leads out of the folder, to {outside}/airflow.cfg; {out}",
        "gone is left out: a link that leads nowhere",
        "itself is left out: a link that leads nowhere",
        "pipe is left out: neither a file nor a folder",
        f"root is left out: a link that leads out of the folder, to /; {out}",
        "self is left out: a link to a folder that it is in itself",
        f"up is left out: a link that leads out of the folder, to {tmp_path}; {out}",
    ]
    assert names(reader(dags, outside_links=True).look()) == ["cfg", "etl.py"], "a circle is never followed"


def test_folders_that_link_to_each_other_end(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write(tmp_path, f"{name}/etl.py")
    (tmp_path / "a/b").symlink_to("../b")
    (tmp_path / "b/a").symlink_to("../a")
    look = reader(tmp_path).look()
    assert names(look) == ["a/b/etl.py", "a/etl.py", "b/a/etl.py", "b/etl.py"]


def test_a_folder_that_is_swapped_as_git_sync_does_is_read_as_one_state(tmp_path: Path) -> None:
    for version in ("one", "two"):
        write(tmp_path, f".worktrees/{version}/dags/etl.py", text=version)
    current = tmp_path / "current"
    current.symlink_to(".worktrees/one")
    looking = reader(current / "dags")
    first = looking.look()
    (tmp_path / "next").symlink_to(".worktrees/two")
    (tmp_path / "next").rename(current)
    assert looking.look().manifest.digest != first.manifest.digest
    assert looking.look().root == str(tmp_path / ".worktrees/two/dags")


def test_only_what_changed_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, *(f"dag_{n}.py" for n in range(20)))
    read: list[str] = []
    opened = reading._opened

    def counted(file: Found, root: str | None) -> AbstractContextManager[int]:
        read.append(Path(file.real).name)
        return opened(file, root)

    monkeypatch.setattr(reading, "_opened", counted)
    looking = reader(tmp_path)
    first = looking.look()
    assert len(read) == 20
    assert looking.look() is first
    (tmp_path / "dag_3.py").write_text("x = 2\n")
    assert looking.look().manifest.digest != first.manifest.digest
    assert read[20:] == ["dag_3.py"]
    os.utime(tmp_path / "dag_4.py", (1, 1))
    assert looking.look().manifest.digest == looking.look().manifest.digest, "a touch is no change of content"
    assert read[21:] == ["dag_4.py"]


def test_a_change_without_another_size_or_time_is_seen_while_it_is_fresh(tmp_path: Path) -> None:
    """As from an editor that saves twice within a tick of the clock, or a tool that sets the time back."""
    write(tmp_path, "etl.py", text="x = 1\n")
    looking = FolderReader(str(tmp_path), FolderRules(), clock_ns=time.time_ns)
    first = looking.look()
    status = (tmp_path / "etl.py").stat()
    (tmp_path / "etl.py").write_text("x = 2\n")
    os.utime(tmp_path / "etl.py", ns=(status.st_atime_ns, status.st_mtime_ns))
    assert looking.look().manifest.digest != first.manifest.digest


def test_what_is_sent_is_what_was_hashed(tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_bytes(b"a" * BLOCK_SIZE + b"b\0\0")
    looking = reader(tmp_path)
    look = looking.look()
    [file] = look.manifest.files
    assert [looking.block(look, file, index) for index in (0, 1)] == [b"a" * BLOCK_SIZE, b"b"]
    assert file.blocks == (block_hash(b"a" * BLOCK_SIZE), block_hash(b"b"))
    (tmp_path / "model.bin").write_bytes(b"c" * BLOCK_SIZE + b"b\0\0")
    with pytest.raises(FolderChangedError):
        looking.block(look, file, 0)
    (tmp_path / "model.bin").unlink()
    with pytest.raises(FolderChangedError):
        looking.block(look, file, 0)


def test_a_file_that_becomes_a_link_to_elsewhere_is_not_read(tmp_path: Path) -> None:
    write(tmp_path, "dags/etl.py", "secret")
    looking = reader(tmp_path / "dags")
    look = looking.look()
    (tmp_path / "dags/etl.py").unlink()
    (tmp_path / "dags/etl.py").symlink_to(tmp_path / "secret")
    with pytest.raises(DagCodeError, match=r"etl\.py cannot be read by the scheduler \(Too many levels of symbolic links\)"):
        looking.block(look, look.manifest.files[0], 0)


def test_a_folder_that_becomes_a_link_to_elsewhere_is_not_followed(tmp_path: Path) -> None:
    """The very file moved out, and a link put where its folder was: same inode, another place."""
    write(tmp_path, "dags/sub/etl.py")
    looking = reader(tmp_path / "dags")
    look = looking.look()
    (tmp_path / "dags/sub").rename(tmp_path / "moved")
    (tmp_path / "dags/sub").symlink_to(tmp_path / "moved")
    with pytest.raises(FolderChangedError, match="is not in"):
        looking.block(look, look.manifest.files[0], 0)


def test_too_much_is_refused_with_what_is_large(tmp_path: Path) -> None:
    write(tmp_path, "etl.py")
    for name, size in (("a.parquet", 700_000), ("data/b.parquet", 600_000), ("c.csv", 5000)):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x" * size)
    with pytest.raises(DagCodeError) as refused:
        reader(tmp_path, limit=2**20).look()
    assert str(refused.value) == (
        f"{tmp_path} holds 1.2 MiB, more than [modal_executor] dag_code_limit = 1 (MiB); the largest are a.parquet (683.6 KiB), "
        "data/b.parquet (585.9 KiB), c.csv (4.9 KiB): move data out of the folder, list it in .airflowignore, or raise the limit"
    )
    write(tmp_path, ".airflowignore", text="data/\n")
    assert names(reader(tmp_path, limit=2**20).look()) == [".airflowignore", "a.parquet", "c.csv", "etl.py"]


def refuses(looking: FolderReader) -> str:
    with pytest.raises(DagCodeError) as refused:
        looking.look()
    return str(refused.value)


def test_too_many_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "a.py", "b.py", "c.py")
    monkeypatch.setattr("modalflow.dag_code.reading.MOST_FILES", 2)
    assert refuses(reader(tmp_path)) == (
        f"{tmp_path} holds 3 files, more than the 2 that are brought to Modal: move data out of the folder, list it in "
        ".airflowignore, or have the code in the image (dag_source = image)"
    )
    monkeypatch.setattr("modalflow.dag_code.tree.MOST_ENTRIES", 2)
    assert refuses(reader(tmp_path)) == (
        f"{tmp_path} holds more than 2 files and folders, links followed: move out of it what is no code, or have the code "
        "in the image (dag_source = image)"
    )


def test_folders_without_end_are_refused(tmp_path: Path) -> None:
    write(tmp_path, "/".join(["d"] * 101) + "/etl.py")
    assert refuses(reader(tmp_path)) == f"{tmp_path} is more than 100 folders deep: {('d/' * 100)[:80]}…"


def test_an_unreadable_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "etl.py", "private.py")
    real_open = os.open

    def denied(path: str, flags: int) -> int:
        if path.endswith("private.py"):
            raise PermissionError(13, "Permission denied", path)
        return real_open(path, flags)

    monkeypatch.setattr(os, "open", denied)
    assert refuses(reader(tmp_path)) == (
        f"{tmp_path}/private.py cannot be read by the scheduler (Permission denied): let its user (id {os.geteuid()}) read it, "
        "or move it out of the folder"
    )


def test_what_is_no_folder_is_said(tmp_path: Path) -> None:
    assert refuses(reader(tmp_path / "gone")) == f"{tmp_path}/gone is not a folder of this host"


def test_rules_that_airflow_cannot_follow_are_said(tmp_path: Path) -> None:
    write(tmp_path, ".airflowignore", "a/etl.py")
    (tmp_path / "again").symlink_to("a")
    (tmp_path / "once_more").symlink_to("a")
    assert refuses(reader(tmp_path)).startswith(
        f"Airflow cannot read .airflowignore in {tmp_path}: Detected recursive loop when walking DAG directory {tmp_path}"
    )


def test_a_folder_that_vanishes_under_way_is_on_the_move(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "a/etl.py")
    scan = os.scandir

    def vanishing(path: str) -> object:
        if path.endswith("/a"):
            raise FileNotFoundError(path)
        return scan(path)

    monkeypatch.setattr(os, "scandir", vanishing)
    with pytest.raises(FolderChangedError):
        walk(str(tmp_path), outside_links=False)


EDITS: dict[str, Callable[[Path], object]] = {
    "write": lambda path: path.write_text(path.name),
    "other": lambda path: path.write_text("other"),
    "remove": lambda path: path.unlink(missing_ok=True),
    "chmod": lambda path: path.chmod(0o700) if path.exists() else None,
}


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["a.py", "s/b.py", "s/c.sql"]), st.sampled_from(sorted(EDITS))), max_size=8))
def test_a_reader_that_remembers_says_what_a_new_one_would(
    tmp_path_factory: pytest.TempPathFactory, edits: list[tuple[str, str]]
) -> None:
    folder = tmp_path_factory.mktemp("dags")
    (folder / "s").mkdir()
    remembering = FolderReader(str(folder), FolderRules(), clock_ns=time.time_ns)
    for name, edit in edits:
        EDITS[edit](folder / name)
        assert remembering.look().manifest == FolderReader(str(folder), FolderRules()).look().manifest
