"""Volumes of both versions: found, made, listed; their files listed, read, written, removed, copied.

Both versions keep their content the same way here; they differ in their RPCs and in ``sync`` (version 2 only).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

from google.protobuf.empty_pb2 import Empty
from grpclib import Status
from modal_proto import api_pb2

from modalflow.emulator.services.naming import UNNAMED, check_name
from modalflow.emulator.state.blobs import BLOCK_SIZE
from modalflow.emulator.state.ids import new_id
from modalflow.emulator.state.named import EPHEMERAL_SECONDS
from modalflow.emulator.state.store import Volume, Workspace
from modalflow.emulator.state.volume_tree import Entry, File, Folder
from modalflow.emulator.wire import Call, Service, create, fail, partial, streaming, unary

LIST_BATCH = 500
MAX_INLINE_BYTES = 64 * 1024 * 1024


class Volumes(Service):
    """Volume*."""

    @create
    async def VolumeGetOrCreate(self, request: api_pb2.VolumeGetOrCreateRequest, call: Call) -> api_pb2.VolumeGetOrCreateResponse:
        """Find or make a Volume, as the creation type says."""
        volume = _found_or_made(call, request)
        self.core.state_changed(call.workspace, volume)
        return api_pb2.VolumeGetOrCreateResponse(
            volume_id=volume.volume_id, version=_version(volume), metadata=_metadata(call.workspace, volume)
        )

    @unary
    async def VolumeGetById(self, request: api_pb2.VolumeGetByIdRequest, call: Call) -> api_pb2.VolumeGetByIdResponse:
        """Find a Volume by id."""
        volume = _volume(call.workspace, request.volume_id)
        return api_pb2.VolumeGetByIdResponse(volume_id=volume.volume_id, metadata=_metadata(call.workspace, volume))

    @unary
    async def VolumeHeartbeat(self, request: api_pb2.VolumeHeartbeatRequest, call: Call) -> Empty:
        """Hear that an ephemeral Volume is still in use."""
        _volume(call.workspace, request.volume_id).heard_at = self.core.clock.time()
        return Empty()

    @unary
    async def VolumeList(self, request: api_pb2.VolumeListRequest, call: Call) -> api_pb2.VolumeListResponse:
        """List named Volumes, the newest first."""
        environment = call.environment(request.environment_name)
        before = request.pagination.created_before or float("inf")
        found = [
            one
            for one in reversed(call.workspace.volumes.values())
            if one.name and one.environment == environment and one.created_at < before
        ]
        return api_pb2.VolumeListResponse(
            environment_name=environment,
            items=[
                api_pb2.VolumeListItem(
                    label=one.name, volume_id=one.volume_id, created_at=one.created_at, metadata=_metadata(call.workspace, one)
                )
                for one in found[: request.pagination.max_objects or 100]
            ],
        )

    @create
    async def VolumeDelete(self, request: api_pb2.VolumeDeleteRequest, call: Call) -> Empty:
        """Delete a Volume. Sandboxes that mount it keep their copy."""
        volume = _volume(call.workspace, request.volume_id)
        del call.workspace.volumes[request.volume_id]
        self.core.state_changed(call.workspace, volume)
        return Empty()

    @unary
    async def VolumeRename(self, request: api_pb2.VolumeRenameRequest, call: Call) -> Empty:
        """Give a Volume another name."""
        volume = _volume(call.workspace, request.volume_id)
        check_name("Volume", request.name)
        if call.workspace.volume_named(volume.environment, request.name) not in (None, volume):
            fail(Status.ALREADY_EXISTS, f"Volume '{request.name}' already exists")
        volume.name = request.name
        self.core.state_changed(call.workspace, volume)
        return Empty()

    # -- files

    async def _listed(
        self, call: Call, request: api_pb2.VolumeListFilesRequest | api_pb2.VolumeListFiles2Request
    ) -> list[api_pb2.FileEntry]:
        entries = _volume(call.workspace, request.volume_id).tree.listing(request.path, recursive=request.recursive)
        return [_entry(entry) for entry in entries[: request.max_entries or None]]

    @streaming
    async def VolumeListFiles(
        self, request: api_pb2.VolumeListFilesRequest, call: Call
    ) -> AsyncIterator[api_pb2.VolumeListFilesResponse]:
        """List files (version 1)."""
        entries = await self._listed(call, request)
        for start in range(0, len(entries), LIST_BATCH):
            yield api_pb2.VolumeListFilesResponse(entries=entries[start : start + LIST_BATCH])

    @streaming
    async def VolumeListFiles2(
        self, request: api_pb2.VolumeListFiles2Request, call: Call
    ) -> AsyncIterator[api_pb2.VolumeListFiles2Response]:
        """List files (version 2)."""
        entries = await self._listed(call, request)
        for start in range(0, len(entries), LIST_BATCH):
            yield api_pb2.VolumeListFiles2Response(entries=entries[start : start + LIST_BATCH])

    @unary
    async def VolumeGetFile2(self, request: api_pb2.VolumeGetFile2Request, call: Call) -> api_pb2.VolumeGetFile2Response:
        """Give the addresses of a file's blocks, or of those that a range touches (both versions)."""
        file = _volume(call.workspace, request.volume_id).tree.file(request.path)
        start = min(request.start, file.size)
        end = min(start + request.len, file.size) if request.len else file.size
        first, last = start // BLOCK_SIZE, -(-end // BLOCK_SIZE)
        urls = []
        for number in range(first, last):
            begin = number * BLOCK_SIZE
            low, high = max(start, begin) - begin, min(end, begin + BLOCK_SIZE) - begin
            urls.append(self.core.block_store.block_url(file.blocks[number], low, high, padded=not request.client_pads_blocks))
        return api_pb2.VolumeGetFile2Response(get_urls=urls, size=file.size, start=start, len=end - start)

    @partial("more than 64 MiB at once, which clients that ask in ranges never do")
    @unary
    async def VolumeGetFile(self, request: api_pb2.VolumeGetFileRequest, call: Call) -> api_pb2.VolumeGetFileResponse:
        """Return a file's content, or a range of it (clients before ``VolumeGetFile2``)."""
        file = _volume(call.workspace, request.volume_id).tree.file(request.path)
        start = min(request.start, file.size)
        end = min(start + request.len, file.size) if request.len else file.size
        if end - start > MAX_INLINE_BYTES:
            fail(Status.RESOURCE_EXHAUSTED, f"'{request.path}': {end - start} bytes; ask for at most {MAX_INLINE_BYTES} with len")
        data = await asyncio.to_thread(self._content, file, start, end)
        return api_pb2.VolumeGetFileResponse(data=data, size=file.size, start=start, len=end - start)

    def _content(self, file: File, start: int, end: int) -> bytes:
        pieces = []
        for number in range(start // BLOCK_SIZE, -(-end // BLOCK_SIZE)):
            begin = number * BLOCK_SIZE
            block = self.core.blobs.get(file.blocks[number]).ljust(min(BLOCK_SIZE, file.size - begin), b"\0")
            pieces.append(block[max(start - begin, 0) : end - begin])
        return b"".join(pieces)

    @create
    async def VolumePutFiles(self, request: api_pb2.VolumePutFilesRequest, call: Call) -> Empty:
        """Place uploaded files (version 1)."""
        volume = _volume(call.workspace, request.volume_id)
        if request.disallow_overwrite_existing_files:
            _refuse_overwriting(volume, [file.filename for file in request.files])
        for file in request.files:
            if file.sha256_hex not in call.workspace.uploads:
                fail(Status.FAILED_PRECONDITION, f"The content of '{file.filename}' has not been uploaded")
            blocks, size = call.workspace.uploads[file.sha256_hex]
            volume.tree.put(
                file.filename, File(blocks=blocks, size=size, mode=file.mode & 0o7777 or 0o644, mtime_ns=time.time_ns())
            )
        self.core.state_changed(call.workspace, volume)
        return Empty()

    @create
    async def VolumePutFiles2(self, request: api_pb2.VolumePutFiles2Request, call: Call) -> api_pb2.VolumePutFiles2Response:
        """Place files if all their blocks are here, else tell which are missing and where to put them (version 2)."""
        volume = _volume(call.workspace, request.volume_id)
        if request.disallow_overwrite_existing_files:
            _refuse_overwriting(volume, [file.path for file in request.files])
        missing: dict[str, api_pb2.VolumePutFiles2Response.MissingBlock] = {}
        for file_index, file in enumerate(request.files):
            if len(file.blocks) != -(-file.size // BLOCK_SIZE):
                fail(Status.INVALID_ARGUMENT, f"'{file.path}': {len(file.blocks)} blocks do not make {file.size} bytes")
            for block_index, block in enumerate(file.blocks):
                digest = block.contents_sha256.hex()
                if digest not in missing and not self.core.blobs.has(digest):
                    url = self.core.block_store.put_url(digest)
                    missing[digest] = api_pb2.VolumePutFiles2Response.MissingBlock(
                        file_index=file_index, block_index=block_index, put_url=url
                    )
        if missing:
            return api_pb2.VolumePutFiles2Response(missing_blocks=list(missing.values()))
        for file in request.files:
            blocks = tuple(block.contents_sha256.hex() for block in file.blocks)
            mode = file.mode & 0o7777 or 0o644
            volume.tree.put(file.path, File(blocks=blocks, size=file.size, mode=mode, mtime_ns=time.time_ns()))
        self.core.state_changed(call.workspace, volume)
        return api_pb2.VolumePutFiles2Response()

    def _remove(self, call: Call, request: api_pb2.VolumeRemoveFileRequest | api_pb2.VolumeRemoveFile2Request) -> Empty:
        volume = _volume(call.workspace, request.volume_id)
        volume.tree.remove(request.path, recursive=request.recursive)
        self.core.state_changed(call.workspace, volume)
        return Empty()

    @create
    async def VolumeRemoveFile(self, request: api_pb2.VolumeRemoveFileRequest, call: Call) -> Empty:
        """Remove a file or folder (version 1)."""
        return self._remove(call, request)

    @create
    async def VolumeRemoveFile2(self, request: api_pb2.VolumeRemoveFile2Request, call: Call) -> Empty:
        """Remove a file or folder (version 2)."""
        return self._remove(call, request)

    def _copy(self, call: Call, request: api_pb2.VolumeCopyFilesRequest | api_pb2.VolumeCopyFiles2Request) -> Empty:
        volume = _volume(call.workspace, request.volume_id)
        volume.tree.copy(list(request.src_paths), request.dst_path, recursive=request.recursive)
        self.core.state_changed(call.workspace, volume)
        return Empty()

    @create
    async def VolumeCopyFiles(self, request: api_pb2.VolumeCopyFilesRequest, call: Call) -> Empty:
        """Copy files as ``cp`` does (version 1)."""
        return self._copy(call, request)

    @create
    async def VolumeCopyFiles2(self, request: api_pb2.VolumeCopyFiles2Request, call: Call) -> Empty:
        """Copy files as ``cp`` does (version 2)."""
        return self._copy(call, request)

    # -- from inside a container

    @unary
    async def VolumeCommit(self, request: api_pb2.VolumeCommitRequest, call: Call) -> api_pb2.VolumeCommitResponse:
        """Commit the mount of the container that is named."""
        _volume(call.workspace, request.volume_id)
        sandbox = call.workspace.tasks.get(request.container_id)
        mounts = self.core.sandboxes.machine(sandbox).mounts if sandbox else []
        chosen = [mount for mount in mounts if mount.volume_id == request.volume_id]
        if not chosen:
            fail(Status.FAILED_PRECONDITION, "VolumeCommit must be called inside a container that mounts the Volume")
        for mount in chosen:
            await mount.commit()
        return api_pb2.VolumeCommitResponse(skip_reload=True)

    @unary
    async def VolumeReload(self, request: api_pb2.VolumeReloadRequest, call: Call) -> Empty:
        """Refuse: outside a container there is nothing to reload, and sandboxes reload through the command router."""
        _volume(call.workspace, request.volume_id)
        fail(Status.FAILED_PRECONDITION, "VolumeReload must be called inside a container that mounts the Volume")


def _found_or_made(call: Call, request: api_pb2.VolumeGetOrCreateRequest) -> Volume:
    workspace = call.workspace
    kind = request.object_creation_type
    environment = call.environment(request.environment_name)
    if kind in UNNAMED:
        for old in [one for one in workspace.volumes.values() if _is_over(workspace, one)]:
            del workspace.volumes[old.volume_id]
        owned = kind == api_pb2.OBJECT_CREATION_TYPE_ANONYMOUS_OWNED_BY_APP
        return _add(workspace, "", environment, request.version, app_id=request.app_id if owned else "")
    check_name("Volume", request.deployment_name)
    known = workspace.volume_named(environment, request.deployment_name)
    if known is None:
        if kind == api_pb2.OBJECT_CREATION_TYPE_UNSPECIFIED:
            fail(Status.NOT_FOUND, f"Volume '{request.deployment_name}' not found in environment '{environment}'")
        return _add(workspace, request.deployment_name, environment, request.version)
    if kind == api_pb2.OBJECT_CREATION_TYPE_CREATE_FAIL_IF_EXISTS:
        fail(Status.ALREADY_EXISTS, f"Volume '{request.deployment_name}' already exists in environment '{environment}'")
    return known


def _add(workspace: Workspace, name: str, environment: str, version: int, *, app_id: str = "") -> Volume:
    volume = Volume(
        volume_id=new_id("vo"),
        name=name,
        environment=environment,
        version=version or api_pb2.VOLUME_FS_VERSION_V1,
        created_at=workspace.next_created_at(),
        app_id=app_id,
        heard_at=workspace.clock.time(),
    )
    workspace.volumes[volume.volume_id] = volume
    return volume


def _volume(workspace: Workspace, volume_id: str) -> Volume:
    volume = workspace.volumes.get(volume_id)
    if volume is None or _is_over(workspace, volume):
        fail(Status.NOT_FOUND, f"Volume '{volume_id}' not found")
    return volume


def _is_over(workspace: Workspace, volume: Volume) -> bool:
    """Whether an ephemeral Volume has had no heartbeat for too long."""
    return not volume.name and not volume.app_id and workspace.clock.time() - volume.heard_at > EPHEMERAL_SECONDS


def _version(volume: Volume) -> api_pb2.VolumeFsVersion.ValueType:
    return api_pb2.VOLUME_FS_VERSION_V2 if volume.version == api_pb2.VOLUME_FS_VERSION_V2 else api_pb2.VOLUME_FS_VERSION_V1


def _metadata(workspace: Workspace, volume: Volume) -> api_pb2.VolumeMetadata:
    return api_pb2.VolumeMetadata(
        version=_version(volume),
        name=volume.name,
        creation_info=api_pb2.CreationInfo(created_at=volume.created_at, created_by=workspace.username),
    )


def _refuse_overwriting(volume: Volume, paths: list[str]) -> None:
    taken = [path for path in paths if volume.tree.exists(path)]
    if taken:
        fail(Status.ALREADY_EXISTS, f"{', '.join(taken)}: already exists; upload with force=True to overwrite")


def _entry(entry: Entry) -> api_pb2.FileEntry:
    node = entry.node
    if isinstance(node, File):
        kind, size = api_pb2.FileEntry.FILE, node.size
    elif isinstance(node, Folder):
        kind, size = api_pb2.FileEntry.DIRECTORY, 0
    else:
        kind, size = api_pb2.FileEntry.SYMLINK, len(node.target)
    return api_pb2.FileEntry(path=entry.path, type=kind, mtime=node.mtime_ns // 1_000_000_000, size=size)
