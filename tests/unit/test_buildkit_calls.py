"""Calls of gRPC between two connections over pipes, and what a hostile peer may send."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager

import pytest
from buildkit_client import pair, running

from isola.doors.docker.buildkit.calls import Call, Code, Failure, Method, answer, ask, calling, only
from isola.doors.docker.buildkit.http2 import Broken, Connection, Stream
from isola.errors import NotFound

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


async def echo(call: Call) -> AsyncIterator[bytes]:
    while (data := await call.read()) is not None:
        yield data


async def missing(call: Call) -> AsyncIterator[bytes]:
    await only(call)
    raise NotFound("no such thing: ü 100%")
    yield b""


async def longing(call: Call) -> AsyncIterator[bytes]:
    yield call.stream.header("much").encode()


METHODS: Mapping[str, Method] = {"/echo": echo, "/missing": missing, "/longing": longing}


async def serve(stream: Stream) -> None:
    await answer(stream, METHODS, "not offered")


@asynccontextmanager
async def client(answering: Callable[[Stream], Awaitable[None]] = serve) -> AsyncIterator[Connection]:
    async with pair() as (ours, theirs):
        made = Connection(ours)
        async with running(made, Connection(theirs, answering)):
            yield made


async def test_messages_larger_than_all_windows_come_back() -> None:
    async with client() as connection:
        large = bytes(range(256)) * 8192
        assert await ask(connection, "/echo", b"small") == b"small"
        assert await ask(connection, "/echo", large) == large
        found = await asyncio.gather(*(ask(connection, "/echo", bytes([each]) * 100_000) for each in range(20)))
        assert found == [bytes([each]) * 100_000 for each in range(20)]


async def test_a_slow_reader_stops_the_writer() -> None:
    sent = 0

    async def pour(call: Call) -> AsyncIterator[bytes]:
        nonlocal sent
        while sent < 200:
            sent += 1
            yield bytes(65536)

    async def pouring(stream: Stream) -> None:
        await answer(stream, {"/pour": pour}, "")

    async with client(pouring) as connection, calling(connection, "/pour") as call:
        await call.stream.finish()
        await asyncio.sleep(0.2)
        assert sent < 20
        while await call.read() is not None:
            pass
        assert sent == 200


async def test_errors_have_a_code_and_a_text() -> None:
    async with client() as connection:
        with pytest.raises(Failure, match="no such thing: ü 100%") as failed:
            await ask(connection, "/missing", b"")
        assert failed.value.code == Code.UNKNOWN
        with pytest.raises(Failure, match="not offered") as failed:
            await ask(connection, "/other", b"")
        assert failed.value.code == Code.UNIMPLEMENTED


async def test_long_headers_are_continued() -> None:
    async with client() as connection, calling(connection, "/longing", {"much": ["x" * 100_000]}) as call:
        await call.stream.finish()
        assert await call.read() == b"x" * 100_000


async def test_a_call_that_is_given_up_is_cancelled() -> None:
    ended = asyncio.Event()

    async def wait(call: Call) -> AsyncIterator[bytes]:
        try:
            yield b"begun"
            await asyncio.sleep(60)
        finally:
            ended.set()

    async def waiting(stream: Stream) -> None:
        await answer(stream, {"/wait": wait}, "")

    async with client(waiting) as connection:
        async with calling(connection, "/wait") as call:
            assert await call.read() == b"begun"
        async with asyncio.timeout(60):
            await ended.wait()


async def test_a_peer_that_goes_ends_all_calls() -> None:
    async with pair() as (ours, theirs):
        connection = Connection(ours)
        async with running(connection):
            waiting = asyncio.ensure_future(ask(connection, "/echo", b""))
            await asyncio.sleep(0.05)
            theirs.close()
            with pytest.raises(Broken):
                await waiting
            with pytest.raises(Broken):
                await ask(connection, "/echo", b"")


def frame(kind: int, flags: int, id: int, payload: bytes) -> bytes:
    return struct.pack(">IBI", len(payload) << 8 | kind, flags, id) + payload


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (frame(1, 0, 1, b"") + frame(0, 0, 1, b""), "not continued"),
        (frame(1, 4, 1, b"\x80"), "no such entry"),
        (frame(9, 4, 1, b""), "out of place"),
        (frame(5, 4, 1, b""), "out of place"),
        (struct.pack(">IBI", 1 << 24 | 0, 0, 1), "too long"),
        (frame(4, 0, 0, b"123"), "malformed settings"),
        (frame(4, 0, 0, struct.pack(">HI", 4, 2**32 - 1)), "too wide"),
        (frame(8, 0, 0, b"123"), "malformed update"),
        (frame(8, 0, 0, b"\x7f\xff\xff\xff"), "too wide"),
        (frame(0, 8, 1, b"\x05abc"), "padded wrongly"),
        (frame(6, 1, 0, bytes(8)) * 10_001, "carry nothing"),
    ],
    ids=str,
)
async def test_what_is_no_http2_ends_the_connection(data: bytes, why: str) -> None:
    async with pair() as (ours, theirs):
        connection = Connection(theirs, serve)
        task = asyncio.ensure_future(connection.run())
        await ours.write(PREFACE + data)
        async with asyncio.timeout(60):
            await task
            kinds = {}
            while 7 not in kinds:
                first, _, _ = struct.unpack(">IBI", await ours.read(9))
                kinds[first & 0xFF] = await ours.read(first >> 8)
        assert why in kinds[7].decode("utf-8", "replace")


async def test_a_peer_that_receives_much_may_send_many_updates() -> None:
    """Each frame of data is answered by updates of two windows, and maybe a ping."""

    async def much(stream: Stream) -> None:
        await stream.send_headers([(":status", "200")])
        for _ in range(4_000):
            await stream.send(b"x" * 10)

    async with pair() as (ours, theirs):
        connection = Connection(theirs, much)
        async with running(connection):
            await ours.write(PREFACE + frame(1, 5, 1, b"\x83"))
            seen = 0
            while seen < 4_000:
                first, _, _ = struct.unpack(">IBI", await ours.read(9))
                await ours.read(first >> 8)
                if first & 0xFF == 0:
                    seen += 1
                    update = (10).to_bytes(4)
                    await ours.write(frame(8, 0, 0, update) + frame(8, 0, 1, update) + frame(6, 1, 0, bytes(8)))
            await ours.write(frame(6, 0, 0, b"all read"))
            answers = b""
            while answers != b"all read":
                first, _, _ = struct.unpack(">IBI", await ours.read(9))
                answers = await ours.read(first >> 8)
                assert first & 0xFF != 7, answers


async def test_another_protocol_is_no_http2() -> None:
    async with pair() as (ours, theirs):
        task = asyncio.ensure_future(Connection(theirs, serve).run())
        await ours.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        async with asyncio.timeout(60):
            await task


async def test_more_calls_than_agreed_are_refused() -> None:
    async def never(stream: Stream) -> None:
        await asyncio.sleep(60)

    async with client(never) as connection:
        streams = [await connection.open([(":path", "/x")]) for _ in range(65)]
        with pytest.raises(Broken):
            await asyncio.wait_for(streams[-1].read(), 60)
        assert streams[0].failed is None


async def test_a_compressed_or_endless_message_is_refused() -> None:
    async with client() as connection:
        for head in (b"\1\0\0\0\1x", struct.pack(">BI", 0, 2**31)):
            async with calling(connection, "/echo") as call:
                await call.stream.send(head)
                assert await call.read() is None
                assert call.stream.header("grpc-status") == str(int(Code.INVALID))
