"""What of a ``requirements.txt`` the default image gets."""

from __future__ import annotations

import pytest

from modalflow.dag_code.requirements import NotInstallableError, with_requirements

PACKAGES = ("apache-airflow-core==3.3.2", "apache-airflow-providers-common-sql==1.2")


@pytest.mark.parametrize(
    ("text", "added"),
    [
        ("", ()),
        ("# nothing\n\n", ()),
        ("pandas>=2  # frames\nPolars\n", ("pandas>=2", "Polars")),
        ("pandas>=2\npandas >= 2\n", ("pandas>=2",)),
        ("torch[cuda]==2.5; python_version >= '3.11'", ('torch[cuda]==2.5; python_version >= "3.11"',)),
        ("mine @ https://example.com/mine.whl#sha256=abc", ("mine @ https://example.com/mine.whl#sha256=abc",)),
        ("apache-airflow==2.10\napache_airflow_core<3\nApache.Airflow.Providers.Common.SQL==1\n", ()),
        ("apache-airflow-providers-snowflake", ("apache-airflow-providers-snowflake",)),
    ],
)
def test_plain_requirements_are_added(text: str, added: tuple[str, ...]) -> None:
    assert with_requirements(PACKAGES, text) == (*PACKAGES, *added)


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("-r base.txt", "'-r base.txt'"),
        ("--find-links https://user:secret@wheels.example.com/all", "'--find-links https://…@wheels.example.com/all'"),
        ("pandas==2 --hash=sha256:abc", "'pandas==2 --hash=sha256:abc'"),
        ("./local", "'./local'"),
        ("git+https://token@github.com/me/mine", "'git+https://…@github.com/me/mine'"),
    ],
)
def test_anything_else_is_named_without_its_passwords(line: str, shown: str) -> None:
    with pytest.raises(NotInstallableError) as refused:
        with_requirements(PACKAGES, f"polars\n{line}\n")
    assert str(refused.value) == (
        f"requirements.txt, line 2: {shown} is no plain requirement such as pandas>=2, so nothing of the file is installed in "
        "the default image. Write plain requirements, name an image that has them, or set [modal_executor] "
        "dag_requirements = False"
    )
