"""Members of archives in the fake file system, by their places."""

from __future__ import annotations

import hashlib
import io
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

from isola.errors import AlreadyExists, InvalidInput
from isola.host.archive.archives import UnpackLimits
from isola.host.archive.formats import compression
from isola.host.archive.member_list import Listing, member_of
from isola.host.archive.members import ArchiveIndex, ArchiveMember
from isola.host.archive.packed import Unpacked, unpacked
from isola.testing.files import FakeFiles

_LIMITS = UnpackLimits()


class FakeMembers:
    """What of the archives is about single members."""

    files: FakeFiles

    async def first_names(self, source: Path, count: int = 1) -> Sequence[str]:
        listing = Listing(None, most=count)
        listing.run(_content(await self.files.read(source), _LIMITS), only=count)
        return [member_of(each).name for each in listing.members]

    async def list_members(
        self,
        source: Path,
        plain: Path,
        *,
        most: int = 20_000,
        limits: UnpackLimits = _LIMITS,
        progress: Callable[[int], None] | None = None,
    ) -> ArchiveIndex:
        data = await self.files.read(source)
        copied = compression(data[:8]) != ""
        if copied and await self.files.exists(plain):
            raise AlreadyExists(f"{plain} exists already")
        buffer = io.BytesIO()
        listing = Listing(buffer, most=most)
        listing.run(_content(data, limits))
        if copied:
            await self.files.copy(io.BytesIO(buffer.getvalue()), plain)
        if progress is not None:
            progress(len(data))
        return ArchiveIndex(plain if copied else source, [member_of(each) for each in listing.members])

    async def receive(
        self, blocks: AsyncIterator[bytes], directory: Path, *, most: int = 20_000, limits: UnpackLimits = _LIMITS
    ) -> ArchiveIndex:
        data = b"".join([block async for block in blocks])
        await self.files.copy(io.BytesIO(data), directory / "whole")
        return await self.list_members(directory / "whole", directory / "plain", most=most, limits=limits)

    async def content(self, index: ArchiveIndex, member: ArchiveMember, limit: int) -> bytes:
        data = (await self.files.read(index.file))[member.offset :][: min(limit, member.size)]
        if len(data) != min(limit, member.size):
            raise InvalidInput("The archive is truncated")
        return data

    async def extract(self, index: ArchiveIndex, member: ArchiveMember, target: Path) -> str:
        data = await self.content(index, member, member.size)
        if await self.files.exists(target):
            raise AlreadyExists(f"{target} exists already")
        await self.files.copy(io.BytesIO(data), target)
        return f"sha256:{hashlib.sha256(data).hexdigest()}"


def _content(data: bytes, limits: UnpackLimits) -> Unpacked:
    blocks = unpacked(io.BytesIO(data), compression(data[:8]))
    return Unpacked(blocks, lambda: len(data), limit=2 * limits.bytes + (1 << 30), ratio=limits.ratio)
