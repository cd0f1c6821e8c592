"""Modal's exceptions, ends and parameters as ours: tables, no server."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, cast

import modal
import pytest
from grpclib.exceptions import StreamTerminatedError
from h2.exceptions import StreamClosedError
from modal import exception as theirs
from modal_proto import api_pb2

from modalflow.launch import gateway as ours
from modalflow.launch.gateway import EndKind, SandboxEnd
from modalflow.launch.price_tags import price_tags
from modalflow.modal_gateway.endings import end_of
from modalflow.modal_gateway.errors import LONGEST_TEXT, bounded, translate_error
from modalflow.modal_gateway.parameters import sandbox_kwargs
from modalflow.translation.plan import ImagePlan, SandboxPlan

RESULT = api_pb2.GenericResult
IMAGE = ImagePlan(reference=None)


@pytest.mark.parametrize(
    ("error", "kind", "sentence"),
    [
        (theirs.NotFoundError("Secret hf"), ours.NotFound, "could not act: Modal does not know it: Secret hf"),
        (theirs.AlreadyExistsError("n"), ours.NameTaken, "could not act: Modal has it already: n"),
        (theirs.InvalidError("bad memory."), ours.InvalidRequest, "could not act: Modal refused the parameters: bad memory"),
        (theirs.ConflictError("done"), ours.InvalidRequest, "could not act: Modal refused: done"),
        (theirs.PermissionDeniedError("no"), ours.InvalidRequest, "could not act: Modal does not permit it: no"),
        (theirs.ResourceExhaustedError("slow"), ours.RateLimited, "could not act: Modal refused for now: slow"),
        (
            theirs.ResourceExhaustedError("Insufficient capacity to create sandbox."),
            ours.CapacityExhausted,
            "could not act: Modal refused for now: Insufficient capacity to create sandbox",
        ),
        (theirs.ServiceError("x"), ours.Unavailable, "could not act: Modal did not answer: x"),
        (theirs.InternalError("x"), ours.Unavailable, "could not act: Modal failed: x"),
        (theirs.ConnectionError("x"), ours.Unavailable, "could not act: Modal could not be reached: x"),
        (theirs.UnimplementedError("x"), ours.InvalidRequest, "could not act: Modal refused: x"),
        (
            theirs.ImageBuildError("pip failed", "im-1"),
            ours.ImageBuildFailed,
            "could not act: the image could not be built: pip failed",
        ),
        (StreamTerminatedError(""), ours.Unavailable, "could not act: the connection to Modal broke off (StreamTerminatedError)"),
        (StreamClosedError(3), ours.Unavailable, "could not act: the connection to Modal broke off: 3"),
        (ConnectionRefusedError("x"), ours.Unavailable, "could not act: Modal could not be reached: x"),
        (
            theirs.AuthError("x"),
            ours.Unauthenticated,
            "could not act: Modal refused the credentials: x",
        ),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_each_of_modals_exceptions_is_one_of_ours(error: Exception, kind: type[Exception], sentence: str) -> None:
    translated = translate_error(error, "act")
    assert type(translated) is kind
    assert str(translated) == sentence


def test_a_build_log_is_cut_to_its_end_where_the_cause_is() -> None:
    text = str(translate_error(theirs.ImageBuildError("x" * 9000 + " no such package", "im-1"), "make the image"))
    assert text.endswith("no such package")
    assert len(text) < LONGEST_TEXT + 100


def test_a_token_in_modals_words_is_not_repeated() -> None:
    error = theirs.InvalidError("bad value eyJhbGciOiJIUzUxMiJ9.eyJzdWIiOiIxIn0.c2ln in env")
    assert str(translate_error(error, "act")) == "could not act: Modal refused the parameters: bad value *** in env"


def test_a_call_that_the_client_cut_off_is_heard_of_and_our_own_cancellation_stays_one() -> None:
    async def cut_off() -> None:
        async with bounded("act", 10.0):
            call = asyncio.create_task(asyncio.sleep(60.0))
            call.cancel()
            await call

    async def cancelled() -> None:
        begun = asyncio.Event()

        async def act() -> None:
            async with bounded("act", 10.0):
                begun.set()
                await asyncio.sleep(60.0)

        task = asyncio.create_task(act())
        await begun.wait()
        task.cancel()
        await task

    with pytest.raises(ours.Unavailable, match=r"^could not act: the call to Modal was cut off$"):
        asyncio.run(cut_off())
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(cancelled())


def test_a_defect_is_not_taken_for_an_answer() -> None:
    async def broken() -> None:
        async with bounded("act", 1.0):
            raise KeyError("gpu")

    with pytest.raises(KeyError):
        asyncio.run(broken())


@dataclass
class Handle:
    """As much of ``modal.Sandbox`` as an end is read from."""

    returncode: int | None
    result: api_pb2.GenericResult | None = None

    def _get_metadata(self) -> Any:
        return api_pb2.SandboxHandleMetadata(result=self.result)


def read(handle: object) -> SandboxEnd | None:
    return end_of(cast("modal.Sandbox", handle))


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (RESULT.GENERIC_STATUS_SUCCESS, EndKind.SUCCESS),
        (RESULT.GENERIC_STATUS_FAILURE, EndKind.FAILURE),
        (RESULT.GENERIC_STATUS_TERMINATED, EndKind.TERMINATED),
        (RESULT.GENERIC_STATUS_TIMEOUT, EndKind.TIMEOUT),
        (RESULT.GENERIC_STATUS_INIT_FAILURE, EndKind.INIT_FAILURE),
        (RESULT.GENERIC_STATUS_INTERNAL_FAILURE, EndKind.INTERNAL_FAILURE),
        (RESULT.GENERIC_STATUS_IDLE_TIMEOUT, EndKind.IDLE_TIMEOUT),
        (RESULT.GENERIC_STATUS_MEMORY_MANAGER_EVICTION, EndKind.EVICTED),
        (RESULT.GENERIC_STATUS_MEMORY_THRASHING_EVICTION, EndKind.EVICTED),
        (RESULT.GENERIC_STATUS_KERNEL_OOM_KILL, EndKind.OUT_OF_MEMORY),
    ],
)
def test_each_of_modals_ends_is_one_of_ours(status: RESULT.GenericStatus.ValueType, kind: EndKind) -> None:
    handle = Handle(returncode=9, result=RESULT(status=status, exitcode=9, exception="why"))
    assert read(handle) == SandboxEnd(kind=kind, exit_code=9, detail="why")


def test_a_running_sandbox_has_no_end() -> None:
    assert read(Handle(returncode=None)) is None


@pytest.mark.parametrize(
    ("code", "kind"), [(0, EndKind.SUCCESS), (1, EndKind.FAILURE), (124, EndKind.TIMEOUT), (137, EndKind.TERMINATED)]
)
def test_without_the_cause_the_exit_code_decides(code: int, kind: EndKind) -> None:
    @dataclass
    class Bare:
        returncode: int

    assert read(Bare(returncode=code)) == SandboxEnd(kind=kind, exit_code=code)


class TestParameters:
    def test_a_bare_plan_leaves_modals_defaults_but_for_the_timeout(self) -> None:
        plan = SandboxPlan(image=IMAGE)
        tags = price_tags(plan, None)
        assert sandbox_kwargs(plan, None, name="n") == {"name": "n", "tags": tags, "timeout": 86_400}

    def test_everything_is_passed_on(self) -> None:
        plan = SandboxPlan(
            image=IMAGE,
            gpu_candidates=("H100:2",),
            cpu=(1.0, 2.0),
            memory=(512, 1024),
            env={"A": "1"},
            timeout=60,
            region=("us", "eu"),
            cloud="aws",
            workdir="/opt",
            tags={"t": "1"},
        )
        assert sandbox_kwargs(plan, "H100:2", name="n") == {
            "name": "n",
            "tags": {"t": "1", "gpu": "H100.2", **price_tags(plan, "H100:2")},
            "timeout": 60,
            "env": {"A": "1"},
            "gpu": "H100:2",
            "cpu": (1.0, 2.0),
            "memory": (512, 1024),
            "cloud": "aws",
            "region": ["us", "eu"],
            "workdir": "/opt",
        }

    def test_memory_is_an_int_because_the_client_sends_a_float_as_nothing(self) -> None:
        plan = SandboxPlan(image=IMAGE, memory=cast("int", 512.0))
        memory = sandbox_kwargs(plan, None, name="n")["memory"]
        assert isinstance(memory, int)
        assert memory == 512
