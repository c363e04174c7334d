"""Content-addressed blobs in OCI image layout: written whole or not at all, verified on the way in, never changed."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Sequence
from pathlib import Path

import orjson

from isola.errors import InvalidInput
from isola.host import Host
from isola.images.manifest import INDEX_TYPE, Descriptor

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}", re.ASCII)
_BYTES = "application/octet-stream"


def check_digest(digest: str) -> str:
    """The digest, if it is a SHA-256 in OCI's writing: fit for a path. Raises InvalidInput."""
    if not _DIGEST.fullmatch(digest):
        raise InvalidInput(
            f"Invalid digest {digest[:80]!r}", field="digest", remedy="sha256:<64 hex digits> is expected"
        )
    return digest


class ContentStore:
    """Blobs by digest below ``directory``, which other OCI tools can read as it stands.

    What may go is derived, never counted: ``sweep`` removes what nobody names. It may be interrupted at any moment, and
    leaves alone what an open ``Intake`` has brought in.
    """

    def __init__(self, host: Host, directory: Path) -> None:
        self.host = host
        self.directory = directory
        self.scratch = directory / "scratch"
        """Half-made files; emptied by ``open``. On the same file system as the blobs."""
        self._blobs = directory / "blobs" / "sha256"
        self._changing = asyncio.Lock()
        self._sweeping = asyncio.Lock()
        self._held: Counter[str] = Counter()
        self._taken_since: set[str] = set()

    async def open(self) -> None:
        """Make the layout where it is missing, and throw away what a daemon that died was about to write."""
        files = self.host.files
        await files.remove_tree(self.scratch)
        await files.make_directory(self.scratch, mode=0o700)
        await files.make_directory(self._blobs)
        await files.flush(self._blobs, self._blobs.parent, self.directory)
        await files.write(self.directory / "oci-layout", b'{"imageLayoutVersion":"1.0.0"}', mode=0o644, durable=False)
        if not await files.exists(self.directory / "index.json"):
            await self.write_index([])

    def path(self, digest: str) -> Path:
        """Where a blob lies, or would lie. Raises InvalidInput for what is not a digest."""
        return self._blobs / check_digest(digest).removeprefix("sha256:")

    async def has(self, digest: str) -> bool:
        """Whether the blob is there."""
        return await self.host.files.exists(self.path(digest))

    async def read(self, digest: str) -> bytes:
        """A small blob (manifest, configuration) whole. Raises NotFound."""
        return await self.host.files.read(self.path(digest))

    async def digests(self) -> tuple[str, ...]:
        """All blobs."""
        names = [f"sha256:{name}" for name in await self.host.files.names(self._blobs)]
        return tuple(name for name in names if _DIGEST.fullmatch(name))

    def intake(self) -> Intake:
        """Begin to bring blobs in."""
        return Intake(self)

    async def write_index(self, entries: Sequence[Descriptor]) -> None:
        """Say in ``index.json`` which manifests there are, for other tools; we find ours through the records."""
        manifests = [entry.document() for entry in entries]
        index = {"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": manifests}
        data = orjson.dumps(index, option=orjson.OPT_INDENT_2)
        await self.host.files.write(self.directory / "index.json", data, mode=0o644, durable=False)

    async def sweep(self, named: Callable[[], Awaitable[Collection[str]]]) -> int:
        """Remove the blobs that are neither in ``named()`` nor held by an intake; returns how many went."""
        async with self._sweeping:
            self._taken_since = set(self._held)
            candidates = set(await self.digests()) - self._taken_since
            candidates -= set(await named())
            removed = 0
            for digest in sorted(candidates):
                async with self._changing:
                    # Brought in since we looked: whoever did so relies on it, even if his intake is closed by now.
                    if digest not in self._taken_since:
                        await self.host.files.remove_tree(self.path(digest))
                        removed += 1
            return removed

    def hold(self, digest: str) -> None:
        """Keep a blob, there or soon to be there, from the sweep until ``release``."""
        self._held[digest] += 1
        self._taken_since.add(digest)

    async def settle(self, digest: str, temporary: Path) -> None:
        """Make a temporary file the blob of a digest that is held, unless it is there already."""
        async with self._changing:
            if await self.has(digest):
                await self.host.files.remove_tree(temporary)
            else:
                await self.host.files.rename(temporary, self.path(digest))

    def release(self, digests: Collection[str]) -> None:
        """Undo ``hold``."""
        self._held.subtract(digests)
        self._held += Counter()  # drops what is at zero


class Intake:
    """Blobs on their way in: safe from the sweep until it is closed, whatever the records say meanwhile."""

    def __init__(self, store: ContentStore) -> None:
        self._store = store
        self._digests: list[str] = []

    async def put_file(self, source: Path, *, consume: bool = False, expected: str | None = None) -> Descriptor:
        """Bring a file in. Raises InvalidInput where its digest is not what was ``expected``.

        With ``consume`` the file itself becomes the blob; fsynced, and on the store's file system.
        """
        files = self._store.host.files
        temporary = source if consume else self._temporary()
        if not consume:
            await files.duplicate(source, temporary)
        # What is hashed is what will be the blob, whatever happens to the source meanwhile.
        found, size = await files.digest(temporary)
        digest = f"sha256:{found}"
        if expected is not None and digest != expected:
            await files.remove_tree(temporary)
            raise _mismatch(digest, expected)
        await self._take(digest, temporary)
        return Descriptor(_BYTES, digest, size)

    async def put_bytes(self, data: bytes, media_type: str, *, expected: str | None = None) -> Descriptor:
        """Bring a small document in."""
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        if expected is not None and digest != expected:
            raise _mismatch(digest, expected)
        temporary = self._temporary()
        await self._store.host.files.write(temporary, data)
        await self._take(digest, temporary)
        return Descriptor(media_type, digest, len(data))

    def close(self) -> None:
        """From now on only what the records name is kept. Closing twice is fine."""
        self._store.release(self._digests)
        self._digests = []

    def _temporary(self) -> Path:
        return self._store.scratch / f"blob-{self._store.host.clock.token(8)}"

    async def _take(self, digest: str, temporary: Path) -> None:
        self._store.hold(digest)
        self._digests.append(digest)
        try:
            await self._store.settle(digest, temporary)
        except BaseException:
            await self._store.host.files.remove_tree(temporary)
            raise


def _mismatch(digest: str, expected: str) -> InvalidInput:
    return InvalidInput(
        "The content does not have the digest it should have",
        evidence=f"{digest} instead of {expected}",
        field="digest",
        remedy="it was damaged on the way: send it again",
    )
