"""``airflow modal``: the group beside Airflow's own commands, and listing what runs."""

from __future__ import annotations

import os
import subprocess
import sys
from argparse import Namespace
from collections.abc import Mapping

import pytest

from modalflow.launch.gateway import SandboxStatus
from modalflow.provider import command_ps
from modalflow.provider.command_table import COMMANDS
from modalflow.provider.commands import get_modal_cli_commands
from modalflow.provider.explanation import rows_of
from modalflow.settings import LaunchSettings
from modalflow.translation.origins import Origin
from modalflow.translation.plan import ImagePlan, SandboxPlan, SecretPlan, VolumePlan
from modalflow.translation.result import Translation


def test_every_part_of_a_plan_has_its_row() -> None:
    plan = SandboxPlan(
        image=ImagePlan(reference="me/train:1", entrypoint=()),
        cpu=(1.0, 4.0),
        memory=(1024, 2048),
        env={"A": "1"},
        secrets=(SecretPlan(name="hf", required_keys=("HF_TOKEN",)),),
        volumes=(VolumePlan(mount_path="/m", name="models", sub_path="v2", read_only=True),),
        region=("us", "eu"),
        cloud="aws",
        workdir="/w",
        tags={"team": "ml"},
    )
    origin = Origin(layer="template t", path="spec.cpu", file="t.yaml", line=3)
    rows = rows_of(Translation(plan=plan, origins={"cpu": origin}))
    assert [(row.field, row.value, row.decided_by) for row in rows] == [
        ("backend", "sandbox-v2", "GPU tasks are V1 sandboxes, others V2"),
        ("gpu", "none", "Modal's default"),
        ("cpu", "1 to 4 cores", "spec.cpu (t.yaml:3)"),
        ("memory", "1024 to 2048 MiB", "Modal's default"),
        ("timeout", "86400 s", "built-in defaults"),
        ("region", "us, eu", "built-in defaults"),
        ("cloud", "aws", "built-in defaults"),
        ("image", "me/train:1", "built-in defaults"),
        ("entrypoint", "none", "built-in defaults"),
        ("workdir", "/w", "built-in defaults"),
        ("env.A", "1", "built-in defaults"),
        ("secrets.hf", "its variables; must have HF_TOKEN", "built-in defaults"),
        ("volumes./m", "models/v2, read-only", "built-in defaults"),
        ("tags.team", "ml", "built-in defaults"),
    ]


class TestPs:
    """``airflow modal ps``."""

    @pytest.fixture(autouse=True)
    def nothing_in_airflow(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Airflow's side is tested by ``test_seen``."""
        monkeypatch.setattr(command_ps, "active_tasks", lambda _session: [])
        monkeypatch.setattr(command_ps, "recent_failures", lambda _session, _since: [])

    def listed(self, monkeypatch: pytest.MonkeyPatch, *statuses: SandboxStatus) -> None:
        async def running(settings: LaunchSettings) -> list[SandboxStatus]:
            assert settings.deployment == "airflow"
            return list(statuses)

        monkeypatch.setattr(command_ps, "running", running)

    def status(self, tags: Mapping[str, str]) -> SandboxStatus:
        return SandboxStatus(sandbox_id="sb-1", name="the-launch", tags={"launch": "the-launch", **tags})

    def test_as_a_table(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.listed(monkeypatch, self.status({"dag_id": "models"}))
        command_ps.ps(Namespace(json=False, watch=None, verbose=False))
        out = capsys.readouterr().out
        assert "sb-1" in out
        assert "map_index" not in out

    def test_nothing_runs(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.listed(monkeypatch)
        command_ps.ps(Namespace(json=False, watch=None, verbose=False))
        assert (
            capsys.readouterr().out == "No sandbox of deployment 'airflow' runs in App 'modalflow', and no task waits for one.\n"
        )

    def test_without_credentials_it_says_so(self, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit) as ended:
            command_ps.ps(Namespace(json=False, watch=None, verbose=False))
        assert ended.value.code == 1
        assert capsys.readouterr().err == (
            "no Modal credentials (no Airflow connection of type modal; no MODAL_TOKEN_ID in this process's environment; no "
            "MODAL_TOKEN_SECRET in this process's environment; no token in the profile 'default' of "
            f"{os.environ['MODAL_CONFIG_PATH']}): create the connection with `airflow connections add modal --conn-type modal "
            "--conn-login TOKEN_ID --conn-password TOKEN_SECRET`, or set both variables, or run `modal token new` as this "
            "process's user\n"
        )


class TestGroup:
    """``airflow modal``."""

    def test_it_has_every_shared_command_and_ps(self) -> None:
        (group,) = get_modal_cli_commands()
        assert [command.name for command in group.subcommands] == [*COMMANDS, "ps", "top", "logs", "cleanup", "shell"]

    def test_declaring_it_imports_no_command(self) -> None:
        script = (
            "import airflow.cli.cli_config, sys; before = set(sys.modules); import modalflow.provider.commands as c; "
            "c.get_modal_cli_commands(); print(sorted(m for m in set(sys.modules) - before if m.startswith('modalflow')))"
        )
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
        assert done.stdout.splitlines()[-1] == "['modalflow.provider.command_table', 'modalflow.provider.commands']"

    @pytest.mark.parametrize(
        ("arguments", "code", "told"),
        [
            (["gpus", "--for", "memory>=100Gi", "--json"], 0, '"gpu": "B200"'),
            (["fields", "spec.nosuch"], 1, 'no field "spec.nosuch" in a Kubernetes pod'),
            (["schema"], 0, '"title": "modalflow task template"'),
        ],
    )
    def test_airflow_s_own_command_line_runs_them(self, arguments: list[str], code: int, told: str) -> None:
        done = subprocess.run(
            [sys.executable, "-m", "airflow", "modal", *arguments], capture_output=True, text=True, env=os.environ, check=False
        )
        assert done.returncode == code, done.stderr
        assert told in done.stdout + done.stderr
