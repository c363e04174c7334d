"""Uploads of blobs: in one piece or many, resumed after breaks and restarts, verified while they are written."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Protocol

from isola.errors import Busy, InvalidInput, NotFound, TooLarge
from isola.host import Host
from isola.host.cancellation import finish
from isola.host.threads import in_thread
from isola.images.descriptor import SHA256, Descriptor, algorithm_of, check_digest
from isola.images.store import ContentStore
from isola.model.reference import Ref
from isola.model.repository import RepositoryBlob
from isola.state import Intent, Intents

_INTENT = "registry-upload"
_MOST = 256
"""Unfinished uploads."""
_IDLE = timedelta(hours=24)
_LIFE = timedelta(days=7)
_BLOCK = 1 << 20
_BYTES = "application/octet-stream"
log = logging.getLogger(__name__)
Link = Callable[[RepositoryBlob], Awaitable[None]]
"""Record that a repository has a blob."""


class Hash(Protocol):
    """A digest that is being computed."""

    def update(self, data: bytes, /) -> None: ...
    def hexdigest(self) -> str: ...


class WrongOffset(InvalidInput):
    """A piece does not begin where the upload has ended so far."""

    code = "wrong_offset"
    upload: Upload

    @classmethod
    def of(cls, upload: Upload) -> WrongOffset:
        """The error for an upload as it is."""
        error = cls(
            "The piece does not begin where the upload ends", evidence=f"it has {upload.offset} bytes", field="range"
        )
        error.upload = upload
        return error


@dataclass(eq=False, slots=True)
class Upload:
    """An unfinished upload of one blob."""

    id: str
    repository: Ref
    begun: datetime
    touched: datetime
    offset: int = 0
    """Bytes received."""
    hash: Hash | None = field(default_factory=hashlib.sha256)
    """SHA-256 of these; None if they have to be read again."""
    busy: bool = False


class Uploads:
    """Unfinished uploads in a directory. Each has an intent from before its file exists until its blob is recorded."""

    def __init__(
        self,
        *,
        host: Host,
        directory: Path,
        store: ContentStore,
        intents: Intents,
        limit: Callable[[], int],
        link: Link,
    ) -> None:
        self._host = host
        self._directory = directory
        self._store = store
        self._intents = intents
        self._limit = limit
        """Most bytes of all unfinished uploads together."""
        self._link = link
        self._open: dict[str, Upload] = {}

    async def open(self) -> None:
        """Continue the uploads of an earlier daemon."""
        if not await self._host.files.exists(self._directory):
            await self._host.files.make_directory(self._directory, mode=0o700)
        now = self._host.clock.now()
        for intent in self._intents.of_kind(_INTENT):
            id = intent.id.removeprefix(f"{_INTENT}-")
            begun = datetime.fromisoformat(intent.facts["begun"])
            home = Ref(intent.facts["project"], intent.facts["repository"])
            try:
                size = await self._host.files.size(self._path(id))
            except NotFound:
                size = 0
            self._open[id] = Upload(id, home, begun, now, size, hashlib.sha256() if size == 0 else None)
        await self.expire(now)

    async def begin(self, repository: Ref) -> Upload:
        """Raises Busy if there are too many."""
        now = self._host.clock.now()
        if len(self._open) >= _MOST:
            await self.expire(now)
        if len(self._open) >= _MOST:
            raise Busy(f"There are {_MOST} unfinished uploads already", remedy="finish or cancel some")
        upload = Upload(self._host.clock.token(16), repository, now, now)
        self._open[upload.id] = upload
        facts = {"project": repository.project, "repository": repository.name, "begun": now.isoformat()}
        try:
            await self._intents.begin(Intent(self._intent(upload), _INTENT, facts))
        except BaseException:
            del self._open[upload.id]
            raise
        return upload

    def get(self, repository: Ref, id: str) -> Upload:
        """Raises NotFound."""
        found = self._open.get(id)
        if found is None or found.repository != repository:
            raise NotFound("blob upload unknown to registry", field="upload")
        return found

    async def append(
        self, upload: Upload, blocks: AsyncIterator[bytes], *, start: int | None = None, size: int | None = None
    ) -> None:
        """Write a piece at the end. What arrived before a break stays, unless a ``size`` was announced.

        Raises WrongOffset unless the piece starts there, InvalidInput for another size, TooLarge, Busy.
        """
        self._take(upload)
        try:
            if start is not None and start != upload.offset:
                raise WrongOffset.of(upload)
            before = upload.offset
            await self._write_all(upload, blocks)
            if size is not None and upload.offset - before != size:
                received = upload.offset - before
                await self._truncate(upload, before)
                raise InvalidInput(
                    "The piece has another size than announced",
                    evidence=f"{received} bytes, expected {size}",
                    field="size",
                )
        except TooLarge:
            await self._remove(upload)
            raise
        finally:
            upload.busy = False
            upload.touched = self._host.clock.now()

    async def complete(self, upload: Upload, digest: str) -> RepositoryBlob:
        """Verify the content and make it a blob of the repository. Raises InvalidInput for another digest; then the
        upload is cancelled.
        """
        check_digest(digest)
        self._take(upload)
        try:
            found = await self._digest(upload, algorithm_of(digest))
            if found != digest:
                await self._remove(upload)
                raise InvalidInput(
                    "The content does not match its digest", evidence=f"{found}, expected {digest}", field="digest"
                )
            return await finish(self._store_blob(upload, digest))
        finally:
            upload.busy = False

    async def cancel(self, upload: Upload) -> None:
        """Drop what was received. Raises Busy while a piece is being written."""
        self._take(upload)
        await finish(self._remove(upload))

    async def discard(self, upload: Upload) -> None:
        """Drop it after a failure, if it is still there."""
        if upload.id in self._open:
            await finish(self._remove(upload))

    async def expire(self, now: datetime) -> None:
        """Drop those that were given up."""
        for upload in list(self._open.values()):
            if not upload.busy and (upload.touched < now - _IDLE or upload.begun < now - _LIFE):
                upload.busy = True
                log.info("An upload to %s that was given up is dropped", upload.repository)
                await self._remove(upload)

    async def drop_all(self, repository: Ref) -> None:
        """Drop the uploads to a repository that is being deleted."""
        for upload in [each for each in self._open.values() if each.repository == repository and not each.busy]:
            upload.busy = True
            await self._remove(upload)

    def _take(self, upload: Upload) -> None:
        if upload.busy:
            raise Busy("Another request writes to this upload", remedy="send the pieces one after the other")
        if upload.id not in self._open:
            raise NotFound("blob upload unknown to registry", field="upload")
        upload.busy = True

    async def _write_all(self, upload: Upload, blocks: AsyncIterator[bytes]) -> None:
        """Gather a MiB while the one before is written and hashed."""
        gathered, writing = bytearray(), None
        try:
            async for block in blocks:
                gathered += block
                if len(gathered) >= _BLOCK:
                    if writing is not None:
                        await writing
                    writing = asyncio.ensure_future(self._write(upload, bytes(gathered)))
                    gathered = bytearray()
        finally:
            # What has arrived before a break is kept too: a client can go on after it.
            if writing is not None:
                await writing
            await self._write(upload, bytes(gathered))

    async def _write(self, upload: Upload, block: bytes) -> None:
        self._check_room(len(block))
        hashing = in_thread(upload.hash.update, block) if upload.hash is not None and block else _nothing()
        hash, upload.hash = upload.hash, None  # incomplete until both are done
        await asyncio.gather(self._host.files.extend(self._path(upload.id), block, at=upload.offset), hashing)
        upload.hash = hash
        upload.offset += len(block)

    async def _truncate(self, upload: Upload, size: int) -> None:
        upload.hash = None
        await self._host.files.extend(self._path(upload.id), b"", at=size)
        upload.offset = size

    def _check_room(self, more: int) -> None:
        limit = self._limit()
        if sum(upload.offset for upload in self._open.values()) + more > limit:
            raise TooLarge(
                "The unfinished uploads are too large together",
                evidence=f"the limit is {limit} bytes",
                field="size",
                remedy="see registry.upload_limit in the configuration of the server",
            )

    async def _digest(self, upload: Upload, algorithm: str) -> str:
        if upload.hash is not None and algorithm == SHA256:
            return f"{SHA256}:{upload.hash.hexdigest()}"
        if upload.offset == 0:
            return f"{algorithm}:{hashlib.new(algorithm).hexdigest()}"
        found, _ = await self._host.files.digest(self._path(upload.id), algorithm=algorithm)
        return f"{algorithm}:{found}"

    async def _store_blob(self, upload: Upload, digest: str) -> RepositoryBlob:
        path = self._path(upload.id)
        if upload.offset == 0:
            await self._host.files.extend(path, b"", at=0)
        await self._host.files.flush(path)
        intake = self._store.intake()
        blob = RepositoryBlob(
            upload.repository.name, digest, upload.offset, self._host.clock.now(), upload.repository.project
        )
        try:
            await intake.put_verified(path, Descriptor(_BYTES, digest, upload.offset))
            self._open.pop(upload.id, None)
            await self._link(blob)
            await self._intents.end(self._intent(upload))
            await intake.recorded()
        except BaseException:
            await self._remove(upload)
            raise
        finally:
            intake.close()
        return blob

    async def _remove(self, upload: Upload) -> None:
        self._open.pop(upload.id, None)
        await self._host.files.remove_tree(self._path(upload.id))
        await self._intents.end(self._intent(upload))

    def _path(self, id: str) -> Path:
        return self._directory / id

    def _intent(self, upload: Upload) -> str:
        return f"{_INTENT}-{upload.id}"


async def _nothing() -> None:
    pass
