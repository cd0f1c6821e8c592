"""The options that say what images are made of: what they become, and how a mistake in them is told."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from modalflow.settings import SettingsError, read_settings
from modalflow.templates import TemplateFolders
from modalflow.translation.inputs import TaskContext, TranslationOptions
from modalflow.translation.plan import ImagePlan, SandboxPlan
from modalflow.translation.translate import translate

AIRFLOW = (
    "apache-airflow-core==3.3.2",
    "apache-airflow-providers-common-sql==2.4.0",
    "apache-airflow-task-sdk==1.3.2",
)
PLAIN = ImagePlan(reference=None, python_version="3.11", packages=AIRFLOW)


def options(**values: str) -> TranslationOptions:
    return read_settings(values, auto_image=PLAIN).translation


def test_without_options_auto_is_the_scheduler_s_airflow() -> None:
    assert options().auto_image == PLAIN
    assert options().images == {}


def test_each_option_adds_its_part() -> None:
    found = options(
        python_version="3.12",
        match_providers="False",
        apt_packages="git, libpq-dev",
        requirements="pandas == 2.3.3  # frames\n\n--find-links https://u:${PIP_TOKEN}@host/wheels\nboto3[crt]>=1.40",
        build_secrets="pypi",
    )
    assert found.auto_image == ImagePlan(
        reference=None,
        python_version="3.12",
        packages=("apache-airflow-core==3.3.2", "apache-airflow-task-sdk==1.3.2"),
        apt_packages=("git", "libpq-dev"),
        requirements=("boto3[crt]>=1.40", "pandas==2.3.3"),
        pip_options=('--find-links "https://u:${PIP_TOKEN}@host/wheels"',),
        build_secrets=("pypi",),
    )


def test_a_file_is_read_with_those_it_includes_and_other_content_is_another_image(tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "base.txt").write_text("--pre\nnumpy==2.3.5; \\\n  python_version >= '3.11'\n")
    file = tmp_path / "requirements.txt"
    file.write_text("# ours\n-r more/base.txt\npandas==2.3.3\n")
    first = options(requirements=str(file)).auto_image
    assert first.requirements == ('numpy==2.3.5; python_version >= "3.11"', "pandas==2.3.3")
    assert first.pip_options == ("--prerelease allow",)
    assert options(requirements=str(file)).auto_image == first
    file.write_text("pandas==2.3.4\n")
    assert options(requirements=str(file)).auto_image != first


def test_a_named_image_is_auto_but_for_what_it_says(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM apache/airflow:3.3.2\n")
    images = {
        "train": {"requirements": ["torch==2.9.1"]},
        "cuda": {"base": "nvidia/cuda:12.8.1-base-ubuntu24.04", "python_version": "3.12", "match_providers": True},
        "own": {"dockerfile": f"{tmp_path}/Dockerfile", "registry_secret": "ghcr", "apt_packages": ["git"]},
        "lean": {"match_providers": False},
    }
    found = options(images=json.dumps(images), apt_packages="git").images
    assert found == {
        "train": replace(PLAIN, apt_packages=("git",), requirements=("torch==2.9.1",)),
        "cuda": ImagePlan(reference="nvidia/cuda:12.8.1-base-ubuntu24.04", python_version="3.12", packages=AIRFLOW),
        "own": ImagePlan(
            reference=None,
            dockerfile=f"{tmp_path}/Dockerfile",
            context=str(tmp_path),
            registry_secret="ghcr",
            apt_packages=("git",),
        ),
        "lean": replace(PLAIN, apt_packages=("git",), packages=("apache-airflow-core==3.3.2", "apache-airflow-task-sdk==1.3.2")),
    }
    assert [plan.in_words for plan in found.values()] == ["auto:train", "auto:cuda", "auto:own", "auto:lean"]


def test_a_task_runs_in_the_image_that_it_names() -> None:
    site = options(images='{"train": {"requirements": ["torch==2.9.1"]}}', image="auto:train")
    for config in ({}, {"modal": {"image": "auto:train"}}):
        plan = translate(config, context=TaskContext(), options=site, templates=TemplateFolders([])).sandbox
        assert plan is not None
        assert plan.image == site.images["train"]
    emptied = translate(
        {"modal": {"image": "auto:train", "entrypoint": []}}, context=TaskContext(), options=site, templates=TemplateFolders([])
    ).sandbox
    assert emptied is not None
    assert emptied.image == replace(site.images["train"], entrypoint=())


def test_the_workload_goes_to_stdin_where_the_image_may_start_something_first() -> None:
    own = ImagePlan(reference=None, dockerfile="/opt/Dockerfile", context="/opt")
    assert SandboxPlan(image=own).handover == "stdin"
    assert SandboxPlan(image=replace(own, entrypoint=())).handover == "secret"
    assert SandboxPlan(image=PLAIN).handover == "secret"


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"python_version": "3"}, "python_version: expected a version of Python as text, such as \"3.12\", got '3'"),
        ({"python_version": "3.9"}, "python_version: Airflow 3.3 needs Python 3.10 or later, got '3.9'"),
        ({"apt_packages": "git,rm -rf"}, "apt_packages[1]: expected a Debian package such as libpq-dev, got 'rm -rf'"),
        ({"build_secrets": "a b"}, "build_secrets[0]: expected the name of a Modal Secret, got 'a b'"),
        (
            {"requirements": "requirements.txt"},
            "requirements: expected the absolute path of a file, or requirements, got 'requirements.txt'",
        ),
        ({"requirements": "/nowhere/r.txt"}, "requirements: cannot read /nowhere/r.txt: No such file or directory"),
        (
            {"requirements": "pandas\npandas=2"},
            (
                "requirements[1]: 'pandas=2' is no requirement (Expected semicolon (after name with no "
                "version specifier) or end); "
                "write e.g. pandas==2.3.3"
            ),
        ),
        (
            {"requirements": "-e ."},
            (
                "requirements[0]: '-e .': this option cannot be honoured in an image; known are --pre, "
                "--no-index, --extra-index-url, "
                "--find-links, --index-url, --no-binary, --only-binary, and -r in a file"
            ),
        ),
        (
            {"requirements": "-r more.txt"},
            "requirements[0]: '-r more.txt': only a file can include another; give its absolute path as the option",
        ),
        (
            {"requirements": "--find-links https://me:hunter2@host/wheels"},
            (
                "requirements[0]: the address holds a password, which would be part of the image; write "
                "${NAME} in its place and name "
                "the Modal Secret that has NAME in build_secrets"
            ),
        ),
        (
            {"requirements": '--find-links $(id)"'},
            "requirements[0]: '--find-links $(id)\"': expected one word without quotes; ${NAME} is a variable of build_secrets",
        ),
        (
            {"requirements": "x @ file:///tmp/x.whl"},
            "requirements[0]: 'x @ file:///tmp/x.whl': expected an http(s) address; Modal does not see this host's files",
        ),
        (
            {"requirements": "pandas==2.3.3 --hash=sha256:00"},
            "requirements[0]: hashes cannot be honoured in an image beside the scheduler's Airflow; remove --hash",
        ),
        (
            {"requirements": "apache-airflow==3.2.1"},
            (
                "requirements: 'apache-airflow==3.2.1' does not fit the scheduler, which has apache-airflow "
                "3.3.2; remove it, since the "
                "image gets exactly the scheduler's, or install that version beside the scheduler too"
            ),
        ),
        (
            {"requirements": "Apache.Airflow_providers-common.sql<2"},
            (
                "requirements: 'Apache.Airflow_providers-common.sql<2' does not fit the scheduler, which has "
                "Apache.Airflow_providers-common.sql 2.4.0; remove it, since the image gets exactly the "
                "scheduler's, or install that "
                "version beside the scheduler too"
            ),
        ),
        ({"images": '{"a b": {}}'}, "images: expected a name of letters, digits, '_', '.' and '-', got 'a b'"),
        (
            {"images": '{"a": "ghcr.io/x:1"}'},
            'images.a: expected an object such as {"requirements": ["pandas==2.3.3"]}, got str',
        ),
        (
            {"images": '{"a": {"pip": []}}'},
            (
                "images.a.pip: unknown key; an image has base, dockerfile, context, registry_secret, "
                "python_version, match_providers, "
                "apt_packages, requirements, build_secrets"
            ),
        ),
        (
            {"images": '{"a": {"base": "x:1", "dockerfile": "/D"}}'},
            "images.a: base and dockerfile exclude each other; a Dockerfile's FROM is its base",
        ),
        (
            {"images": '{"a": {"base": "My Image"}}'},
            ("images.a.base: 'My Image' is no image reference; write e.g. \"ghcr.io/me/train:1.2\""),
        ),
        (
            {"images": '{"a": {"dockerfile": "D"}}'},
            "images.a.dockerfile: expected an absolute path on the scheduler's host, got 'D'",
        ),
        ({"images": '{"a": {"dockerfile": "/nowhere/D"}}'}, "images.a.dockerfile: there is no file /nowhere/D"),
        (
            {"images": '{"a": {"context": "/"}}'},
            "images.a.context: is the folder of a Dockerfile's COPY, and there is no dockerfile",
        ),
        (
            {"images": '{"a": {"registry_secret": "ghcr"}}'},
            "images.a.registry_secret: the image comes from no registry; name its base or dockerfile",
        ),
        (
            {"images": '{"a": {"requirements": 1}}'},
            "images.a.requirements: expected a path, or lines such as pandas==2.3.3, got int",
        ),
        ({"images": '{"a": {"match_providers": "no"}}'}, "images.a.match_providers: expected true or false, got str"),
        ({"images": '{"a": {"apt_packages": "git"}}'}, "images.a.apt_packages: expected a list, got str"),
        (
            {"images": '{"a": {"python_version": 3.1}}'},
            ('images.a.python_version: expected a version of Python as text, such as "3.12", got 3.1'),
        ),
        ({"image": "auto:b", "images": '{"a": {}}'}, "image: 'auto:b' is not among images, which has: auto:a"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_mistake_is_told_at_start(values: dict[str, str], text: str) -> None:
    with pytest.raises(SettingsError) as refused:
        options(**values)
    assert str(refused.value) == f"[modal_executor] {text}"


def test_a_file_that_includes_itself_and_a_line_of_a_file_are_named(tmp_path: Path) -> None:
    file = tmp_path / "r.txt"
    file.write_text("# first\n-r r.txt\n")
    with pytest.raises(SettingsError) as refused:
        options(requirements=str(file))
    assert str(refused.value) == (
        f"[modal_executor] requirements: {file}:2: {file} includes itself, or lies more than 8 files deep"
    )
    file.write_text("# first\n\npandas 2\n")
    with pytest.raises(SettingsError, match=r"requirements: .*r\.txt:3: 'pandas 2' is no requirement"):
        options(requirements=str(file))
