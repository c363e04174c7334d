"""Results that go to clients of BuildKit: files one by one, archives, and clients that lie or stop."""

from __future__ import annotations

import io
import tarfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import pytest
from buildkit_client import FINISHED, REQUEST, Files, file_stat, session

from isola.doors.docker.buildkit.calls import Call, Failure, Method
from isola.doors.docker.buildkit.files import Wanted, archive
from isola.doors.docker.buildkit.http2 import Link
from isola.doors.docker.buildkit.outputs import outputs_of
from isola.doors.docker.buildkit.sending import METHOD, send_archive, send_files
from isola.doors.docker.buildkit.wire import Message, message
from isola.errors import HostFailure, InvalidInput, Unsupported
from isola.host.roots import Entry


class Root:
    """A tree: directories end with a slash, links have their target after an arrow."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self.files = files

    async def entries(self, path: str) -> AsyncIterator[tuple[tuple[str, Entry], ...]]:
        start = f"{path.strip('/')}/".lstrip("/")
        inside = [name.removeprefix(start) for name in self.files if name.startswith(start) and name != start]
        return self._one([name for name in inside if "/" not in name.rstrip("/")], start)

    async def _one(self, names: list[str], start: str) -> AsyncIterator[tuple[tuple[str, Entry], ...]]:
        for name in names:
            data = self.files[start + name]
            if name.endswith("/"):
                yield ((name[:-1], Entry("directory", 0o1777, 0, 0, 4096)),)
            elif data.startswith(b"->"):
                yield ((name, Entry("symlink", 0o777, 0, 0, 3, data[2:].decode())),)
            else:
                yield ((name, Entry("other" if data == b"device" else "file", 0o4755, 5, 6, len(data), modified=7)),)

    async def read(self, path: str) -> AsyncIterator[bytes]:
        async def blocks() -> AsyncIterator[bytes]:
            data = self.files[path.lstrip("/")]
            for start in range(0, len(data), 1 << 18):
                yield data[start : start + (1 << 18)]

        return blocks()


class Result:
    """In place of an export."""

    def __init__(self, files: Mapping[str, bytes] | None) -> None:
        self.root = None if files is None else Root(files)

    async def blocks(self) -> AsyncIterator[bytes]:
        yield b"x" * 100_000
        yield b"end"

    @asynccontextmanager
    async def tree(self) -> AsyncIterator[Root | None]:
        yield self.root


class Counted:
    """A connection that counts what is written to it."""

    count = 0

    def __init__(self, link: Link) -> None:
        self.link = link

    async def read(self, size: int) -> bytes:
        return await self.link.read(size)

    async def write(self, data: bytes) -> None:
        self.count += 1
        await self.link.write(data)


async def test_many_files_go_together_both_ways() -> None:
    tree = {"d/": b"", **{f"d/{number:03}": b"%d" % number for number in range(500)}, "large": b"x" * 200_000}
    found = [(file_stat(name, data), data) for name, data in sorted(tree.items()) if not name.endswith("/")]
    files, links = Files({"context": found}), list[Counted]()

    def counted(link: Link) -> Link:
        links.append(Counted(link))
        return links[0]

    async with session(files.methods, counted) as client:
        await send_files(client, Result(tree))  # type: ignore[arg-type]
        assert files.received == {name.rstrip("/"): content for name, content in tree.items()}
        assert links[0].count < 1.5 * len(tree), "each frame takes a system call, and wakes the reader"
        links[0].count = 0
        data = b"".join([block async for block in archive(client, Wanted("context"))])
    assert links[0].count < 50
    with tarfile.open(fileobj=io.BytesIO(data + bytes(1024))) as tar:
        assert [each.name for each in tar] == sorted(name for name in tree if not name.endswith("/"))


async def test_a_file_that_cannot_be_read_ends_the_transfer() -> None:
    class Broken(Root):
        async def read(self, path: str) -> AsyncIterator[bytes]:
            if path.endswith("7"):
                raise HostFailure("the disk is broken")
            return await super().read(path)

    result = Result({})
    result.root = Broken({f"{number}": b"x" for number in range(20)})
    async with session(Files({}).methods) as client:
        with pytest.raises(HostFailure, match="disk is broken"):
            await send_files(client, result)  # type: ignore[arg-type]


async def test_a_tree_arrives_as_it_is() -> None:
    many = {f"many/f{each:04}": b"%d" % each for each in range(3000)}
    tree = {
        "a": b"1",
        "a.b": b"",
        "d/": b"",
        "d/large": bytes(range(256)) * 9000,
        "d/link": b"->../a",
        "null": b"device",
    }
    client = Files({})
    async with session(client.methods) as made:
        await send_files(made, Result(tree | {"many/": b""} | many))  # type: ignore[arg-type]
    expected = {name.rstrip("/"): data.removeprefix(b"->") for name, data in tree.items() if data != b"device"}
    assert client.received == expected | {"many": b""} | many
    assert list(client.received)[:5] == ["a", "a.b", "d", "d/large", "d/link"], "a directory before what is in it"


async def test_an_empty_tree_and_an_archive() -> None:
    client = Files({})
    async with session(client.methods) as made:
        await send_files(made, Result(None))  # type: ignore[arg-type]
        assert client.received == {}
        await send_archive(made, Result(None).blocks())
    assert client.received == {"": b"x" * 100_000 + b"end"}


async def modes(call: Call) -> AsyncIterator[bytes]:
    """Ends the transfer after it has looked at the list."""
    while (data := await call.read()) is not None:
        if not Message(data).has(2):
            yield message({1: FINISHED})
            return
        stat = Message(data).inside(2)
        assert (stat.number(2), stat.number(3), stat.number(6)) == (1 << 23 | 0o755, 5, 7 * 10**9)


async def unlisted(call: Call) -> AsyncIterator[bytes]:
    await call.read()
    yield message({1: REQUEST, 3: 77})
    await call.read()


async def twice(call: Call) -> AsyncIterator[bytes]:
    await call.read()
    yield message({1: REQUEST, 3: 0})
    yield message({1: REQUEST, 3: 0})
    while await call.read() is not None:
        pass


async def full(call: Call) -> AsyncIterator[bytes]:
    await call.read()
    raise Failure(2, "no space left on device")
    yield b""


async def early(call: Call) -> AsyncIterator[bytes]:
    await call.read()
    return
    yield b""


@pytest.mark.parametrize(
    ("receive", "evidence"),
    [(unlisted, "not listed"), (twice, "twice"), (full, "no space left"), (early, "has ended the transfer")],
)
async def test_clients_that_lie_or_cannot_write(receive: Method, evidence: str) -> None:
    async with session({METHOD: receive}) as made:
        with pytest.raises(HostFailure, match="cannot take the result") as caught:
            await send_files(made, Result({f"f{each}": b"data" for each in range(50)}))  # type: ignore[arg-type]
    assert evidence in caught.value.evidence


async def test_modes_have_the_bits_of_go() -> None:
    async with session({METHOD: modes}) as made:
        await send_files(made, Result({"tool": b"x"}))  # type: ignore[arg-type]


async def test_a_client_that_has_gone() -> None:
    async with session(Files({}).methods) as made:
        made.connection.closed.set()
        with pytest.raises(HostFailure, match="has gone"):
            await send_archive(made, Result(None).blocks())


async def test_names_that_are_not_text_need_an_archive() -> None:
    async with session(Files({}).methods) as made:
        with pytest.raises(Unsupported, match="not UTF-8"):
            await send_files(made, Result({"a\udcff": b"x"}))  # type: ignore[arg-type]


def wanted(*exporters: tuple[str, dict[str, str]]) -> Message:
    return Message(message({13: [message({1: kind, 2: attributes}) for kind, attributes in exporters]}))


@pytest.mark.parametrize(
    ("exporters", "error", "text"),
    [
        ([("zip", {})], Unsupported, "output zip"),
        ([("tar", {})] * 21, InvalidInput, "more than 20 outputs"),
        ([("oci", {"tar": "false"})], InvalidInput, "one archive"),
    ],
)
def test_exporters_that_are_refused(
    exporters: list[tuple[str, dict[str, str]]], error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        outputs_of(wanted(*exporters))
