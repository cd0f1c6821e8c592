"""What a launch is told of its code, and what is removed when."""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from modalflow.dag_code.desk import TIDY_EVERY, DagCodeDesk
from modalflow.dag_code.reading import FolderReader, FolderRules
from modalflow.launch.gateway import DagCodeError, Unavailable
from modalflow.translation.plan import Home, ImagePlan, SandboxPlan, VolumePlan
from tests.dag_code.fake_volume import DAY, FakeVolume, Time

CODE = VolumePlan(mount_path="/mnt/modalflow/bundles/etl", name="code", read_only=True, version=2, is_ours=True, code_of="etl")
DATA = VolumePlan(mount_path="/data", name="data")
PLAN = SandboxPlan(image=ImagePlan(reference=None), volumes=(DATA, CODE), tags={"dag_id": "etl"})


class Room:
    def __init__(self, folder: Path) -> None:
        (folder / "etl.py").write_text("x = 1\n")
        self.volume, self.time = FakeVolume(), Time()
        self.others: dict[str, FakeVolume] = {}
        self.desk = DagCodeDesk(
            {"etl": lambda: FolderReader(str(folder), FolderRules())},
            lambda conn_id: self.volume if conn_id is None else self.others.setdefault(conn_id, FakeVolume()),
            deployment="prod",
            keep_days=3,
            clocks=self.time.clocks,
        )


@pytest.fixture
def room(tmp_path: Path) -> Room:
    return Room(tmp_path)


def run(scene: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(scene(), 60))


def test_a_plan_gets_the_folder_of_its_code_and_the_tag(room: Room, tmp_path: Path) -> None:
    (tmp_path / "out").symlink_to("/etc")

    async def scene() -> None:
        brought = await room.desk.bring("one", PLAN)
        tag = brought.plan.tags["dag_code"]
        day, _, digest = tag.partition(".")
        assert brought.plan == replace(
            PLAN,
            volumes=(DATA, replace(CODE, sub_path=f"prod/{day}/{digest}")),
            tags={"dag_id": "etl", "dag_code": tag},
        )
        assert list(room.volume.folders) == [f"prod/{day}/{digest}"]
        assert brought.warnings == (
            "out is left out: a link that leads out of the folder, to /etc; [modal_executor] dag_outside_links = True follows it",
        )

    run(scene)


def test_a_plan_without_such_a_bundle_stays(room: Room) -> None:
    async def scene() -> None:
        plan = replace(PLAN, volumes=(DATA,))
        assert (await room.desk.bring("one", plan)).plan is plan
        assert room.volume.puts == []

    run(scene)


def test_each_account_has_copies_of_its_own(room: Room) -> None:
    """A Volume is of one workspace."""

    async def scene() -> None:
        plans = [PLAN, replace(PLAN, home=Home(conn_id="gpus"))]
        brought = await asyncio.gather(*(room.desk.bring(str(number), plan) for number, plan in enumerate(plans)))
        assert brought[0].plan.volumes == brought[1].plan.volumes
        assert list(room.others) == ["gpus"]
        for volume in (room.volume, room.others["gpus"]):
            assert len(volume.folders) == 1
            volume.folders["prod/2026-02-01/aa"] = {}
        await tidied(room, 1)
        assert [volume.removed for volume in (room.volume, room.others["gpus"])] == [["prod/2026-02-01"]] * 2

    run(scene)


PACKAGES = ("apache-airflow-core==3.3.2", "apache-airflow-providers-amazon==9.1.0")


@pytest.mark.parametrize(
    ("image", "packages"),
    [
        (ImagePlan(reference=None, packages=PACKAGES), (*PACKAGES, "pandas>=2")),
        (ImagePlan(reference="me/airflow:1"), ()),
        (ImagePlan(reference=None, dockerfile="/srv/Dockerfile"), ()),
    ],
)
def test_requirements_are_the_default_images(room: Room, tmp_path: Path, image: ImagePlan, packages: tuple[str, ...]) -> None:
    (tmp_path / "requirements.txt").write_text("pandas>=2\n")

    async def scene() -> None:
        brought = await room.desk.bring("one", replace(PLAN, image=image))
        assert brought.plan.image.packages == packages
        (tmp_path / "requirements.txt").write_text("pandas>=2\npolars\n")
        brought = await room.desk.bring("two", replace(PLAN, image=image))
        assert brought.plan.image.packages == ((*packages, "polars") if packages else ()), "a change reaches the next task"

    run(scene)


