"""Relays in real sandboxes of the emulator, made and found with the unmodified client; schedulers and tasks at both ends."""

from __future__ import annotations

import asyncio
import json
import ssl
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import asyncssh
import pytest

from modalflow.emulator import EmulatorThread
from modalflow.emulator.introspection import SandboxRecord, sandbox_records
from modalflow.launch.gateway import Unavailable
from modalflow.modal_gateway.relays import RelayGateway
from modalflow.relay import service as service_module
from modalflow.relay.attach import ATTACH_ERRORS, Endpoint, connect
from modalflow.relay.keys import Keys
from modalflow.relay.policy import RULES, read_mark
from modalflow.relay.service import RelayService
from modalflow.settings import LaunchSettings
from modalflow.translation.plan import SandboxPlan
from modalflow.worker.relay import Way
from tests.launch.plans import AUTO
from tests.relay.conftest import LAUNCH, SECRET, Api, api_running, kill_station, service, until

pytestmark = pytest.mark.emulated

OTHER = b"a secret of somebody else's schedulers"


@asynccontextmanager
async def attached(api: Api, **changes: Any) -> AsyncIterator[RelayService]:
    """A scheduler with a relay that serves."""
    one = service(api.url, **changes)
    one.start()
    try:
        await one.ready()
        yield one
    finally:
        await asyncio.to_thread(one.stop, 10.0)


def play(scene: Callable[[Api], Coroutine[Any, Any, None]]) -> None:
    async def main() -> None:
        async with api_running() as api:
            await scene(api)

    asyncio.run(main())


async def ask(way: Way, path: str = "/execution/x") -> bytes:
    """One request as a task's sandbox makes it; empty if no relay let it in."""
    found = await way.reach("http", 10.0)
    if found is None:
        return b""
    reader, writer = found
    writer.write(f"GET {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n".encode())
    try:
        return bytes(await reader.read())
    finally:
        writer.close()


def way_of(one: RelayService) -> Way:
    return Way(one.ticket(LAUNCH, 3600.0))


def relays(emulator: EmulatorThread) -> list[SandboxRecord]:
    return [record for record in sandbox_records(emulator) if "relay" in record.tags]


def running(emulator: EmulatorThread) -> list[SandboxRecord]:
    return [record for record in relays(emulator) if not record.ended]


