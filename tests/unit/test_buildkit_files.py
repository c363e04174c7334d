"""Files of a client by its session: what becomes an archive, and clients that lie."""

from __future__ import annotations

import io
import tarfile
from collections.abc import AsyncIterator

import pytest
from buildkit_client import Files, file_stat, files_of, session

from isola.doors.docker.buildkit.calls import Call, Failure
from isola.doors.docker.buildkit.files import Wanted, archive, small_files
from isola.doors.docker.buildkit.sessions import Session
from isola.doors.docker.buildkit.wire import message
from isola.errors import TooLarge

COPY = "/moby.filesync.v1.FileSync/DiffCopy"
DIRECTORY, LINK, PIPE, SETUID, DEVICE = 1 << 31, 1 << 27, 1 << 25, 1 << 23, 1 << 26


async def unpacked(session: Session, wanted: Wanted) -> dict[str, tuple[tarfile.TarInfo, bytes]]:
    data = b"".join([block async for block in archive(session, wanted)]) + bytes(1024)
    with tarfile.open(fileobj=io.BytesIO(data)) as found:
        infos = {}
        for info in found:
            file = found.extractfile(info) if info.isreg() else None
            infos[info.name] = (info, file.read() if file else b"")
        return infos


async def test_all_kinds_of_files_become_an_archive() -> None:
    large = bytes(range(256)) * 3000
    listed = [
        (file_stat("a", mode=DIRECTORY | 0o755), b""),
        (file_stat("a/large", large), large),
        (file_stat("a/link", mode=LINK | 0o777, link="../x"), b""),
        (file_stat("device", mode=DEVICE | 0o600), b""),
        (file_stat("hard", mode=0o644, link="a/large"), b""),
        (file_stat("pipe", mode=PIPE | 0o600), b""),
        (file_stat("tool", b"#!", mode=SETUID | 0o755), b"#!"),
        (file_stat("z" * 300 + "ü"), b""),
        *((file_stat(f"small{each:03}", b"%d" % each), b"%d" % each) for each in range(300)),
    ]
    async with session(Files({"context": listed}).methods) as made:
        found = await unpacked(made, Wanted("context"))
    info = {name: each for name, (each, _) in found.items()}
    assert info["a"].isdir() and info["a/link"].linkname == "../x" and info["hard"].linkname == "a/large"
    assert found["a/large"][1] == large
    assert info["pipe"].isfifo() and info["tool"].mode == 0o4755 and "device" not in found
    assert info["z" * 300 + "ü"].size == 0 and info["tool"].mtime == 10**9
    assert [found[f"small{each:03}"][1] for each in range(300)] == [b"%d" % each for each in range(300)]


async def test_patterns_are_sent_as_the_client_reads_them() -> None:
    files = Files({"context": []})
    async with session(files.methods) as made:
        await unpacked(made, Wanted("context", include=("a b",), exclude=("*.log", "!ü x")))
    (asked,) = files.asked
    assert asked["include-patterns"] == ["a b"] and "include-patterns-encoded" not in asked
    assert asked["exclude-patterns"] == ["%2A.log", "%21%C3%BC+x"] and asked["exclude-patterns-encoded"] == ["1"]


async def test_a_dockerfile_has_a_size() -> None:
    async with session(Files({"dockerfile": files_of(Dockerfile="x" * 100)}).methods) as made:
        assert await small_files(made, Wanted("dockerfile"), 100) == {"Dockerfile": b"x" * 100}
        with pytest.raises(TooLarge):
            await small_files(made, Wanted("dockerfile"), 99)


@pytest.mark.parametrize("path", ["", "/etc/passwd", "../x", "a/../../x", "a//b", "a/./b", ".."])
async def test_paths_that_lead_elsewhere_are_refused(path: str) -> None:
    async with session(Files({"context": [(file_stat(path or "\0"), b"")]}).methods) as made:
        with pytest.raises(Failure, match="names a file"):
            await unpacked(made, Wanted("context"))


@pytest.mark.parametrize("size", [1, 3, 10**6])
async def test_content_of_another_size_is_refused(size: int) -> None:
    async with session(Files({"context": [(file_stat("f", size=size), b"12")]}).methods) as made:
        with pytest.raises(Failure, match="has changed while it was sent"):
            await unpacked(made, Wanted("context"))


@pytest.mark.parametrize(
    ("packets", "why"),
    [
        ([{1: 2, 3: 0, 4: b"x"}], "before it has listed"),
        ([{1: 4, 4: b"cannot read"}], "cannot read"),
        ([{2: file_stat("f", b"1")}, {}, {1: 2, 3: 7, 4: b"x"}], "was not asked for"),
        ([{2: file_stat("f", b"1")}, {}], "ended the transfer"),
        ([{2: b"\x0a\xff"}], "malformed"),
    ],
)
async def test_clients_that_do_not_keep_to_the_protocol(packets: list[dict[int, bytes]], why: str) -> None:
    async def copy(call: Call) -> AsyncIterator[bytes]:
        for packet in packets:
            yield message(packet)

    async with session({COPY: copy}) as made:
        with pytest.raises((Failure, ValueError), match=why):
            await unpacked(made, Wanted("context"))