def test_requirements_that_cannot_be_installed_are_said_and_cost_nothing(room: Room, tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_text("-r base.txt\n")

    async def scene() -> None:
        brought = await room.desk.bring("one", PLAN)
        assert brought.plan.image == PLAN.image
        assert brought.warnings == (
            (
                "requirements.txt, line 1: '-r base.txt' is no plain requirement such as pandas>=2, so nothing of the file is "
                "installed in the default image. Write plain requirements, name an image that has them, or set [modal_executor] "
                "dag_requirements = False"
            ),
        )

    run(scene)


def test_errors_name_the_bundle(room: Room, tmp_path: Path) -> None:
    async def scene() -> None:
        with pytest.raises(DagCodeError, match=r"^the code of bundle 'ml' cannot be .*: this scheduler knows no such bundle$"):
            await room.desk.bring("one", replace(PLAN, volumes=(replace(CODE, code_of="ml"),)))
        shutil.rmtree(tmp_path)
        with pytest.raises(DagCodeError) as refused:
            await room.desk.bring("one", PLAN)
        assert str(refused.value) == (
            f"the code of bundle 'etl' cannot be brought to Modal: {tmp_path} is not a folder of this host"
        )

    run(scene)


async def tidied(room: Room, times: int) -> None:
    """Let it look so many times."""
    looked = asyncio.Event()

    async def sleep(seconds: float) -> None:
        assert seconds == TIDY_EVERY
        nonlocal times
        times -= 1
        if times == 0:
            looked.set()
            await asyncio.Event().wait()

    tidying = asyncio.create_task(room.desk.tidy(sleep))
    await looked.wait()
    tidying.cancel()
    await asyncio.wait([tidying])


def test_old_copies_go_unless_a_sandbox_or_a_launch_has_them(room: Room) -> None:
    async def scene() -> None:
        held = (await room.desk.bring("waits", PLAN)).plan.tags["dag_code"]
        room.volume.folders |= {f"prod/2026-02-0{day}/{digest}": {} for day in (1, 2) for digest in ("aa", "bb")}
        room.volume.folders |= {"other/2026-02-01/aa": {}}
        room.volume.mounted = {"2026-02-02.aa"}
        room.time.seconds += 5 * DAY
        await tidied(room, 1)
        assert room.volume.removed == ["prod/2026-02-01", "prod/2026-02-02/bb"]
        room.desk.release("waits")
        await tidied(room, 1)
        assert room.volume.removed[2:] == [f"prod/{held.partition('.')[0]}"]
        assert list(room.volume.folders) == ["prod/2026-02-02/aa", "other/2026-02-01/aa"]

    run(scene)


def test_nothing_is_asked_of_modal_before_anything_was_launched(room: Room) -> None:
    async def scene() -> None:
        tidying = asyncio.create_task(room.desk.tidy(room.time.sleep))
        for _ in range(5):
            await asyncio.sleep(0)
        assert room.volume.asked == []
        tidying.cancel()
        await asyncio.wait([tidying])

    run(scene)


def test_a_look_that_fails_is_said_and_the_next_one_comes(room: Room, caplog: pytest.LogCaptureFixture) -> None:
    async def scene() -> None:
        await room.desk.bring("one", PLAN)
        room.volume.folders["prod/2026-02-01/aa"] = {}
        room.volume.failures = [Unavailable("Modal is away")]
        with caplog.at_level(logging.WARNING):
            await tidied(room, 2)
        assert room.volume.removed == ["prod/2026-02-01"]

    run(scene)
    assert [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING] == [
        "modalflow: cannot remove old DAG code from Modal; it is tried again in an hour: Modal is away"
    ]
