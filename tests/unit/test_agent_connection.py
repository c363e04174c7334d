"""The host's side of the agent's protocol against agents that lie, flood, and do not answer."""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isola.errors import HostFailure, InvalidInput, IsolaError, TimedOut, Unsupported, WrongState
from isola.runtimes import ExecSpec
from isola.runtimes.agent.agent import Agent
from isola.runtimes.agent.body import Writer
from isola.runtimes.agent.connection import Connection
from isola.runtimes.agent.execution import execute
from isola.runtimes.agent.methods import Method
from isola.runtimes.agent.wire import HEADER, MAGIC, MAX_DATA, WINDOW, Frame, Type, encode
from isola.testing.clock import FakeClock

TAG = 77


class Peer:
    """A stream of the host, at whose other end a test is the agent."""

    def __init__(self) -> None:
        self._to_host: asyncio.Queue[bytes] = asyncio.Queue()
        self._from_host = bytearray()
        self._more = asyncio.Event()
        self.closed = False

    async def read(self) -> bytes:
        return b"" if self.closed else await self._to_host.get()

    async def write(self, data: bytes) -> None:
        self._from_host += data
        self._more.set()

    def close(self) -> None:
        self.closed = True
        self._to_host.put_nowait(b"")

    # --- the agent ---

    def say(self, data: bytes) -> None:
        self._to_host.put_nowait(data)

    def send(self, kind: Type, stream: int, payload: bytes = b"", channel: int = 0) -> None:
        self.say(encode(Frame(kind, stream, payload, channel), TAG))

    async def frame(self) -> Frame:
        """The next one of the host."""
        while True:
            if len(self._from_host) >= HEADER.size:
                length, stream, _, kind, channel, _ = HEADER.unpack_from(self._from_host)
                if len(self._from_host) >= HEADER.size + length:
                    payload = bytes(self._from_host[HEADER.size : HEADER.size + length])
                    del self._from_host[: HEADER.size + length]
                    return Frame(Type(kind), stream, payload, channel)
            self._more.clear()
            await self._more.wait()

    async def greet(self, *, version: int = 1, state: int = 0, stale: bytes = b"") -> None:
        epoch = (await self.frame()).payload[-16:]
        payload = MAGIC + epoch + struct.pack("<IBI", version, state, 7) + Writer().text("1").done()
        self.say(stale + encode(Frame(Type.HELLO, payload=payload), TAG))


@contextlib.asynccontextmanager
async def connected(**greeting: object) -> AsyncIterator[tuple[Agent, Peer]]:
    peer = Peer()
    agent, _ = await asyncio.gather(Agent.connect(peer, FakeClock()), peer.greet(**greeting))  # type: ignore[arg-type]
    yield agent, peer
    agent.close()
    assert peer.closed


@pytest.fixture
async def pair() -> AsyncIterator[tuple[Agent, Peer]]:
    async with connected() as found:
        yield found


async def in_time(work: Awaitable[object]) -> object:
    async with asyncio.timeout(60):
        return await work


# --- the greeting ------------------------------------------------------------------------------------------------


async def test_bytes_of_an_earlier_connection_are_discarded() -> None:
    async with connected(stale=encode(Frame(Type.DATA, 1, b"old", 1), TAG + 1) + b"rest of a frame") as (agent, _):
        assert not agent.closed


async def test_the_end_of_the_first_process_may_have_been_before() -> None:
    async with connected(state=2) as (agent, _):
        assert await agent.ended() == (7, "")


async def test_an_agent_without_a_common_version_is_refused() -> None:
    with pytest.raises(Unsupported):
        async with connected(version=0):
            pass
    with pytest.raises(HostFailure):
        async with connected(state=3):
            pass


async def test_an_agent_that_does_not_greet_times_out() -> None:
    peer = Peer()
    with pytest.raises(TimedOut):
        await Agent.connect(peer, FakeClock(), timeout=0.01)
    assert peer.closed


async def test_an_agent_that_hangs_up_is_not_connected() -> None:
    peer = Peer()
    peer.say(b"")
    with pytest.raises(WrongState):
        await Agent.connect(peer, FakeClock())


# --- requests ----------------------------------------------------------------------------------------------------


async def test_answers_reach_their_requests_in_any_order(pair: tuple[Agent, Peer]) -> None:
    agent, peer = pair
    asked = [asyncio.ensure_future(agent.ping()) for _ in range(3)]
    streams = [(await peer.frame()).stream for _ in asked]
    assert streams == [1, 2, 3]
    for stream in reversed(streams):
        peer.send(Type.ANSWER, stream)
    await in_time(asyncio.gather(*asked))


