"""A connection with an agent: many requests and streams at a time over one stream of bytes."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from dataclasses import dataclass

from isola.errors import HostFailure, IsolaError, TimedOut, Unsupported, WrongState
from isola.host.sockets import Stream
from isola.runtimes.agent.body import Reader, Writer
from isola.runtimes.agent.lanes import Lane, RefusedError, gone, read_exit
from isola.runtimes.agent.methods import STREAMS, Method
from isola.runtimes.agent.wire import (
    EPOCH_SIZE,
    MAGIC,
    MAX_REQUEST,
    VERSION,
    Decoder,
    Frame,
    Greeting,
    Type,
    broken,
    encode,
    hello,
)

MOST_LANES = 4096
_MOST_WAITING = 4 << 20
"""Bytes that wait to be sent before a request waits."""
_LAST_STREAM = 2**32 - 1
_NOT_KNOWN, _NOT_RUNNING = 38, 107
"""ENOSYS, ENOTCONN."""


@dataclass(frozen=True, slots=True)
class Welcome:
    """What the agent says of itself and of the first process."""

    state: int
    """0 waits for its start, 1 runs, 2 has ended."""
    status: int
    version: str


class Connection:
    """Open until ``close``, or until the other end closes or breaks the protocol."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._tag = 0
        self._next = 1
        self._lanes: dict[int, Lane] = {}
        self._sending: deque[bytes] = deque()
        self._waiting = 0
        self._to_send = asyncio.Event()
        self._sent = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._error: IsolaError | None = None
        self._answered = False
        self.suspended = False
        """The guest is paused: its silence means nothing."""
        self.quiet_seconds, self.answer_seconds = 30.0, 90.0
        """Silence after which an agent with open streams is asked whether it is there, and how long it may take."""
        self.first: asyncio.Future[tuple[int, str]] = asyncio.get_running_loop().create_future()
        """Exit status of the first process, and why it could not be executed. Raises WrongState, HostFailure."""

    @property
    def alive(self) -> bool:
        return self._error is None

    @property
    def commands(self) -> int:
        """How many streams are those of commands."""
        return sum(lane.method == Method.EXEC and not lane.over for lane in self._lanes.values())

    async def open(self, epoch: bytes, seconds: float) -> Welcome:
        """Greet the agent. Raises TimedOut, HostFailure; the connection is closed then."""
        assert len(epoch) == EPOCH_SIZE
        try:
            async with asyncio.timeout(seconds):
                await self._stream.write(hello(epoch))
                frame, rest = await self._greeted(epoch)
            welcome = _welcome(frame, epoch)
        except TimeoutError:
            self.close()
            raise TimedOut(
                "The agent in the guest does not answer", remedy="look at the console log; the guest may be booting"
            ) from None
        except BaseException:
            self.close()
            raise
        if welcome.state == 2:
            self.first.set_result((welcome.status, ""))
        self._tasks = [asyncio.ensure_future(work) for work in (self._receive(rest), self._send(), self._listen())]
        return welcome

    async def request(self, method: int, body: Writer | None = None, *, seconds: float = 30.0) -> Reader:
        """The body of the answer. Raises TimedOut, WrongState, HostFailure, Unsupported."""
        return await self._answer(await self._ask(method, body), seconds)

    async def lane(self, method: int, body: Writer | None = None, *, seconds: float = 30.0) -> Lane:
        """The same for a request that opens a stream; the caller ends it by ``CLOSE``."""
        lane = await self._ask(method, body)
        try:
            await self._answer(lane, seconds)
        except BaseException:
            lane.discard()
            lane.tell(Type.CLOSE)
            raise
        return lane

    def close(self, error: IsolaError | None = None) -> None:
        """All that uses it ends with ``error``. No effect if it is closed."""
        if self._error is not None:
            return
        self._error = error or gone()
        for task in self._tasks:
            if task is not asyncio.current_task():
                task.cancel()
        self._stream.close()
        for lane in self._lanes.values():
            lane.end(self._error)
        self._lanes.clear()
        self._sending.clear()
        self._sent.set()
        if not self.first.done():
            self.first.set_exception(self._error)
            self.first.exception()

    def post(self, frame: Frame) -> None:
        """Send it in its turn; no effect if the connection is closed."""
        if self._error is None:
            data = encode(frame, self._tag)
            self._sending.append(data)
            self._waiting += len(data)
            self._to_send.set()

    # --- how ----------------------------------------------------------------------------------------------------

    async def _ask(self, method: int, body: Writer | None) -> Lane:
        payload = Writer().number("H", method).raw(body.done() if body is not None else b"").done()
        if len(payload) > MAX_REQUEST:
            raise HostFailure("A request is too large for the agent", evidence=f"{len(payload)} bytes")
        while self._error is None and self._waiting > _MOST_WAITING:
            self._sent.clear()
            await self._sent.wait()
        if self._error is not None:
            raise self._again()
        if len(self._lanes) >= MOST_LANES or self._next > _LAST_STREAM:
            raise HostFailure("Too many requests of the agent are open", remedy="wait until some have ended")
        lane = Lane(self._next, self.post, carries_data=method in STREAMS, method=method)
        self._next += 1
        self._lanes[lane.number] = lane
        self.post(Frame(Type.REQUEST, lane.number, payload))
        return lane

    async def _answer(self, lane: Lane, seconds: float) -> Reader:
        try:
            async with asyncio.timeout(seconds):
                return await asyncio.shield(lane.answer)
        except TimeoutError:
            raise TimedOut("The agent in the guest did not answer in time", evidence=f"{seconds:g} s") from None
        except RefusedError as error:
            raise _error(error) from error

    def _again(self) -> IsolaError:
        """A new error each time: one that is raised twice would collect tracebacks."""
        assert self._error is not None
        return WrongState(self._error.message, evidence=self._error.evidence, remedy=self._error.remedy)

    async def _greeted(self, epoch: bytes) -> tuple[Frame, bytes]:
        greeting = Greeting(epoch)
        while data := await self._stream.read():
            if (found := greeting.feed(data)) is not None:
                frame, self._tag, rest = found
                return frame, rest
        raise gone()

    async def _receive(self, rest: bytes) -> None:
        decoder = Decoder(self._tag)
        try:
            data = rest
            while True:
                for frame in decoder.feed(data):
                    self._take(frame)
                if not (data := await self._stream.read()):
                    break
                self._answered = True
            self.close()
        except IsolaError as error:
            self.close(error)
        except OSError as error:
            self.close(HostFailure("The connection with the agent failed", evidence=str(error)))

    def _take(self, frame: Frame) -> None:
        if frame.stream == 0:
            if frame.type is not Type.EXIT or self.first.done():
                raise broken(f"a frame of type {frame.type.name} of no stream")
            self.first.set_result(read_exit(frame))
            return
        lane = self._lanes.get(frame.stream)
        if lane is None:
            raise broken("a frame of a stream that is not open")
        if not lane.take(frame):
            del self._lanes[frame.stream]

    async def _listen(self) -> None:
        """QEMU keeps its end open if the agent in the guest is killed: then no command would ever end."""
        while True:
            self._answered = False
            await asyncio.sleep(self.quiet_seconds)
            if self._answered or self.suspended or not self._lanes:
                continue
            try:
                await self.request(Method.PING, seconds=self.answer_seconds)
            except TimedOut:
                if not (self._answered or self.suspended):
                    return self.close(HostFailure("The agent in the guest does not answer any more"))
            except IsolaError:
                continue

    async def _send(self) -> None:
        try:
            while True:
                while not self._sending:
                    self._to_send.clear()
                    await self._to_send.wait()
                data = self._sending.popleft()
                await self._stream.write(data)
                self._waiting -= len(data)
                self._sent.set()
        except OSError as error:
            self.close(HostFailure("The connection with the agent failed", evidence=str(error)))


def _welcome(frame: Frame, epoch: bytes) -> Welcome:
    reader = Reader(frame.payload)
    reader.raw(len(MAGIC) + len(epoch))
    version, state, status = reader.numbers("IBI")
    agent_version = reader.text(64)
    if version != VERSION:
        raise Unsupported(
            "The agent in the guest does not know this version of the protocol",
            evidence=f"agent {agent_version[:20]!r}",
            remedy="restart the instance, so that it gets the present agent",
        )
    if state > 2:
        raise broken("an unknown state")
    return Welcome(state, status & 0xFF, agent_version)


def _error(refused: RefusedError) -> IsolaError:
    """The text comes from the guest: it is evidence and nothing more."""
    if refused.number == _NOT_KNOWN:
        return Unsupported("The agent in the guest cannot do this", remedy="restart it to get the present agent")
    if refused.number == _NOT_RUNNING:
        return WrongState("The instance is not running", remedy="start it first")
    with contextlib.suppress(ValueError):
        return HostFailure("The guest refused", evidence=f"{str(refused)[:500]!r} ({refused.number})")
    return HostFailure("The guest refused")
