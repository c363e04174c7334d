"""The agent's own parser against random frames: built with sanitizers, which abort at the first wrong access."""

from __future__ import annotations

import asyncio
import random
import struct
from collections.abc import Callable

import pytest
from native_agent import SANITIZED, bare_plan, built, native_stream
from runtime_root import busybox_root

from isola.host.clock import LinuxClock
from isola.host.stream import DescriptorStream
from isola.model.identity import IdRange
from isola.runtimes.agent.agent import Agent
from isola.runtimes.agent.body import Writer
from isola.runtimes.agent.lanes import OUTPUT
from isola.runtimes.agent.methods import Method, Work
from isola.runtimes.agent.wire import EPOCH_SIZE, HEADER, Greeting, Type, hello

IDS = IdRange(410000)
ROUNDS = 400
SKIPPED = {Method.POWER}
"""Ends the agent, as it should."""


async def answered(stream: DescriptorStream, last: bytes) -> None:
    """Read until the answer to the last request."""
    seen = b""
    while last not in seen:
        block = await stream.read()
        assert block, "the agent has ended"
        seen = seen[-len(last) :] + block


async def greeted(stream: DescriptorStream) -> int:
    """The tag of a new connection."""
    await stream.write(hello(bytes(EPOCH_SIZE)))
    greeting, found = Greeting(bytes(EPOCH_SIZE)), None
    while found is None:
        found = greeting.feed(await stream.read())
    return found[1]


async def fed(stream: DescriptorStream, frames: Callable[[int], bytes]) -> None:
    """Greet the agent, and send frames under its tag."""
    tag, last = await greeted(stream), 2**31
    answer = HEADER.pack(0, last, tag, Type.ANSWER, 0, 0)
    async with asyncio.timeout(60):
        end = frame(tag, last, Type.REQUEST, struct.pack("<H", Method.PING))
        await asyncio.gather(stream.write(frames(tag) + end), answered(stream, answer))


def frame(tag: int, stream: int, kind: int, payload: bytes, channel: int = 0) -> bytes:
    return HEADER.pack(len(payload), stream, tag, kind, channel, 0) + payload


def some(dice: random.Random) -> bytes:
    """A value as bodies have them, often a wrong one."""
    number = dice.choice([0, 1, 2, 5, 100, 65536, 2**31, 2**32 - 1])
    text = dice.choice([b"", b"/", b"/etc/hosts", b"a\0b", b"../..", b"x" * 300, b"/proc/self/exe", b"lo"])
    return dice.choice([
        struct.pack("<I", number), struct.pack("<I", len(text)) + text, struct.pack("<B", number & 0xFF),
        struct.pack("<Q", number), dice.randbytes(dice.randrange(20)), struct.pack("<I", number) + text,
    ])  # fmt: skip


def body(dice: random.Random) -> bytes:
    return b"".join(some(dice) for _ in range(dice.randrange(12)))


def random_frames(dice: random.Random) -> Callable[[int], bytes]:
    def make(tag: int) -> bytes:
        sent = b""
        for number in range(1, ROUNDS):
            kind = dice.choice([1, 1, 1, 1, 4, 5, 6, 8, 9, 10, dice.randrange(1, 256)])
            method = dice.choice([method for method in Method if method not in SKIPPED] + [0, 99])
            payload = struct.pack("<H", method) + body(dice) if kind == Type.REQUEST else body(dice)
            if kind == Type.SIGNAL:
                payload = struct.pack("<I", dice.choice([0, 15, 2**31]))
            sent += frame(
                tag, dice.choice([number, number, dice.randrange(1, number + 1)]), kind, payload, dice.randrange(3)
            )
        return sent

    return make


def random_work(dice: random.Random) -> bytes:
    sent = b""
    for number in range(ROUNDS):
        work = dice.choice([*(work for work in Work if work < Work.MOUNT), 0, 25, 99])
        request = struct.pack("<IH", number, work) + body(dice)
        sent += struct.pack("<I", len(request)) + request
    return sent


@pytest.mark.parametrize("seed", range(4))
async def test_random_frames_do_not_break_the_agent(seed: int) -> None:
    """It answers a new greeting afterwards. In a user namespace: it may neither set the clock nor mix in entropy."""
    dice = random.Random(seed)
    async with native_stream(idmap=IDS, binary=built(SANITIZED)) as stream:
        for _ in range(5):
            await fed(stream, random_frames(dice))
        tag = await greeted(stream)
        await stream.write(frame(tag, 1, Type.REQUEST, dice.randbytes(50))[: dice.randrange(60)])
        await stream.write(dice.randbytes(100_000))
        agent = await Agent.connect(stream, LinuxClock(), timeout=20)
        await agent.ping()
        agent.close()


async def test_random_requests_do_not_break_a_worker() -> None:
    dice = random.Random(9)
    with busybox_root(("sh",), IDS, {"etc/hosts": "text"}) as tree:
        async with native_stream(idmap=IDS, binary=built(SANITIZED)) as stream:
            agent = await Agent.connect(stream, LinuxClock(), timeout=20)
            await agent.prepare(bare_plan(tree))
            for _ in range(5):
                await worked(agent, random_work(dice))
            agent.close()


async def worked(agent: Agent, requests: bytes) -> None:
    """All requests are served: a worker that dies of a wrong access has another status than 0."""
    lane = await agent._connection.lane(Method.WORKER, Writer().flag(True))

    async def read() -> None:
        while await lane.read(OUTPUT):
            pass

    reading = asyncio.ensure_future(read())
    await lane.write(requests)
    lane.tell(Type.END)
    async with asyncio.timeout(60):
        await reading
        assert (await lane.exit)[0] == 0
