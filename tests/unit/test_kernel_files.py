"""The format of a kernel is read from its headers, and nothing that contradicts itself is accepted."""

import contextlib
import random
from collections.abc import Awaitable, Callable

import kernels
import pytest

from isola.errors import InvalidInput, IsolaError, Unsupported
from isola.model.kernel_file import HEAD, LARGEST, Format, examine, headers


def reading(data: bytes) -> Callable[[int, int], Awaitable[bytes]]:
    async def read(offset: int, size: int) -> bytes:
        return data[offset : offset + min(size, HEAD)]

    return read


async def format_of(data: bytes) -> Format | None:
    return (await examine(reading(data), len(data))).format


@pytest.mark.parametrize(
    ("data", "format"),
    [
        (kernels.multiboot(), Format.MULTIBOOT),
        (b"\0" * 4096 + kernels.multiboot(header=kernels.LOADED_AT + 4096), Format.MULTIBOOT),
        (kernels.pvh(), Format.PVH),
        (kernels.bzimage(), Format.BZIMAGE),
    ],
)
async def test_the_format_is_told(data: bytes, format: Format) -> None:
    assert await format_of(data) is format


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "has 0 bytes"),
        (b"#!/bin/sh\n" + bytes(600), "neither an ELF file"),
        (kernels.multiboot()[:40].replace(b"\x02\xb0\xad\x1b", b"\x03\xb0\xad\x1b"), "neither an ELF file"),
        (kernels.multiboot()[:20], "ends within its multiboot header"),
        (kernels.multiboot(flags=0), "without load addresses"),
        (kernels.multiboot(load=kernels.LOADED_AT + 4), "outside of the file"),
        (kernels.multiboot(load_end=0xFFFFFFFF), "outside of the file"),
        (kernels.multiboot(entry=0x10), "entry point outside"),
        (kernels.pvh(note=b"GNU\0"), "without an entry point of PVH"),
        (kernels.pvh(offset=1 << 40), "after the end of the file"),
        (kernels.pvh(memory=1), "larger than its place"),
        (kernels.pvh(physical=5 << 30), "above 4 GiB"),
        (kernels.pvh(kind=2), "nothing that is loaded"),
        (kernels.pvh()[:60], "ends within its ELF header"),
        (kernels.pvh()[:100], "table of segments"),
        (kernels.bzimage()[:0x210], "ends within its setup header"),
        (kernels.bzimage(version=0x100), "unknown protocol"),
        (kernels.bzimage(sectors=255), "ends within its setup code"),
    ],
)
async def test_what_contradicts_itself_is_refused(data: bytes, says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        await format_of(data)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (kernels.pvh(machine=183), "another processor"),
        (kernels.bzimage(flags=0), "zImage"),
        (b"\x1f\x8b" + bytes(600), "gzip"),
        (b"MZ" + bytes(600), "EFI"),
        (bytes(8) + (0xE85250D6).to_bytes(4, "little") + bytes(600), "multiboot 2"),
        (kernels.pvh() + bytes(-len(kernels.pvh()) % 4) + kernels.multiboot(), "64-bit ELF"),
    ],
)
async def test_other_kernels_are_named(data: bytes, says: str) -> None:
    with pytest.raises(Unsupported, match=says) as refused:
        await format_of(data)
    assert refused.value.remedy


def test_a_file_may_not_be_larger_than_the_limit() -> None:
    with pytest.raises(InvalidInput, match=str(LARGEST)):
        headers(kernels.pvh(), LARGEST + 1)


async def test_damaged_kernels_are_refused_with_an_error_of_ours() -> None:
    dice = random.Random(7)
    for whole in (kernels.multiboot(), kernels.pvh(), kernels.bzimage(size=0x300)):
        for _ in range(400):
            damaged = bytearray(whole[: dice.randrange(1, len(whole) + 1)])
            for _ in range(dice.randrange(1, 6)):
                damaged[dice.randrange(len(damaged))] = dice.randrange(256)
            with contextlib.suppress(IsolaError):
                assert await format_of(bytes(damaged)) is not None
