"""How fast the content of a Volume goes in and comes out, against plain HTTP of the same bytes to the same kind of server.

Ours: what the modal client 1.6.4 does for one large file (``VolumePutFiles2``, its 8 MiB blocks by HTTP, ``VolumePutFiles2``;
``VolumeGetFile2``, its blocks by HTTP), without the client's own hashing. The floor, alternating in the same run: aiohttp in a
process of its own that writes bodies to files and serves them again, and checks nothing.
Run as ``python -m benchmarks.emulator_volumes``.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import Any

import aiohttp

from benchmarks.light_client import Client, emulator_process
from benchmarks.report import report

BLOCK = 8 * 1024 * 1024
BLOCKS = 16
AT_ONCE = 8
"""Requests at the same time."""
ROUNDS = 5
GOAL_IN = 2.0
"""Blocks are hashed on their way in."""
GOAL_OUT = 1.5

_PLAIN = """
import asyncio, sys
from pathlib import Path
from aiohttp import web
folder = Path(sys.argv[1])
async def put(request):
    data = await request.read()
    await asyncio.to_thread((folder / request.match_info["name"]).write_bytes, data)
    return web.Response()
async def get(request):
    return web.Response(body=await asyncio.to_thread((folder / request.match_info["name"]).read_bytes))
async def main():
    app = web.Application(client_max_size=2**30)
    app.router.add_put("/{name}", put)
    app.router.add_get("/{name}", get)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await runner.cleanup()
asyncio.run(main())
"""


@contextlib.contextmanager
def _plain_server() -> Iterator[str]:
    with tempfile.TemporaryDirectory() as folder:
        server = subprocess.Popen(
            [sys.executable, "-c", _PLAIN, folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert server.stdout is not None
        try:
            yield f"http://127.0.0.1:{server.stdout.readline().strip()}"
        finally:
            server.communicate(timeout=30)


class Http:
    """Transfers, so many at once."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        """By that session."""
        self._session = session
        self._turn = asyncio.Semaphore(AT_ONCE)

    async def put(self, url: str, data: bytes) -> None:
        """Send one body."""
        async with self._turn, self._session.put(url, data=data) as answer:
            answer.raise_for_status()
            await answer.read()

    async def get(self, url: str) -> bytes:
        """Fetch one body."""
        async with self._turn, self._session.get(url) as answer:
            answer.raise_for_status()
            return await answer.read()


class Volume:
    """A Volume of an emulator."""

    def __init__(self, client: Client, http: Http, volume_id: str) -> None:
        """Reached by ``client``."""
        self._client = client
        self._http = http
        self._volume_id = volume_id

    async def put(self, path: str, blocks: list[bytes], digests: list[bytes]) -> None:
        """Upload a file; ``digests`` are the blocks' SHA-256."""
        from modal_proto import api_pb2

        wanted = [api_pb2.VolumePutFiles2Request.Block(contents_sha256=digest) for digest in digests]
        file = api_pb2.VolumePutFiles2Request.File(path=path, size=sum(map(len, blocks)), blocks=wanted)
        request = api_pb2.VolumePutFiles2Request(volume_id=self._volume_id, files=[file])
        missing = (await self._client.call("VolumePutFiles2", request)).missing_blocks
        await asyncio.gather(*(self._http.put(one.put_url, blocks[one.block_index]) for one in missing))
        await self._client.call("VolumePutFiles2", request)

    async def get(self, path: str) -> list[bytes]:
        """Download a file."""
        from modal_proto import api_pb2

        request = api_pb2.VolumeGetFile2Request(volume_id=self._volume_id, path=path)
        reply: Any = await self._client.call("VolumeGetFile2", request)
        return list(await asyncio.gather(*(self._http.get(url) for url in reply.get_urls)))


async def _new_volume(client: Client, http: Http) -> Volume:
    from modal_proto import api_pb2

    request = api_pb2.VolumeGetOrCreateRequest(
        deployment_name="bench",
        object_creation_type=api_pb2.OBJECT_CREATION_TYPE_CREATE_IF_MISSING,
        version=api_pb2.VOLUME_FS_VERSION_V2,
    )
    return Volume(client, http, (await client.call("VolumeGetOrCreate", request)).volume_id)


async def _measure(environment: dict[str, str], plain: str) -> dict[str, list[float]]:
    taken: dict[str, list[float]] = {"ours in": [], "floor in": [], "ours out": [], "floor out": []}
    client = Client(environment)
    async with aiohttp.ClientSession() as session:
        http = Http(session)
        volume = await _new_volume(client, http)
        for turn in range(ROUNDS + 1):
            blocks = [os.urandom(BLOCK) for _ in range(BLOCKS)]
            digests = [hashlib.sha256(block).digest() for block in blocks]
            begun = time.perf_counter()
            await volume.put(f"file{turn}", blocks, digests)
            uploaded = time.perf_counter()
            if await volume.get(f"file{turn}") != blocks:
                raise RuntimeError("the Volume returned something else")
            fetched = time.perf_counter()
            await asyncio.gather(*(http.put(f"{plain}/{turn}-{n}", block) for n, block in enumerate(blocks)))
            sent = time.perf_counter()
            await asyncio.gather(*(http.get(f"{plain}/{turn}-{n}") for n in range(BLOCKS)))
            ended = time.perf_counter()
            if turn:  # the first round warms up
                times = (uploaded - begun, sent - fetched, fetched - uploaded, ended - sent)
                for name, seconds in zip(taken, times, strict=True):
                    taken[name].append(seconds * 1000)
    client.close()
    return taken


def main() -> int:
    """Measure, report, and return 0 if the goals were met."""
    with emulator_process({"isolation": "process"}) as (_, environment), _plain_server() as plain:
        taken = asyncio.run(_measure(environment, plain))
    size = f"{BLOCK * BLOCKS >> 20} MiB"
    met_in = report(f"{size} into a Volume", taken["ours in"], taken["floor in"], unit="ms", goal_ratio=GOAL_IN)
    met_out = report(f"{size} out of a Volume", taken["ours out"], taken["floor out"], unit="ms", goal_ratio=GOAL_OUT)
    return 0 if met_in and met_out else 1


if __name__ == "__main__":
    sys.exit(main())
