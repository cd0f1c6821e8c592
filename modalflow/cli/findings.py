"""Every finding about DAG files and templates, each with the file and the line that it is about.

In: files and folders, or nothing for what is configured. Out: ``Finding``s, equal ones once. Next: ``lint_command`` shows them as
text, GitHub annotations, SARIF or JSON.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from modalflow.cli.dag_lines import DagSource
from modalflow.cli.documents import read_files
from modalflow.cli.site import Site
from modalflow.cli.translating import translate_document, translate_task
from modalflow.provider.dag_files import DagTask, LoadedDags, load_bundles, load_path
from modalflow.templates import SUFFIXES
from modalflow.translation.diagnostics import Diagnostic, Severity

IMPORT_ERROR = "import-error"
"""Rule of a DAG file that Airflow cannot import. The text is Airflow's."""
NO_FILE = "no-such-file"
NOT_A_TEMPLATE = frozenset({"no-pod"})
"""What a folder's other YAML files may be; only a file that was named is told of it."""
OF_THE_SITE = ("[modal_executor]", "built-in")
MOST_SUBJECTS = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One finding. ``file`` is ``None`` for the site's options; ``subjects`` are the tasks (``dag.task``) that meet it."""

    file: str | None
    line: int | None
    severity: Severity
    code: str
    text: str
    subjects: tuple[str, ...] = ()

    @property
    def message(self) -> str:
        """The text, with the tasks in front of it."""
        if not self.subjects:
            return self.text
        more = len(self.subjects) - MOST_SUBJECTS
        told = ", ".join(self.subjects[:MOST_SUBJECTS]) + (f" and {more} more" if more > 0 else "")
        return f"{told}: {self.text}"


@dataclass(kw_only=True, slots=True)
class Checked:
    """How much was looked at, so that a folder without a DAG is not taken for one without a mistake."""

    tasks: int = 0
    templates: int = 0

    def __str__(self) -> str:
        told = [_counted(self.tasks, "task"), _counted(self.templates, "template")]
        return " and ".join(filter(None, told)) or "no task and no template"


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}" if number else ""


def findings_of(paths: Sequence[str], site: Site, *, verbose: bool = False, checked: Checked | None = None) -> list[Finding]:
    """Return all findings, by file and line. Without ``paths``: of the configured bundles and template folders.

    ``checked`` is added to.
    """
    checked = Checked() if checked is None else checked
    found: list[Finding] = []
    if not paths:
        found += _of_dags(load_bundles(verbose=verbose, with_examples=False), site, checked)
        for folder in site.folders:
            found += _of_templates(_yaml_files(Path(folder)), site, checked, named=False)
    for text in paths:
        path = Path(text)
        if path.is_dir():
            found += _of_dags(load_path(path, verbose=verbose), site, checked)
            found += _of_templates(_yaml_files(path), site, checked, named=False)
        elif path.suffix in SUFFIXES or path.suffix == ".json":
            found += _of_templates([path], site, checked, named=True)
        elif path.is_file():
            found += _of_dags(load_path(path, verbose=verbose), site, checked)
        else:
            found.append(Finding(file=text, line=None, severity=Severity.ERROR, code=NO_FILE, text="no such file or folder"))
    return _collapsed(found)


def _yaml_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.suffix in SUFFIXES and path.is_file() and not _hidden(path, folder))


def _hidden(path: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(folder).parts)


def _of_templates(files: Iterable[Path], site: Site, checked: Checked, *, named: bool) -> Iterator[Finding]:
    for document in read_files(str(file) for file in files):
        checked.templates += document.is_translatable
        for found in translate_document(document, site.options, site.folders).translation.diagnostics:
            if named or found.code not in NOT_A_TEMPLATE:
                yield _finding(found, document.file, None)


def _of_dags(loaded: LoadedDags, site: Site, checked: Checked) -> Iterator[Finding]:
    for file, text in loaded.errors.items():
        yield Finding(file=_near(file), line=_traceback_line(file, text), severity=Severity.ERROR, code=IMPORT_ERROR, text=text)
    sources: dict[str, DagSource] = {}
    for task in sorted(loaded.tasks, key=lambda task: (task.file, task.dag_id, task.task_id)):
        if not task.on_modal:
            continue
        checked.tasks += 1
        if task.file not in sources:
            sources[task.file] = DagSource(_read(task.file))
        yield from _of_task(task, site, sources[task.file])


def _of_task(task: DagTask, site: Site, source: DagSource) -> Iterator[Finding]:
    subject = f"{task.dag_id}.{task.task_id}"
    for found in translate_task(task, site).diagnostics:
        finding = _finding(found, task.file, subject)
        if finding.line is None and finding.file == _near(task.file):
            finding = replace(finding, line=source.line_of(task.task_id, found.origin.path))
        yield finding


def _finding(found: Diagnostic, file: str, subject: str | None) -> Finding:
    origin = found.origin
    tail = f"; {found.hint}" if found.hint else ""
    of_the_site = origin.file is None and origin.layer.startswith(OF_THE_SITE)
    return Finding(
        file=None if of_the_site else _near(origin.file or file),
        line=origin.line,
        severity=found.severity,
        code=found.code,
        text=f"{origin.path}: {found.message}{tail}",
        subjects=() if subject is None else (subject,),
    )


def _near(file: str) -> str:
    """Spell a path from the current folder where it is in there, as CI wants it."""
    path = os.path.relpath(file)
    return str(Path(file)) if path.startswith("..") else path


def _read(file: str) -> str:
    try:
        return Path(file).read_text(encoding="utf-8")
    except (OSError, ValueError):  # a packaged DAG
        return ""


def _traceback_line(file: str, text: str) -> int | None:
    """Return the last line of the file that a traceback names."""
    lines = re.findall(rf'File "{re.escape(file)}", line (\d+)', text)
    return int(lines[-1]) if lines else None


def _collapsed(found: Iterable[Finding]) -> list[Finding]:
    kept: dict[object, Finding] = {}
    for finding in found:
        key = replace(finding, subjects=())
        first = kept.get(key)
        subjects = finding.subjects if first is None else tuple(dict.fromkeys((*first.subjects, *finding.subjects)))
        kept[key] = replace(finding, subjects=subjects)
    return sorted(kept.values(), key=lambda one: (one.file or "", one.line or 0))
