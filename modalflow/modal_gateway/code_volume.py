"""The Volume with the code of DAGs, for ``dag_code.copies``: folders put there at once, listed, removed.

In: the files of a copy with their hashes, and who can read them. Out: a folder that holds them all, made by one call: Modal is
told all names and hashes, answers which blocks it lacks, gets those, and is told again (``VolumePutFiles2``). The public
``batch_upload`` (modal 1.6.4) makes the same calls but must read and hash every file first, which for one changed file among
thousands is most of the work; so the client's own pieces are used, which are internal. Blocks are read in a thread, a few at a
time.
"""

from __future__ import annotations

import io
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from modal import Client, Volume
from modal_proto import api_pb2

from modalflow.dag_code.copies import ReadBlock
from modalflow.dag_code.manifest import BLOCK_SIZE, CodeFile
from modalflow.launch.gateway import DagCodeError, NotFound, Unavailable
from modalflow.launch.off_loop import off_loop
from modalflow.launch.reconcile import DEPLOYMENT_TAG
from modalflow.modal_gateway.errors import bounded
from modalflow.modal_gateway.kept import KeptObjects
from modalflow.translation.tags import CODE_TAG

if TYPE_CHECKING:
    from modalflow.modal_gateway.gateway import ModalGateway

VOLUME_VERSION = 2
"""Version 1 has no blocks, and is not made for thousands of files."""
BATCH_BYTES = 64 * 1024 * 1024
"""Content that is in memory at the same time."""
BATCH_BLOCKS = 1024
AT_ONCE = 128
"""Blocks on their way at the same time, as ``batch_upload`` has it."""
BATCH_LIMIT = 300.0
"""Seconds for a batch: a slow line sends 64 MiB in that time at 2 Mbit/s."""
PUT_LIMIT = 120.0
"""Seconds for telling Modal all names and hashes."""

Missing = Sequence[api_pb2.VolumePutFiles2Response.MissingBlock]


@dataclass(frozen=True, slots=True)
class _Internals:
    """What of the client is used that is not public, each to be awaited on any loop."""

    put_files: Callable[[Client, api_pb2.VolumePutFiles2Request], Awaitable[api_pb2.VolumePutFiles2Response]]
    put_blocks: Callable[[Sequence[tuple[str, bytes]]], Awaitable[dict[bytes, bytes]]]


def _internals() -> _Internals | None:
    """Return the client's own calls; ``None`` if this client has no such things."""
    try:
        from modal._utils.async_utils import synchronize_api  # noqa: PLC0415 - internal: may be gone
        from modal._utils.blob_utils import FileUploadBlock, FileUploadSpec2  # noqa: PLC0415
        from modal._utils.grpc_utils import Retry  # noqa: PLC0415
        from modal.volume import _put_missing_blocks as put_missing  # noqa: PLC0415
    except ImportError:
        return None
    put_missing_blocks: Any = put_missing

    async def _put_files(client: Any, request: api_pb2.VolumePutFiles2Request) -> Any:
        return await client._stub.VolumePutFiles2(request, retry=Retry(base_delay=1))

    async def _put_blocks(blocks: Sequence[tuple[str, bytes]]) -> dict[bytes, bytes]:
        """Send contents to their addresses; what was answered for each address, by its number in four bytes."""
        missing = [
            api_pb2.VolumePutFiles2Response.MissingBlock(file_index=index, block_index=0, put_url=url)
            for index, (url, _) in enumerate(blocks)
        ]
        specs = [
            FileUploadSpec2(
                source=_source(content),
                source_description="DAG code",
                path=str(index),
                # The hash is only the key of the answer here: two blocks may be equal, their places differ.
                blocks=[FileUploadBlock(start=0, end=len(content), contents_sha256=index.to_bytes(4, "big"))],
                mode=0o644,
                size=len(content),
            )
            for index, (_, content) in enumerate(blocks)
        ]
        answers: dict[bytes, bytes] = {}
        await put_missing_blocks(specs, missing, answers, AT_ONCE, _no_progress)
        return answers

    synchronize: Any = synchronize_api  # has no types
    return _Internals(synchronize(_put_files).aio, synchronize(_put_blocks).aio)


def _source(content: bytes) -> Any:
    return lambda: io.BytesIO(content)


def _no_progress(*_: object, **__: object) -> str:
    return ""


_INTERNALS = _internals()


