"""ADD of files that are archives, or that only begin like one."""

from __future__ import annotations

import gzip
import io
import lzma
import tarfile
from collections.abc import AsyncIterator, Callable, Mapping

import pytest

from isola.builds.exporting import Export
from isola.errors import InvalidInput, UnsafeArchive
from isola.model.build import BuildRequest, Output
from isola.testing.parts import World


def tar_with(files: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


async def added(world: World, content: bytes) -> Mapping[str, bytes]:
    """The files of the result."""
    found = dict[str, bytes]()

    async def context() -> AsyncIterator[bytes]:
        yield tar_with({"Dockerfile": b"FROM scratch\nADD it /a/\n", "it": content})

    async def deliver(export: Export) -> None:
        data = b"".join([block async for block in export.blocks()])
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:
            found.update({each.name: file.read() for each in archive if (file := archive.extractfile(each))})

    builds = world.parts.services.builds
    operation = builds.start(
        BuildRequest(output=Output.FILES), await builds.receive(context()), lambda event: None, deliver=deliver
    )
    await world.context.operations.finish(operation)
    return found


@pytest.mark.parametrize(
    "content",
    [
        gzip.compress(b"notes"),
        gzip.compress(b""),
        gzip.compress(lzma.compress(tar_with({"f": b"1"}))),
        lzma.compress(tar_with({"f": b"1"}))[:40],
        b"\xfd7zXZ\x00 and no more",
        bytes(257) + b"ustar" + bytes(250),
    ],
    ids=["one file", "nothing", "packed twice", "cut off", "beginning", "a word"],
)
async def test_what_only_begins_like_an_archive_is_copied(world: World, content: bytes) -> None:
    assert await added(world, content) == {"a/it": content}


@pytest.mark.parametrize("pack", [bytes, gzip.compress, lzma.compress])
async def test_an_archive_is_unpacked(world: World, pack: Callable[[bytes], bytes]) -> None:
    assert await added(world, pack(tar_with({"f": b"1", "d/g": b"2"}))) == {"a/f": b"1", "a/d/g": b"2"}


async def test_a_damaged_archive_is_refused(world: World) -> None:
    """Its first file could be read."""
    with pytest.raises(InvalidInput, match="ADD failed: The archive is truncated"):
        await added(world, tar_with({"f": b"1", "g": bytes(5000)})[:3000])


async def test_an_archive_that_leads_out_is_refused(world: World) -> None:
    with pytest.raises(UnsafeArchive, match=r"^ADD failed: .* leads out of its root") as refused:
        await added(world, tar_with({"../f": b"1"}))
    assert refused.value.code == "unsafe_archive"