@pytest.mark.parametrize(
    ("number", "error"), [(1, HostFailure), (38, Unsupported), (107, WrongState), (2**32 - 1, HostFailure)]
)
async def test_errors_of_the_agent_are_errors_of_ours(
    pair: tuple[Agent, Peer], number: int, error: type[IsolaError]
) -> None:
    agent, peer = pair
    asked = asyncio.ensure_future(agent.ping())
    peer.send(Type.ERROR, (await peer.frame()).stream, Writer().number("I", number).text("x" * 4000).done())
    with pytest.raises(error) as caught:
        await in_time(asked)
    assert len(str(caught.value)) < 1000
    assert not agent.closed


async def test_requests_fail_when_the_connection_ends(pair: tuple[Agent, Peer]) -> None:
    agent, peer = pair
    asked = [asyncio.ensure_future(work) for work in (agent.ping(), agent.ended(), agent.stats())]
    await peer.frame()
    peer.say(b"")
    for each in asked:
        with pytest.raises(WrongState):
            await in_time(each)
    with pytest.raises(WrongState):
        await agent.ping()
    assert agent.closed and agent.last_interfaces == ()


# --- frames that no honest agent sends -------------------------------------------------------------------------------

BAD: dict[str, Callable[[Peer, int], None]] = {
    "another connection's": lambda peer, stream: peer.say(encode(Frame(Type.ANSWER, stream), TAG + 1)),
    "of an unknown stream": lambda peer, stream: peer.send(Type.ANSWER, stream + 1),
    "of no stream": lambda peer, _: peer.send(Type.ANSWER, 0),
    "two exits": lambda peer, _: peer.say(2 * encode(Frame(Type.EXIT, 0, struct.pack("<II", 1, 0)), TAG)),
    "data before the answer": lambda peer, stream: peer.send(Type.DATA, stream, b"x", 1),
    "a giant": lambda peer, stream: peer.say(HEADER.pack(2**31, stream, TAG, Type.ANSWER, 0, 0)),
    "an exit without a status": lambda peer, _: peer.send(Type.EXIT, 0, b"\0"),
    "an error without a number": lambda peer, stream: peer.send(Type.ERROR, stream, b"x"),
}


@pytest.mark.parametrize("bad", BAD)
async def test_a_wrong_frame_ends_the_connection(pair: tuple[Agent, Peer], bad: str) -> None:
    agent, peer = pair
    asked = asyncio.ensure_future(agent.ping())
    BAD[bad](peer, (await peer.frame()).stream)
    with pytest.raises((HostFailure, WrongState)):
        await in_time(asked)
    assert agent.closed


FLOODS: dict[str, bytes] = {
    "ends": encode(Frame(Type.END, 1, channel=1), TAG),
    "exits": encode(Frame(Type.EXIT, 1, struct.pack("<II", 0, 0)), TAG),
    "credit for nothing": encode(Frame(Type.CREDIT, 1, struct.pack("<I", 0)), TAG),
    "data of no bytes": encode(Frame(Type.DATA, 1, channel=1), TAG),
}


@pytest.mark.parametrize("flood", FLOODS)
async def test_frames_that_change_nothing_do_not_occupy_the_host(pair: tuple[Agent, Peer], flood: str) -> None:
    agent, peer = pair
    running = asyncio.ensure_future(agent.exec(ExecSpec(("sleep", "1"), {})))
    peer.send(Type.ANSWER, (await peer.frame()).stream)
    await in_time(running)
    peer.say(2 * FLOODS[flood])
    with pytest.raises((HostFailure, WrongState)):
        await in_time(agent.ping())
    assert agent.closed


REPORTS: list[Callable[[Agent], Awaitable[object]]] = [Agent.stats, Agent.interfaces, Agent.processes]


@given(st.integers(0, 2), st.binary(max_size=300))
@settings(max_examples=60, deadline=None)
def test_any_report_is_read_or_refused(which: int, body: bytes) -> None:
    async def ask() -> None:
        async with connected() as (agent, peer):
            asked = asyncio.ensure_future(REPORTS[which](agent))
            peer.send(Type.ANSWER, (await peer.frame()).stream, body)
            with contextlib.suppress(HostFailure):
                await in_time(asked)

    asyncio.run(ask())


