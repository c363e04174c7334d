"""One stream of a connection with an agent: its answer, its channels with their credit, and its end."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from isola.errors import IsolaError, WrongState
from isola.runtimes.agent.body import Reader, Writer
from isola.runtimes.agent.wire import MAX_DATA, WINDOW, Frame, Type, broken

Post = Callable[[Frame], None]
OUTPUT, ERRORS = 1, 2
_GRANT = WINDOW // 4


def gone() -> WrongState:
    """The error for a connection that has ended."""
    return WrongState("The agent in the guest is not connected", remedy="start the instance, if it has ended")


@dataclass(slots=True)
class _Incoming:
    """Data of a channel that has arrived and was not read yet; never more than its credit."""

    blocks: deque[bytes] = field(default_factory=deque)
    allowed: int = WINDOW
    taken: int = 0
    ended: bool = False
    """Nothing is to be read any more, because the guest or the reader has ended it."""
    closed: bool = False
    """By the guest."""


class Lane:
    """``post`` sends a frame at once, without waiting."""

    def __init__(self, number: int, post: Post, *, carries_data: bool, method: int = 0) -> None:
        self.number = number
        self.method = method
        self._post = post
        self._carries_data = carries_data
        loop = asyncio.get_running_loop()
        self.answer: asyncio.Future[Reader] = loop.create_future()
        self.exit: asyncio.Future[tuple[int, str]] = loop.create_future()
        """Status, and why the program could not be executed."""
        self._incoming = {OUTPUT: _Incoming(), ERRORS: _Incoming()}
        self._credit = WINDOW
        self._over = False
        self._changed = asyncio.Event()

    @property
    def over(self) -> bool:
        """Whether nothing will arrive any more."""
        return self._over

    def take(self, frame: Frame) -> bool:
        """Process a frame of the agent; False if it was the last one. Raises HostFailure."""
        kind = frame.type
        if kind in (Type.ANSWER, Type.ERROR):
            if self.answer.done():
                raise broken("a second answer")
            return self._answered(frame)
        if not self.answer.done():
            raise broken("data before the answer")
        if kind is Type.DATA:
            self._arrived(self._channel(frame), frame.payload)
        elif kind is Type.END:
            self._closed(self._channel(frame))
        elif kind is Type.CREDIT:
            self._granted(frame)
        elif kind is Type.EXIT:
            self._exited(frame)
        else:
            self.end()
        self._changed.set()
        return not self._over

    def end(self, error: IsolaError | None = None) -> None:
        """Nothing will arrive any more; ``error`` is what waiting callers get."""
        self._over = True
        for waiting in (self.answer, self.exit):
            if not waiting.done():
                waiting.set_exception(error or gone())
                waiting.exception()  # it may be that no one waits
        for channel in self._incoming.values():
            channel.ended = True
        self._changed.set()

    async def read(self, channel: int) -> bytes:
        """The next block; empty at the end. One reader at a time for each channel."""
        incoming = self._incoming[channel]
        while not incoming.blocks:
            if incoming.ended:
                return b""
            await self._change()
        block = incoming.blocks.popleft()
        incoming.taken += len(block)
        if incoming.taken >= _GRANT and not incoming.ended:
            self._post(Frame(Type.CREDIT, self.number, Writer().number("I", incoming.taken).done(), channel))
            incoming.allowed += incoming.taken
            incoming.taken = 0
        return block

    async def write(self, data: bytes) -> None:
        """Write to its input; if it is over, the rest is discarded. One writer at a time."""
        view = memoryview(data)
        while view and not self._over:
            size = min(self._credit, MAX_DATA, len(view))
            if size == 0:
                await self._change()
                continue
            self._credit -= size
            self._post(Frame(Type.DATA, self.number, bytes(view[:size])))
            view = view[size:]

    def tell(self, kind: Type, payload: bytes = b"") -> None:
        """Send a frame that has no answer; no effect if it is over."""
        if not self._over:
            self._post(Frame(kind, self.number, payload))

    def discard(self) -> None:
        """What has arrived is not read."""
        for channel in self._incoming.values():
            channel.blocks.clear()
            channel.ended = True
        self._changed.set()

    async def _change(self) -> None:
        self._changed.clear()
        await self._changed.wait()

    def _answered(self, frame: Frame) -> bool:
        if frame.type is Type.ANSWER:
            self.answer.set_result(Reader(frame.payload))
            if not self._carries_data:
                self.end()
            return self._carries_data
        reader = Reader(frame.payload)
        number, text = reader.number("I"), reader.text(4096)
        reader.end()
        self._over = True
        self.answer.set_exception(RefusedError(number, text))
        self.answer.exception()
        self.end()
        return False

    def _channel(self, frame: Frame) -> _Incoming:
        incoming = self._incoming.get(frame.channel)
        if incoming is None:
            raise broken("data for the host's own channel")
        return incoming

    def _arrived(self, incoming: _Incoming, data: bytes) -> None:
        if len(data) > incoming.allowed or not data:
            raise broken("data without credit")
        incoming.allowed -= len(data)
        if not incoming.ended:
            incoming.blocks.append(data)

    # Frames that change nothing are refused: a guest that sends them without end would occupy the event loop.

    def _closed(self, incoming: _Incoming) -> None:
        if incoming.closed:
            raise broken("a second end")
        incoming.ended = incoming.closed = True

    def _granted(self, frame: Frame) -> None:
        reader = Reader(frame.payload)
        more = reader.number("I")
        self._credit += more
        reader.end()
        if frame.channel or not more or self._credit > WINDOW:
            raise broken("credit for more than was sent, or for nothing")

    def _exited(self, frame: Frame) -> None:
        if self.exit.done():
            raise broken("a second exit")
        self.exit.set_result(read_exit(frame))


class RefusedError(Exception):
    """The agent answered with an error; ``number`` is its errno."""

    def __init__(self, number: int, text: str) -> None:
        super().__init__(text)
        self.number = number


def read_exit(frame: Frame) -> tuple[int, str]:
    """Status and reason of a frame. Raises HostFailure."""
    reader = Reader(frame.payload)
    status, text = reader.number("I"), reader.text(4096)
    reader.end()
    return status & 0xFF, text
