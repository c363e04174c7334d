"""Content-addressed blobs in OCI image layout: written atomically, verified, never changed."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import orjson

from isola.errors import HostFailure, InvalidInput, IsolaError, NotFound
from isola.host import Host
from isola.images.descriptor import (
    INDEX_TYPE,
    SHA256,
    Descriptor,
    algorithm_of,
    check_digest,
    digest_of,
    is_digest,
)
from isola.images.downloads import Downloads, Progress
from isola.images.hostile_json import MAX_DOCUMENT
from isola.images.ownership import Owned, anything
from isola.images.partial import Partials
from isola.images.remote import BlobSource
from isola.state import Intent, Intents

_BYTES = "application/octet-stream"
LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'
"""Content of ``oci-layout``."""
_INTENT = "blobs"
log = logging.getLogger(__name__)


class ContentStore:
    """Blobs by digest below ``directory``, an OCI image layout that other tools can read.

    There are no reference counts. Intents record which blobs were added or released; ``sweep`` removes those that
    no image needs. It may be interrupted at any moment, and keeps the blobs of an open ``Intake``.
    """

    def __init__(self, host: Host, directory: Path, intents: Intents) -> None:
        self.host = host
        self.intents = intents
        self.directory = directory
        self.scratch = directory / "scratch"
        """Temporary files, on the same file system as the blobs; emptied by ``open``."""
        self._blobs = directory / "blobs"
        self._partials = Partials(host, directory / "partial", intents)
        self.downloads = Downloads(host, self._partials, self.move_in)
        self._changing = asyncio.Lock()
        self._sweeping = asyncio.Lock()
        self._held: Counter[str] = Counter()
        self._added_since_sweep: set[str] = set()

    async def open(self) -> None:
        """Create the layout if it is missing, and delete temporary files of a previous daemon."""
        files = self.host.files
        for name in await files.names(self.scratch):
            await files.remove_tree(self.scratch / name)
        # Existing files are not rewritten: the daemon must start on a full disk too, so that things can be deleted.
        if not await files.exists(self.directory / "oci-layout"):
            await files.make_directory(self.scratch, mode=0o700)
            await files.make_directory(self._blobs / SHA256)
            await files.flush(self._blobs / SHA256, self._blobs, self.directory)
            await files.write(self.directory / "oci-layout", LAYOUT, mode=0o644, durable=False)
        if not await files.exists(self.directory / "index.json"):
            await self.write_index([])
        try:
            await self._partials.open()
        except HostFailure as error:
            log.warning("Cannot remove old partial downloads now: %s", error)

    def path(self, digest: str) -> Path:
        """The path of a blob, existing or not. Raises InvalidInput for an invalid digest."""
        algorithm, _, name = check_digest(digest).partition(":")
        return self._blobs / algorithm / name

    def note(self, digest: str) -> Path:
        """The path of the file that has the diff id of a layer; removed with its blob."""
        return self.directory / "diff-ids" / check_digest(digest).replace(":", "-")

    async def has(self, digest: str) -> bool:
        """Whether the blob exists."""
        return await self.host.files.exists(self.path(digest))

    async def read(self, digest: str) -> bytes:
        """Read a small blob (manifest, configuration), at most one byte more than the largest size. Raises NotFound."""
        return await self.host.files.read(self.path(digest), MAX_DOCUMENT + 1)

    async def digests(self) -> tuple[str, ...]:
        """All blobs."""
        found = [
            f"{algorithm}:{name}"
            for algorithm in await self.host.files.names(self._blobs)
            for name in await self.host.files.names(self._blobs / algorithm)
        ]
        return tuple(digest for digest in found if is_digest(digest))

    def intake(self, owned: Owned = anything, project: str = "") -> Intake:
        """Open an intake, which adds blobs for a project. What is not ``owned`` has to be sent, though it is here."""
        return Intake(self, owned, project)

    async def write_index(self, entries: Sequence[Descriptor]) -> None:
        """Write the manifests to ``index.json``, for other tools; Isola itself uses the records."""
        manifests = [entry.document() for entry in entries]
        index = {"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": manifests}
        data = orjson.dumps(index, option=orjson.OPT_INDENT_2)
        with suppress(NotFound):
            if await self.host.files.read(self.directory / "index.json") == data:
                return
        await self.host.files.write(self.directory / "index.json", data, mode=0o644, durable=False)

    async def mark_removable(self, digests: Collection[str]) -> None:
        """Record that a sweep may remove these blobs once no image needs them. Durable across restarts."""
        intent = Intent(f"{_INTENT}-{self.host.clock.token(8)}", _INTENT, digests=tuple(digests))
        await self.intents.begin(intent)

    async def unreferenced(self, named: Collection[str]) -> tuple[str, ...]:
        """Blobs that belong to no record, intent or intake."""
        referenced = {*named, *self._held, *(d for each in self.intents.of_kind(_INTENT) for d in each.digests)}
        return tuple(digest for digest in await self.digests() if digest not in referenced)

    async def sweep(
        self, named: Callable[[], Awaitable[Collection[str]]], needed: Collection[str] = frozenset()
    ) -> int:
        """Remove released blobs that are not in ``named()``, not ``needed`` and not held; returns their number.

        A later sweep removes those that were ``needed``.
        """
        async with self._sweeping:
            self._added_since_sweep = set(self._held)
            intents = [intent for intent in self.intents.of_kind(_INTENT) if not self._held_any(intent)]
            candidates = {digest for intent in intents for digest in intent.digests} - self._added_since_sweep
            if not candidates:
                return 0
            candidates &= set(await self.digests())
            candidates -= {*await named(), *needed}
            left = set(needed)
            for digest in sorted(candidates):
                async with self._changing:
                    # Added again since the check: the importer relies on it, even if its intake is already closed.
                    if digest in self._added_since_sweep:
                        left.add(digest)
                    else:
                        await self.host.files.remove_tree(self.path(digest))
                        await self.host.files.remove_tree(self.note(digest))
            if candidates - left:
                await self.host.files.flush(*sorted({self.path(digest).parent for digest in candidates - left}))
            await self.intents.end(
                *(each.id for each in intents if not self._held_any(each) and not left & {*each.digests})
            )
            return len(candidates - left)

    def _held_any(self, intent: Intent) -> bool:
        return any(digest in self._held for digest in intent.digests)

    def hold(self, digest: str) -> None:
        """Protect a blob, existing or to be added, from the sweep until ``release``."""
        self._held[digest] += 1
        self._added_since_sweep.add(digest)

    async def stays(self, digest: str) -> bool:
        """Whether a held blob exists. A sweep that has decided before it was held ends first."""
        async with self._changing:
            return await self.has(digest)

    async def move_in(self, digest: str, temporary: Path) -> None:
        """Move a temporary file to the path of a held blob, unless that exists already."""
        async with self._changing:
            if await self.has(digest):
                await self.host.files.remove_tree(temporary)
            else:
                await self._make_place(algorithm_of(digest))
                await self.host.files.rename(temporary, self.path(digest))

    async def _make_place(self, algorithm: str) -> None:
        if algorithm != SHA256 and not await self.host.files.exists(self._blobs / algorithm):
            await self.host.files.make_directory(self._blobs / algorithm)
            await self.host.files.flush(self._blobs)

    @contextmanager
    def holding(self, digests: Collection[str]) -> Iterator[None]:
        """Protect blobs from the sweep; marks that are made meanwhile stay for the next one."""
        for digest in digests:
            self.hold(digest)
        try:
            yield
        finally:
            self.release(digests)

    def release(self, digests: Collection[str]) -> None:
        """Undo ``hold``."""
        self._held.subtract(digests)
        self._held += Counter()  # drops zero counts


class Intake:
    """Adds blobs, and protects them from the sweep until it is closed."""

    def __init__(self, store: ContentStore, owned: Owned, project: str) -> None:
        self._store = store
        self._owned = owned
        self._project = project
        self._sent: set[str] = set()
        self._digests: list[str] = []
        self._intent = Intent(f"{_INTENT}-{store.host.clock.token(8)}", _INTENT)

    async def put_file(self, source: Path, *, consume: bool = False, expected: str | None = None) -> Descriptor:
        """Add a file. Raises InvalidInput if its digest is not the ``expected`` one.

        With ``consume`` the file itself becomes the blob: it must be fsynced, and on the store's file system.
        """
        files = self._store.host.files
        temporary = source if consume else self._temporary()
        if not consume:
            await files.duplicate(source, temporary)
        # Hash the private copy, since the source may change meanwhile.
        algorithm = algorithm_of(expected) if expected is not None else SHA256
        found, size = await files.digest(temporary, algorithm=algorithm)
        digest = f"{algorithm}:{found}"
        if expected is not None and digest != expected:
            await files.remove_tree(temporary)
            raise _mismatch(digest, expected)
        await self._take(digest, temporary)
        return Descriptor(_BYTES, digest, size)

    async def put_bytes(self, data: bytes, media_type: str, *, expected: str | None = None) -> Descriptor:
        """Add a small document."""
        digest = digest_of(data, algorithm_of(expected) if expected is not None else SHA256)
        if expected is not None and digest != expected:
            raise _mismatch(digest, expected)
        self._sent.add(digest)
        if not await self._claim(digest):
            temporary = self._temporary()
            try:
                await self._store.host.files.write(temporary, data)
                await self._store.move_in(digest, temporary)
            except BaseException:
                await self._store.host.files.remove_tree(temporary)
                raise
        return Descriptor(media_type, digest, len(data))

    async def fetch(self, blob: Descriptor, source: BlobSource, progress: Progress = lambda done: None) -> Descriptor:
        """Download a blob, shared with concurrent callers of the project. Raises the errors of ``Downloads.fetch``."""
        if await self._claim(check_digest(blob.digest)) and self._may_use(blob.digest):
            progress(blob.size)
        else:
            await self._store.downloads.fetch(blob, source, progress, self._project)
            self._sent.add(blob.digest)
        return blob

    async def put_verified(self, source: Path, blob: Descriptor) -> Descriptor:
        """Make a file the blob. The caller has computed this digest from its content, and fsynced it."""
        await self._take(check_digest(blob.digest), source)
        return blob

    async def keep(self, digest: str) -> None:
        """Protect a blob that is to stay, existing or not."""
        if digest not in self._digests:
            await self._claim(check_digest(digest))

    async def holds(self, digest: str) -> bool:
        """Whether the store has this blob already, and the project may use it without sending it."""
        return self._may_use(digest) and await self._store.has(digest)

    async def read(self, digest: str) -> bytes:
        """``ContentStore.read``."""
        return await self._store.read(digest)

    async def recorded(self) -> None:
        """A record now refers to all of its blobs."""
        try:
            await self._store.intents.end(self._intent.id)
        except IsolaError as error:
            log.warning("The intents of a complete image are left to the next sweep: %s", error)

    def close(self) -> None:
        """End the protection: only blobs that records need are kept. May be called twice."""
        self._store.release(self._digests)
        self._digests = []

    def _may_use(self, digest: str) -> bool:
        return digest in self._sent or self._owned(digest)

    def _temporary(self) -> Path:
        return self._store.scratch / f"blob-{self._store.host.clock.token(8)}"

    async def _claim(self, digest: str) -> bool:
        """Protect a blob, existing or to be added, from the sweep; returns whether it exists, and then it stays."""
        self._store.hold(digest)
        self._digests.append(digest)
        if await self._store.stays(digest):
            return True
        # The intent comes first, since the sweep never removes blobs without one.
        self._intent = replace(self._intent, digests=(*self._intent.digests, digest))
        await self._store.intents.begin(self._intent)
        return False

    async def _take(self, digest: str, temporary: Path) -> None:
        try:
            await self._claim(digest)
            await self._store.move_in(digest, temporary)
        except BaseException:
            await self._store.host.files.remove_tree(temporary)
            raise
        self._sent.add(digest)


def _mismatch(digest: str, expected: str) -> InvalidInput:
    return InvalidInput(
        "The content does not match its digest",
        evidence=f"{digest}, expected {expected}",
        field="digest",
        remedy="it was damaged in transfer: send it again",
    )