@given(st.binary(max_size=400))
@settings(max_examples=60, deadline=None)
def test_any_bytes_end_in_an_error_and_not_in_a_wait(data: bytes) -> None:
    async def ask() -> None:
        async with connected() as (agent, peer):
            asked = asyncio.ensure_future(agent.ping())
            await peer.frame()
            peer.say(data)
            peer.say(b"")
            with pytest.raises((HostFailure, WrongState)):
                await in_time(asked)

    asyncio.run(ask())


# --- commands ----------------------------------------------------------------------------------------------------


async def started(agent: Agent, peer: Peer, *, terminal: bool = False):  # type: ignore[no-untyped-def]
    asked = asyncio.ensure_future(agent.exec(ExecSpec(("cat",), {}, terminal=terminal)))
    frame = await peer.frame()
    assert frame.payload[:2] == struct.pack("<H", Method.EXEC)
    peer.send(Type.ANSWER, frame.stream, struct.pack("<I", 5))
    return await asked, frame.stream


async def test_output_beyond_the_credit_ends_the_connection(pair: tuple[Agent, Peer]) -> None:
    agent, peer = pair
    execution, stream = await started(agent, peer)
    for _ in range(WINDOW // MAX_DATA):
        peer.send(Type.DATA, stream, bytes(MAX_DATA), 1)
    peer.send(Type.DATA, stream, b"x", 1)
    assert await in_time(execution.wait()) == 137
    assert agent.closed


async def test_credit_is_given_for_what_was_read(pair: tuple[Agent, Peer]) -> None:
    agent, peer = pair
    execution, stream = await started(agent, peer)
    for _ in range(WINDOW // MAX_DATA):
        peer.send(Type.DATA, stream, bytes(MAX_DATA), 2)
    assert execution.stderr is not None
    assert len(await in_time(execution.stderr.read())) == MAX_DATA  # type: ignore[arg-type]
    frame = await peer.frame()
    assert (frame.type, frame.stream, frame.channel) == (Type.CREDIT, stream, 2)
    peer.send(Type.DATA, stream, bytes(MAX_DATA), 2)
    await agent_answers(agent, peer)


async def agent_answers(agent: Agent, peer: Peer) -> None:
    asked = asyncio.ensure_future(agent.ping())
    frame = await peer.frame()
    while frame.type is not Type.REQUEST:
        frame = await peer.frame()
    peer.send(Type.ANSWER, frame.stream)
    await in_time(asked)


async def test_a_writer_without_credit_blocks_only_its_stream(pair: tuple[Agent, Peer]) -> None:
    agent, peer = pair
    execution, stream = await started(agent, peer)
    writing = asyncio.ensure_future(execution.stdin.write(bytes(WINDOW + 1)))
    await agent_answers(agent, peer)
    assert not writing.done()
    peer.send(Type.CREDIT, stream, struct.pack("<I", 1))
    await in_time(writing)
    peer.send(Type.CREDIT, stream, struct.pack("<I", WINDOW + 1))
    assert await in_time(execution.wait()) == 137


async def test_a_command_that_could_not_be_executed_says_why(pair: tuple[Agent, Peer]) -> None:
    agent, peer = pair
    execution, stream = await started(agent, peer, terminal=True)
    peer.send(Type.END, stream, channel=1)
    reading = asyncio.ensure_future(execution.stdout.read())
    await asyncio.sleep(0)
    peer.send(Type.EXIT, stream, Writer().number("I", 127).text("program: not found").done())
    peer.send(Type.CLOSE, stream)
    assert await in_time(reading) == b"cat: program: not found\r\n"
    assert (await execution.wait(), execution.refusal) == (127, "cat: program: not found")
    assert await execution.stdout.read() == b""
    await execution.close()
    peer.send(Type.DATA, stream, b"late", 1)
    await asyncio.sleep(0.01)
    assert agent.closed


async def test_closing_kills_and_does_not_wait_for_ever(pair: tuple[Agent, Peer]) -> None:
    agent, peer = pair
    execution, stream = await started(agent, peer)
    closing = asyncio.ensure_future(execution.close())
    assert await in_time(peer.frame()) == Frame(Type.CLOSE, stream)
    peer.send(Type.EXIT, stream, struct.pack("<II", 137, 0))
    peer.send(Type.CLOSE, stream)
    await in_time(closing)
    assert await execution.wait() == 137


@pytest.mark.parametrize("spec", [ExecSpec((), {}), ExecSpec(("a\0b",), {}), ExecSpec(("a",), {"x": "\0"})])
async def test_commands_that_cannot_be_sent(pair: tuple[Agent, Peer], spec: ExecSpec) -> None:
    with pytest.raises(InvalidInput):
        await pair[0].exec(spec)
    with pytest.raises(InvalidInput):
        await pair[0].exec(ExecSpec(("a", "b" * (1 << 20)), {}))


@pytest.mark.parametrize("suspended", [False, True])
async def test_commands_end_with_an_agent_that_was_killed_silently(suspended: bool) -> None:
    """QEMU keeps its end of the connection open."""
    peer = Peer()
    connection = Connection(peer)
    connection.suspended = suspended
    connection.quiet_seconds = connection.answer_seconds = 0.005
    await asyncio.gather(connection.open(bytes(16), 5), peer.greet())
    asked = asyncio.ensure_future(execute(connection, ExecSpec(("cat",), {})))
    peer.send(Type.ANSWER, (await peer.frame()).stream, struct.pack("<I", 5))
    execution = await asked
    if suspended:
        await asyncio.sleep(0.05)
        assert connection.alive
    else:
        assert await in_time(execution.wait()) == 137
    connection.close()


async def test_an_agent_that_answers_is_not_given_up(pair: tuple[Agent, Peer]) -> None:
    agent, peer = pair
    connection = agent._connection
    connection.quiet_seconds = 0.001
    connection._tasks.append(asyncio.ensure_future(connection._listen()))
    execution, _ = await started(agent, peer)
    for _ in range(5):
        frame = await in_frame(peer)
        assert frame.payload == struct.pack("<H", Method.PING)
        peer.send(Type.ANSWER, frame.stream)
    assert connection.alive
    await asyncio.wait([asyncio.ensure_future(execution.close())], timeout=0)


# --- workers -----------------------------------------------------------------------------------------------------


async def worker_answers(peer: Peer, answer: Callable[[int], bytes]) -> None:
    opened = await peer.frame()
    peer.send(Type.ANSWER, opened.stream, struct.pack("<I", 6))
    number = struct.unpack_from("<I", (await peer.frame()).payload, 4)[0]
    peer.send(Type.DATA, opened.stream, answer(number), 1)


async def stat(agent: Agent) -> object:
    async with agent.files() as root:
        return await root.stat("/f")


ANSWERS: dict[str, Callable[[int], bytes]] = {
    "too short": lambda number: struct.pack("<III", 8, number, 0),
    "a giant": lambda number: struct.pack("<III", 2**31, number, 0),
    "no header": lambda _: struct.pack("<I", 7),
    "another request": lambda number: struct.pack("<III", 8, number + 1, 0),
    "too long": lambda number: struct.pack("<III", 100, number, 0) + bytes(92),
    "a strange errno": lambda number: struct.pack("<III", 8, number, 2**32 - 1),
}


@pytest.mark.parametrize("answer", ANSWERS)
async def test_wrong_answers_of_a_worker_are_errors(pair: tuple[Agent, Peer], answer: str) -> None:
    agent, peer = pair
    asked = asyncio.ensure_future(stat(agent))
    await worker_answers(peer, ANSWERS[answer])
    with pytest.raises((HostFailure, WrongState)):
        await in_time(asked)


@given(st.binary(max_size=200))
@settings(max_examples=60, deadline=None)
def test_any_entry_is_read_or_refused(body: bytes) -> None:
    async def ask() -> None:
        async with connected() as (agent, peer):
            asked = asyncio.ensure_future(stat(agent))
            await worker_answers(peer, lambda number: struct.pack("<III", 8 + len(body), number, 0) + body)
            with contextlib.suppress(HostFailure):
                await in_time(asked)

    asyncio.run(ask())


async def test_a_request_that_is_cancelled_leaves_its_worker_to_the_others(pair: tuple[Agent, Peer]) -> None:
    agent, peer = pair
    entry = struct.pack("<IIIQqqII", 0o100644, 1, 2, 3, 4, 5, 1, 0)

    async def use() -> object:
        async with agent.files() as root:
            asked = asyncio.ensure_future(root.stat("/first"))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            asked.cancel()
            await asyncio.wait([asked])
            return await root.stat("/second")

    used = asyncio.ensure_future(use())
    opened = await peer.frame()
    peer.send(Type.ANSWER, opened.stream, struct.pack("<I", 6))
    for _ in range(2):
        number = struct.unpack_from("<I", (await in_frame(peer)).payload, 4)[0]
        peer.send(Type.DATA, opened.stream, struct.pack("<III", 8 + len(entry), number, 0) + entry, 1)
    found = await in_time(used)
    assert getattr(found, "size", None) == 3


async def in_frame(peer: Peer) -> Frame:
    async with asyncio.timeout(60):
        return await peer.frame()
