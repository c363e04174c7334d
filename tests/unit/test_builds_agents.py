"""Agents of SSH that programs of a build ask: what passes to the client, and what never does."""

from __future__ import annotations

import asyncio

import pytest

from isola.builds.agents import MAX_MESSAGE, Agents, converse, served
from isola.errors import InvalidInput, NotFound
from isola.model.build import BuildEvent, BuildEventKind
from isola.testing.sockets import FakeListener, FakeStream, stream_pair

LIST, SIGN, ADD, LOCK, EXTENSION = 11, 13, 17, 22, 27
FAILURE = b"\0\0\0\1\5"


def message(kind: int, body: bytes = b"") -> bytes:
    return (len(body) + 1).to_bytes(4, "big") + bytes((kind,)) + body


class Client:
    """Remembers what reaches it."""

    def __init__(self) -> None:
        self.asked: list[bytes] = []

    async def __call__(self, request: bytes) -> bytes:
        self.asked.append(request)
        return message(12, b"keys")


async def said(client: Client, *blocks: bytes) -> bytes:
    """What a program reads that sends these blocks and then nothing more."""
    near, far = stream_pair()
    for block in blocks:
        await far.write(block)
    far.end()
    await asyncio.wait_for(converse(near, client), 60)
    return await everything(far)


async def everything(stream: FakeStream) -> bytes:
    found = b""
    while block := await stream.read():
        found += block
    return found


async def test_lists_and_signatures_reach_the_client() -> None:
    client = Client()
    requests = [message(LIST), message(SIGN, b"x" * 1000)]
    whole = b"".join(requests)
    assert await said(client, whole[:2], whole[2:7], whole[7:]) == 2 * message(12, b"keys")
    assert client.asked == requests


@pytest.mark.parametrize("kind", [ADD, LOCK, EXTENSION, 0, 255, 18, 19])
async def test_nothing_else_does(kind: int) -> None:
    client = Client()
    assert await said(client, message(kind, b"body")) == FAILURE
    assert client.asked == []


@pytest.mark.parametrize("head", [b"\0\0\0\0", b"\xff\xff\xff\xff", (MAX_MESSAGE + 1).to_bytes(4, "big")])
async def test_a_request_that_is_empty_or_too_long_ends_the_connection(head: bytes) -> None:
    client = Client()
    assert await said(client, head + b"\x0b" * 100) == b"" and client.asked == []


async def test_connections_are_served_side_by_side_until_the_end() -> None:
    listener, client = FakeListener(0o600, (0, 0)), Client()
    async with served(listener, client):
        programs = [listener.connect() for _ in range(20)]
        for program in programs[:3]:
            await program.write(message(LIST))
            assert await program.read() == message(12, b"keys")
            program.close()
    assert listener.closed and all(program.far.closed for program in programs[:16])


async def test_a_reply_needs_the_token_and_is_one_message() -> None:
    told: list[BuildEvent] = []
    agents = Agents(iter(["one", "two"]).__next__)
    asking = asyncio.ensure_future(agents.ask(told.append, 3, "default", message(LIST)))
    await asyncio.sleep(0)
    assert told == [BuildEvent(BuildEventKind.AGENT, 3, "default", data=message(LIST), token="one")]
    for wrong in (
        b"",
        b"\0\0",
        message(12, b"keys")[:-1],
        message(12, b"keys") + b"x",
        message(12, b"x" * MAX_MESSAGE),
    ):
        with pytest.raises(InvalidInput):
            agents.reply("one", wrong)
    with pytest.raises(NotFound):
        agents.reply("two", message(12))
    agents.reply("one", message(12))
    with pytest.raises(NotFound):
        agents.reply("one", message(12))
    assert await asking == message(12)
    with pytest.raises(NotFound):
        agents.reply("one", message(12))
