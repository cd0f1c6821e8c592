"""Ways out of a container that were open once, or nearly: each is tried from inside. Skipped where there are no containers."""

from __future__ import annotations

import os
import platform
import tarfile
from pathlib import Path

import modal
import modal.exception
import pytest

from modalflow.emulator import EmulatorThread
from modalflow.emulator.machines import host_view
from modalflow.emulator.machines.archives import unpack
from modalflow.emulator.machines.oci_launcher import SEARCH_PATH, OciLauncher
from modalflow.emulator.machines.processes import Spawner
from modalflow.emulator.machines.syscalls import container_filter, filter_of
from tests.emulator.conftest import Sandboxes, StartEmulator, connect


def folder_of(emulator: EmulatorThread) -> Path:
    return Path(emulator.environment()["MODAL_CONFIG_PATH"]).parent


def test_a_tree_of_any_depth_does_not_outlive_its_sandbox(
    container_sandboxes: Sandboxes, container_emulator: EmulatorThread
) -> None:
    script = "import os\nos.chdir('/opt')\nfor _ in range(2000):\n os.mkdir('d')\n os.chdir('d')"
    sandbox = container_sandboxes.create("python", "-c", script)
    sandbox.wait()
    assert sandbox.returncode == 0
    assert not list((folder_of(container_emulator) / "containers").iterdir())


def test_the_certificates_that_clients_trust_cannot_be_changed(
    container_sandboxes: Sandboxes, container_emulator: EmulatorThread
) -> None:
    bundle = Path(container_emulator.environment()["SSL_CERT_FILE"])
    before = bundle.read_bytes()
    script = "echo forged >> $SSL_CERT_FILE || touch ${SSL_CERT_FILE%/*}/new || echo no"
    assert container_sandboxes.output("sh", "-c", script) == "no\n"
    assert bundle.read_bytes() == before
    assert sorted(path.name for path in bundle.parent.iterdir()) == ["ca-bundle.pem", "ca.pem"]


def test_nobody_becomes_root_of_a_user_namespace_to_lift_his_own_limits(container_sandboxes: Sandboxes) -> None:
    if container_filter(SEARCH_PATH) is None:
        pytest.skip("this runc was built without seccomp")
    script = "unshare -UrmC sh -c 'mount -t cgroup -o pids none /mnt' || unshare -U true || echo no"
    assert container_sandboxes.output("sh", "-c", script) == "no\n"
    vm_socket = "import socket\ntry: socket.socket(socket.AF_VSOCK)\nexcept OSError as error: print(error.errno)"
    assert container_sandboxes.output("python", "-c", vm_socket) == "97\n"


@pytest.mark.parametrize("machine", ["x86_64", "aarch64", "riscv64"])
def test_the_filter_names_what_every_machine_has(machine: str) -> None:
    rules = filter_of(machine)
    assert rules["defaultAction"] == "SCMP_ACT_ALLOW"
    assert all(str(one).startswith("SCMP_ARCH_") for one in rules["architectures"])  # type: ignore[attr-defined]
    refused = {name for rule in rules["syscalls"] for name in rule["names"]}  # type: ignore[attr-defined]
    assert {"clone", "clone3", "unshare", "keyctl", "bpf"} <= refused
    assert bool(rules["architectures"]) == (machine != "riscv64")


def test_this_kind_of_machine_is_known() -> None:
    assert platform.machine() not in ("x86_64", "aarch64") or filter_of(platform.machine())["architectures"]


def test_raw_sockets_cannot_read_this_machines_loopback(container_sandboxes: Sandboxes) -> None:
    script = (
        "import socket\n"
        "for family, kind in ((socket.AF_PACKET, socket.SOCK_RAW), (socket.AF_INET, socket.SOCK_RAW)):\n"
        "    try: socket.socket(family, kind, 1)\n"
        "    except PermissionError: print('no')"
    )
    assert container_sandboxes.output("python", "-c", script) == "no\nno\n"


def test_the_kernel_kills_sandboxes_first_when_memory_is_out(container_sandboxes: Sandboxes) -> None:
    assert container_sandboxes.output("cat", "/proc/self/oom_score_adj") == "500\n"


def test_a_copy_out_of_a_registry_image_does_not_read_the_emulators_environment(container_sandboxes: Sandboxes) -> None:
    for secret in ("/proc/1/environ", "/proc/self/environ", "/dev/../proc/1/environ"):
        image = container_sandboxes.image.dockerfile_commands(f"COPY --from=alpine {secret} /found")
        with pytest.raises(modal.exception.Error, match="not on this machine"):
            container_sandboxes.output("cat", "/found", image=image)