class ModalCodeVolume:
    """One named Volume, created if missing. Used on the gateway's loop; ``gateway`` is asked for at each call."""

    def __init__(self, gateway: Callable[[], ModalGateway], name: str, *, deployment: str) -> None:
        """Keep the arguments."""
        self._gateway = gateway
        self._name = name
        self._deployment = deployment

    async def put(self, folder: str, files: Sequence[CodeFile], read: ReadBlock) -> int:
        """See ``CodeVolume.put``."""
        try:
            return await self._put(folder, files, read)
        except NotFound:
            (await self._gateway().objects()).forget()  # the server was reset, or the Volume deleted
        return await self._put(folder, files, read)

    async def _put(self, folder: str, files: Sequence[CodeFile], read: ReadBlock) -> int:
        if _INTERNALS is None:
            raise DagCodeError(
                "this release of modal uploads files in another way than 1.6 does: install modal 1.6, or have the code in the "
                "image (dag_source = image)"
            )
        kept, doing, sent = await self._gateway().objects(), f"write to Volume {self._name}", 0
        async with bounded(doing, PUT_LIMIT):
            volume_id = (await self._volume(kept)).object_id
            request = api_pb2.VolumePutFiles2Request(volume_id=volume_id, files=_wire(folder, files))
            missing: Missing = (await _INTERNALS.put_files(kept.client, request)).missing_blocks
        if not missing:
            return 0
        for batch in _batches(missing, files):
            contents = await off_loop(partial(_contents, batch, files, read), "modalflow-dag-code-blocks")
            sent += sum(len(content) for content in contents)
            urls = [block.put_url for block in batch]
            async with bounded(doing, BATCH_LIMIT):
                answers = await _INTERNALS.put_blocks(list(zip(urls, contents, strict=True)))
            for index, block in enumerate(batch):
                told = request.files[block.file_index].blocks[block.block_index]
                told.put_response = answers[index.to_bytes(4, "big")]
        _answer_equal_blocks(request)
        async with bounded(doing, PUT_LIMIT):
            left = (await _INTERNALS.put_files(kept.client, request)).missing_blocks
        if left:
            raise Unavailable(f"could not {doing}: Modal asks again for {len(left)} blocks that it has been sent")
        return sent

    async def names(self, folder: str) -> list[str]:
        """See ``CodeVolume.names``."""
        kept = await self._gateway().objects()
        found: list[str] = []
        try:
            async with bounded(f"list Volume {self._name}", self._gateway().rpc_timeout):
                with suppress(FileNotFoundError):
                    found = [entry.path.rpartition("/")[2] for entry in await (await self._volume(kept)).listdir.aio(folder)]
        except NotFound:
            kept.forget()  # it may be the Volume that is gone
        return found

    async def remove(self, folder: str) -> None:
        """See ``CodeVolume.remove``."""
        kept = await self._gateway().objects()
        with suppress(NotFound):
            async with bounded(f"remove {folder} from Volume {self._name}", PUT_LIMIT):
                with suppress(FileNotFoundError):
                    await (await self._volume(kept)).remove_file.aio(folder, recursive=True)

    async def tags_in_use(self) -> set[str]:
        """See ``CodeVolume.tags_in_use``."""
        running = await self._gateway().list_running({DEPLOYMENT_TAG: self._deployment})
        return {tag for status in running if (tag := status.tags.get(CODE_TAG))}

    async def _volume(self, kept: KeptObjects) -> Volume:
        return await kept.whole_volume(self._name, version=VOLUME_VERSION, create_if_missing=True)


def _wire(folder: str, files: Sequence[CodeFile]) -> list[api_pb2.VolumePutFiles2Request.File]:
    block, entry = api_pb2.VolumePutFiles2Request.Block, api_pb2.VolumePutFiles2Request.File
    return [
        entry(
            path=f"{folder}/{file.path}",
            mode=file.mode,
            size=file.size,
            blocks=[block(contents_sha256=digest) for digest in file.blocks],
        )
        for file in files
    ]


def _batches(missing: Missing, files: Sequence[CodeFile]) -> Iterator[Missing]:
    """Cut what is missing into parts that fit the memory."""
    batch: list[api_pb2.VolumePutFiles2Response.MissingBlock] = []
    size = 0
    for block in missing:
        length = min(BLOCK_SIZE, files[block.file_index].size - block.block_index * BLOCK_SIZE)
        if batch and (size + length > BATCH_BYTES or len(batch) == BATCH_BLOCKS):
            yield batch
            batch, size = [], 0
        batch.append(block)
        size += length
    yield batch


def _contents(batch: Missing, files: Sequence[CodeFile], read: ReadBlock) -> list[bytes]:
    return [read(files[block.file_index], block.block_index) for block in batch]


def _answer_equal_blocks(request: api_pb2.VolumePutFiles2Request) -> None:
    """Give the answer for a block to all that are equal to it: Modal asks for one of them."""
    answers = {
        block.contents_sha256: block.put_response
        for file in request.files
        for block in file.blocks
        if block.HasField("put_response")
    }
    for file in request.files:
        for block in file.blocks:
            answer = answers.get(block.contents_sha256)
            if answer is not None:
                block.put_response = answer