def test_a_task_reaches_the_api_and_nothing_secret_is_to_be_seen(
    emulator: EmulatorThread, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")

    async def scene(api: Api) -> None:
        async with attached(api) as one:
            ticket = one.ticket(LAUNCH, 3600.0)
            assert (await ask(Way(ticket))).startswith(b"HTTP/1.1 200 OK")
            assert (await ask(Way(ticket), "/api/v2/dags")).startswith(b"HTTP/1.1 404 ")
            assert [path for _, path, _, _ in api.requests] == ["/execution/x"]
            [relay] = relays(emulator)
            mark = read_mark(relay.tags["relay"])
            assert mark is not None
            keys = Keys(SECRET, "airflow")
            secrets = [str(ticket["key"]), keys.host(mark.number).private.splitlines()[1], keys.client(mark.number).private]
            seen = json.dumps([relay.argv, dict(relay.tags), relay.name, relay.stdout, relay.stderr, caplog.text])
            assert [secret for secret in secrets if secret in seen] == []
            assert (set(relay.tags), relay.env_names) == ({"relay", "relay_of"}, ("MODALFLOW_RELAY",))

    play(scene)


def test_a_task_with_a_wrong_pass_or_a_false_relay_gets_nothing(emulator: EmulatorThread) -> None:
    async def scene(api: Api) -> None:
        async with attached(api) as one:
            good = one.ticket(LAUNCH, 3600.0)
            address = str(good["addresses"][0])  # type: ignore[index]
            wrong = Way({**good, "key": "00" * 32})
            assert await wrong.try_one(address, "http", 10.0) is None

            async def pretend(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                writer.write(b"ok " + b"0" * 64 + b"\n")
                asked.append(await reader.readline())
                asked.append(await reader.read())
                writer.close()

            asked: list[bytes] = []
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            way = Way(good)
            way.tls = context  # even one whose certificate is good
            server = await asyncio.start_server(pretend, "127.0.0.1", 0)
            way.tls = None  # type: ignore[assignment]
            assert await way.try_one(f"127.0.0.1:{server.sockets[0].getsockname()[1]}", "http", 10.0) is None
            server.close()
            await until("it hung up", lambda: len(asked) == 2)
            assert asked[1] == b"", "no request was sent to it"
            assert api.requests == []

    play(scene)


def test_another_scheduler_stands_by_and_takes_over(emulator: EmulatorThread) -> None:
    async def scene(api: Api) -> None:
        async with attached(api) as second_api_user, api_running() as other_api:
            second = service(other_api.url)
            second.start()
            try:
                await second.ready()
                assert [(one.serving, one.held) for one in second.seen] == [(True, False)]
                way = way_of(second)
                assert (await ask(way)).startswith(b"HTTP/1.1 200 OK")
                assert (len(api.requests), len(other_api.requests)) == (1, 0)
                await asyncio.to_thread(second_api_user.stop, 10.0)
                await until("it holds the port", lambda: second.seen[0].held)
                assert (await ask(way)).startswith(b"HTTP/1.1 200 OK")
                assert len(other_api.requests) == 1
                assert len(relays(emulator)) == 1
            finally:
                await asyncio.to_thread(second.stop, 10.0)

    play(scene)


def test_schedulers_that_start_together_share_one_relay(emulator: EmulatorThread) -> None:
    async def scene(api: Api) -> None:
        both = [service(api.url), service(api.url)]
        for one in both:
            one.start()
        try:
            await asyncio.gather(*(one.ready() for one in both))
            await until("both see the same", lambda: len({tuple(s.mark for s in one.seen) for one in both}) == 1)
            assert sorted(one.seen[0].held for one in both) == [False, True]
        finally:
            for one in both:
                await asyncio.to_thread(one.stop, 10.0)

    play(scene)


def test_somebody_elses_scheduler_does_not_get_in_nor_takes_our_relay_for_its_own(
    emulator: EmulatorThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scene(api: Api) -> None:
        async with attached(api) as one, api_running() as other_api:
            monkeypatch.setattr(service_module, "READY_LIMIT", 3.0)
            thief = service(other_api.url, secret=OTHER)
            thief.start()
            try:
                with pytest.raises(Unavailable, match=r"^the relay to the execution API is not up: "):
                    await thief.ready()
                assert [(seen.serving, seen.held) for seen in thief.seen] == [(False, False)]
                assert (
                    await Way({**one.ticket(LAUNCH, 60.0), "key": thief.ticket(LAUNCH, 60.0)["key"]}).reach("http", 1.0) is None
                )
            finally:
                await asyncio.to_thread(thief.stop, 10.0)
            assert (await ask(way_of(one))).startswith(b"HTTP/1.1 200 OK")
            assert other_api.requests == []

    play(scene)


class HalfStolen(Keys):
    """Knows which host key to expect, and not the key to come in."""

    def client(self, number: str) -> Any:
        return Keys(OTHER, "airflow").client(number)


def test_the_relay_lets_its_key_in_only_and_lets_it_do_one_thing_only(emulator: EmulatorThread) -> None:
    async def scene(api: Api) -> None:
        async with attached(api) as one:
            [seen] = one.seen
            async with RelayGateway(LaunchSettings()) as gateway:
                host, port = (await gateway.tunnels(seen.sandbox_id))[seen.mark.ssh_port]
            endpoint = Endpoint(number=seen.mark.number, host=host, port=port, task_port=seen.mark.task_port)
            context = ssl.create_default_context()
            with pytest.raises(asyncssh.PermissionDenied):
                await connect(endpoint, HalfStolen(SECRET, "airflow"), context)
            with pytest.raises(asyncssh.HostKeyNotVerifiable):
                await connect(endpoint, Keys(OTHER, "airflow"), context)
            async with await connect(endpoint, Keys(SECRET, "airflow"), context) as connection:
                with pytest.raises(asyncssh.ChannelOpenError):
                    await connection.run("id")
                with pytest.raises(asyncssh.ChannelOpenError):
                    await connection.open_connection("127.0.0.1", port)
                for listen_host, listen_port in [
                    ("", seen.mark.task_port),
                    ("", 0),
                    ("", 8080),
                    ("127.0.0.1", seen.mark.task_port),
                ]:
                    with pytest.raises(asyncssh.ChannelListenError):
                        await connection.forward_remote_port(listen_host, listen_port, "127.0.0.1", 1)
                with pytest.raises(asyncssh.ChannelListenError):
                    await connection.forward_remote_path("/tmp/relay-test", "/tmp/relay-test")

    play(scene)


WAITS_TO_BE_TOLD = """
import os, time
place = (os.environ.get("MODAL_EMULATOR_ROOT") or "") + "/tmp/modalflow-relays"
while not os.path.exists(place):
    time.sleep(0.05)
print(open(place).read())
"""


def test_a_relay_that_is_killed_is_replaced_and_running_sandboxes_are_told(emulator: EmulatorThread) -> None:
    async def scene(api: Api) -> None:
        async with attached(api) as one, RelayGateway(LaunchSettings(logs_volume=None)) as gateway:
            way = way_of(one)
            assert (await ask(way)).startswith(b"HTTP/1.1 200 OK")
            told = await start_task(gateway, "airflow")
            stranger = await start_task(gateway, "another-airflow")
            [first] = running(emulator)
            kill_station(first.sandbox_id)
            await until(
                "another relay serves", lambda: one.seen and one.seen[0].held and one.seen[0].sandbox_id != first.sandbox_id
            )
            ended = await asyncio.wait_for(gateway.wait(told), 30.0)
            assert ended.exit_code == 0
            addresses = (await gateway.output_tail(told, max_bytes=1000)).split()
            assert addresses == [one.seen[0].address]
            way.learn(addresses)
            assert (await ask(way)).startswith(b"HTTP/1.1 200 OK")
            [other] = [record for record in sandbox_records(emulator) if record.sandbox_id == stranger]
            assert not other.ended, "another deployment's sandbox is told nothing"
            await gateway.terminate(stranger)

    play(scene)


async def start_task(gateway: RelayGateway, deployment: str) -> str:
    plan = SandboxPlan(image=AUTO, tags={"deployment": deployment, "launch": LAUNCH})
    await gateway.prepare(plan)
    argv = ("python", "-c", WAITS_TO_BE_TOLD)
    return await gateway.create(plan, name=f"task-of-{deployment}", gpu=None, argv=argv, secret_env={})


def test_a_relay_is_replaced_in_time_and_left_when_tasks_know_its_successor(emulator: EmulatorThread) -> None:
    shift = [0.0]

    async def scene(api: Api) -> None:
        one = service(api.url, clock=lambda: time.time() + shift[0])
        one.start()
        try:
            await one.ready()
            way = way_of(one)
            [elder] = one.seen
            shift[0] = RULES.life - RULES.renew
            one.look_soon()
            await until("both serve", lambda: [seen.held for seen in one.seen] == [True, True])
            successor = one.seen[1]
            assert [seen.slot for seen in one.seen] == ["a", "b"]
            reader, _ = await way.reach("relays", 10.0)
            assert json.loads(await reader.readline()) == [successor.address, elder.address]
            assert (await ask(way)).startswith(b"HTTP/1.1 200 OK")
            shift[0] += RULES.overlap + 60
            one.look_soon()
            await until("the elder is left", lambda: [seen.mark for seen in one.seen] == [successor.mark])
            way.learn([successor.address])
            assert (await ask(way)).startswith(b"HTTP/1.1 200 OK")
            assert len(running(emulator)) == 2, "the elder ends by itself, when nobody is connected to it"
        finally:
            await asyncio.to_thread(one.stop, 10.0)

    play(scene)


def test_errors_of_a_relay_that_is_away_are_those_that_are_expected(emulator: EmulatorThread) -> None:
    async def scene(api: Api) -> None:
        endpoint = Endpoint(number="0" * 24, host="127.0.0.1", port=1, task_port=1)
        with pytest.raises(ATTACH_ERRORS):
            await connect(endpoint, Keys(SECRET, "airflow"), ssl.create_default_context())

    play(scene)