def test_a_folder_is_hidden_by_whatever_link_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state, link, folder = tmp_path / "state", tmp_path / "link", tmp_path / "folder"
    for one in (state, folder):
        one.mkdir()
    link.symlink_to(state)
    seen: list[Path] = []
    monkeypatch.setattr(host_view, "build", lambda _layer, hidden, _places: seen.extend(hidden))
    interpreter = Path("/usr/bin")
    OciLauncher(folder, Spawner(), tools=tmp_path, interpreter_bin=interpreter, hidden=[link])
    assert state.resolve() in seen
    assert link not in seen


@pytest.mark.parametrize("isolation", ["process", "auto"])
def test_other_users_of_this_machine_cannot_list_what_is_inside(start_emulator: StartEmulator, isolation: str) -> None:
    emulator = start_emulator(isolation=isolation)
    emulator.bucket("some")
    public = {"bin", "certificates", "tools", "base"}
    folders = [path for path in folder_of(emulator).iterdir() if path.is_dir() and path.name not in public]
    assert {"blobs", "layers", "sandboxes", "buckets"} <= {path.name for path in folders}
    assert [path.name for path in folders if path.stat().st_mode & 0o004] == []


@pytest.mark.parametrize("isolation", ["process", "auto"])
def test_a_sandbox_asks_for_nobody_elses_volumes_to_be_committed_and_takes_nobodys_request(
    start_emulator: StartEmulator, isolation: str
) -> None:
    emulator = start_emulator(isolation=isolation)
    client = connect(emulator)
    try:
        app = modal.App.lookup("tests", create_if_missing=True, client=client)
        volume = modal.Volume.from_name("mine", create_if_missing=True, version=2, client=client)
        sandboxes = Sandboxes(app, client)
        victim = sandboxes.shell("echo half > $V/file; echo ready; cat; sync $V", env={"V": "/v"}, volumes={"/v": volume})
        assert next(iter(victim.stdout)) == "ready\n"
        # All that a sandbox finds: its own pipe, whatever task it names there.
        forged = (
            'for pipe in "$MODAL_EMULATOR_ROOT/.sync-requests" /__modal/sync/.sync-requests; do '
            "[ ! -p $pipe ] || printf '.sync.1\\n%s\\t.sync.1\\n' $TASK > $pipe; done; sync; ls /__modal 2>&1 || true"
        )
        found = sandboxes.output("sh", "-c", forged, env={"TASK": victim._get_task_id()})
        assert "requests" not in found
        assert not volume.listdir("/")
        victim.stdin.write_eof()
        victim.stdin.drain()
        victim.wait()
        assert [entry.path for entry in volume.listdir("/")] == ["file"]
    finally:
        client.close()


def test_sync_in_an_image_build_is_the_systems(container_sandboxes: Sandboxes) -> None:
    image = container_sandboxes.image.run_commands("sync && echo done > /synced")
    assert container_sandboxes.output("cat", "/synced", image=image) == "done\n"


def test_who_floods_the_pipe_of_sync_is_served_like_everybody(container_sandboxes: Sandboxes) -> None:
    pipe = "/__modal/sync/.sync-requests"
    flood = f"for n in 1 2 3; do yes /../x | head -c 200000 > {pipe}; echo > {pipe}; done; sync && echo done"
    assert container_sandboxes.output("sh", "-c", flood) == "done\n"


def test_a_forged_archive_changes_nothing_outside(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir(mode=0o700)
    archive = tmp_path / "archive"
    with tarfile.open(archive, "w") as forged:
        folder, link, climber = (tarfile.TarInfo(name) for name in ("d", "d", "../../outside/x"))
        folder.type, folder.mode = tarfile.DIRTYPE, 0o777
        link.type, link.linkname = tarfile.SYMTYPE, str(outside)
        for one in (folder, link, climber):
            forged.addfile(one)
    with pytest.raises(OSError, match="outside"):
        unpack(os.open(archive, os.O_RDONLY), tmp_path / "layer")
    with tarfile.open(archive, "w") as forged:
        for one in (folder, link):
            forged.addfile(one)
    unpack(os.open(archive, os.O_RDONLY), tmp_path / "again")
    assert outside.stat().st_mode & 0o777 == 0o700
    assert list(outside.iterdir()) == []
