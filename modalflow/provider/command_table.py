"""The commands that ``modalflow`` and ``airflow modal`` share: what each is called, takes and does, as data.

``commands`` makes Airflow's parser of it and ``modalflow.cli.main`` the one of ``modalflow``; ``run`` names the function behind a
command, a ``(Namespace) -> exit code`` in the layer above this one. Imported by every ``airflow`` command: imports nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True, slots=True)
class Argument:
    """Flags, or the name of a positional; ``options`` are those of ``argparse.ArgumentParser.add_argument``."""

    flags: tuple[str, ...]
    options: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Command:
    """One command. ``loads_dags``: it parses DAG files with Airflow, whose configuration then counts in both spellings."""

    help: str
    run: str
    arguments: tuple[Argument, ...]
    epilog: str = ""
    loads_dags: bool = False


def _argument(*flags: str, **options: object) -> Argument:
    return Argument(flags=flags, options=options)


def _json(what: str) -> Argument:
    return _argument("--json", action="store_true", help=what)


_OPTION = _argument(
    "-o", "--option", action="append", default=[], metavar="NAME=VALUE", help="an option of [modal_executor], for this run"
)
_TEMPLATES = _argument("--templates", action="append", default=[], metavar="FOLDER", help="folder of templates to extend")
_BUNDLE = _argument("-B", "--bundle-name", action="append", default=None, help="a DAG bundle to look in; more than one is fine")
_DAGS_FOLDER = _argument(
    "--dags-folder", "--file", dest="dags_path", metavar="PATH", help="DAG file or folder to look in, in the place of the bundles"
)
_VERBOSE = _argument("-v", "--verbose", action="store_true", help="show what Airflow logs while it loads DAGs")
_BACKEND = _argument(
    "--backend", choices=("sandbox", "function", "auto"), help="plan for a sandbox, a deployed Function, or what fits"
)
_SITE = (_OPTION, _TEMPLATES)

COMMANDS: Mapping[str, Command] = {
    "translate": Command(
        help="show what Modal would get for pods and task templates, leaf by leaf",
        run="modalflow.cli.translate_command.run",
        arguments=(
            _argument(
                "files",
                nargs="+",
                metavar="FILE",
                help="YAML or JSON: pods, Deployments, Jobs, lists, templates; - is stdin",
            ),
            _json("spec, launch plan, findings and the account of every leaf"),
            _argument("--yaml", action="store_true", help="a ModalTask template that asks Modal for the same"),
            _BACKEND,
            *_SITE,
        ),
        epilog="Exit codes: 0 everything is translated, 1 something is refused.",
    ),
    "explain": Command(
        help="show what Modal would get for the tasks of a DAG, which layer decided each field, what it overrode, and the price",
        run="modalflow.cli.explain_command.run",
        arguments=(
            _argument("dag", metavar="DAG", help="a DAG id, or a DAG file"),
            _argument("task", metavar="TASK", nargs="?", help="a task id; without it, every task is shown"),
            _DAGS_FOLDER,
            _BUNDLE,
            _json("fields, prices, findings and the Python source of each task"),
            _argument("--python", action="store_true", help="Python source that makes the same sandboxes"),
            *_SITE,
            _VERBOSE,
        ),
        epilog="Exit codes: 0 every task can run, 1 one is refused or could not be loaded. Nothing is sent to Modal.",
        loads_dags=True,
    ),
    "lint": Command(
        help="translate every task of every DAG and every template, and report all findings",
        run="modalflow.cli.lint_command.run",
        arguments=(
            _argument("paths", nargs="*", metavar="PATH", help="DAG files, templates, folders; without one, what is configured"),
            _argument(
                "--format",
                choices=("text", "github", "sarif", "json"),
                default="text",
                help="github writes annotations for GitHub Actions, sarif a log for code scanning",
            ),
            _argument("--strict", action="store_true", help="warnings fail too"),
            _argument("--docs", default="", metavar="URL", help="where the pages of docs/diagnostics are, for links in SARIF"),
            *_SITE,
            _VERBOSE,
        ),
        epilog="Exit codes: 0 there is no error, 1 there is one. Nothing is sent to Modal.",
        loads_dags=True,
    ),
    "gpus": Command(
        help="list the GPU models, or rank them for a wish",
        run="modalflow.cli.gpus_command.run",
        arguments=(
            _argument(
                "--for",
                dest="wish",
                metavar="WISH",
                help="rank the models for a wish: memory>=40Gi,count=2,price<=3,region=us, any_of=H100|L40S, JSON of the gpu "
                "key, or A100:40GB:2",
            ),
            _json("print JSON"),
        ),
    ),
    "fields": Command(
        help="what becomes of every field of a pod",
        run="modalflow.cli.fields_command.run",
        arguments=(
            _argument("prefix", nargs="?", default="", metavar="PREFIX", help="e.g. spec.volumes"),
            _json("one object for each leaf"),
        ),
    ),
    "codes": Command(
        help="what a finding's code means, and how to mend it",
        run="modalflow.cli.codes_command.run",
        arguments=(_argument("code", nargs="?", default="", metavar="CODE", help="e.g. unknown-gpu"),),
    ),
    "merge": Command(
        help="print the pod that comes out when pods are laid on each other",
        run="modalflow.cli.merge_command.run",
        arguments=(
            _argument("files", nargs="+", metavar="FILE", help="YAML or JSON with one pod each, weakest first"),
            _argument(
                "--merge",
                choices=("kubernetes_executor", "strategic"),
                default="kubernetes_executor",
                help="KubernetesExecutor's rule (the default), or that of kubectl patch",
            ),
        ),
        epilog="Exit codes: 0 there is a merged pod, 1 there is none. What surprises is on stderr.",
    ),
    "diff": Command(
        help="what two files, tasks, templates or layers would ask of Modal, where it differs",
        run="modalflow.cli.diff_command.run_diff",
        arguments=(
            _argument("a", metavar="A", help="a YAML or JSON file, DAG.TASK, template:NAME, options (the site's) or built-in"),
            _argument("b", metavar="B", help="another one"),
            _DAGS_FOLDER,
            _BUNDLE,
            _json("one object for each field that differs"),
            *_SITE,
        ),
    ),
    "schema": Command(
        help="print a JSON Schema, for editors and CI",
        run="modalflow.cli.schema_command.run",
        arguments=(
            _argument(
                "--of",
                choices=("template", "modal", "executor-config"),
                default="template",
                help='of task templates, of executor_config["modal"], or of a whole executor_config',
            ),
        ),
    ),
}
"""By name, in the order that help shows them."""
