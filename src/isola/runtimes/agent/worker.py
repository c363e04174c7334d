"""A worker of the agent: its requests are served one after another, whatever a file system does to it."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import struct

from isola.errors import HostFailure, IsolaError, TimedOut, Unsupported
from isola.host.attempts import reported
from isola.runtimes.agent.body import Reader, Writer
from isola.runtimes.agent.connection import Connection
from isola.runtimes.agent.lanes import OUTPUT, Lane, gone
from isola.runtimes.agent.methods import Method, Work
from isola.runtimes.agent.wire import Type, broken

MAX_WORK = 320 << 10
_MAX_ANSWER = 512 << 10
_SECONDS = 120.0
_NOT_REGULAR, _PSEUDO = 65536, 65537
_HEAD = struct.Struct("<II")


class Worker:
    """Closed by ``close``, and by a request that takes too long: its process is killed."""

    def __init__(self, lane: Lane) -> None:
        self._lane = lane
        self._next = 1
        self._pending: dict[int, asyncio.Future[tuple[int, bytes]]] = {}
        self._writing = asyncio.Lock()
        self._error: IsolaError | None = None
        self._receiving = asyncio.ensure_future(self._receive())

    @classmethod
    async def open(cls, connection: Connection, *, in_guest: bool = True) -> Worker:
        """In the root of the guest, or in that of the agent. Raises what a request raises."""
        return cls(await connection.lane(Method.WORKER, Writer().flag(in_guest)))

    async def work(self, path: str, operation: Work, body: Writer, *, seconds: float = _SECONDS) -> Reader:
        """The body of the answer. Raises what ``Root`` raises, about ``path``; TimedOut, WrongState, HostFailure."""
        error, data = await self._exchange(operation, body.done(), seconds)
        if error:
            raise _refusal(path, error)
        return Reader(data)

    async def close(self) -> None:
        """Kill it. No effect if it is closed."""
        self._end(gone())
        self._receiving.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._receiving

    async def _exchange(self, operation: Work, body: bytes, seconds: float) -> tuple[int, bytes]:
        if self._error is not None:
            raise self._error
        number, self._next = self._next, self._next % (2**32 - 1) + 1
        request = struct.pack("<IIH", 6 + len(body), number, operation) + body
        if len(request) > MAX_WORK:
            raise HostFailure("A request is too large for the agent", evidence=f"{len(request)} bytes")
        answer: asyncio.Future[tuple[int, bytes]] = asyncio.get_running_loop().create_future()
        self._pending[number] = answer
        sent = False
        try:
            async with asyncio.timeout(seconds):
                async with self._writing:
                    await self._lane.write(request)
                sent = True
                return await answer
        except TimeoutError:
            slow = TimedOut(
                "The guest did not answer in time", evidence=f"{seconds:g} s", remedy="its file system may hang"
            )
            self._end(slow)
            raise slow from None
        except asyncio.CancelledError:
            # A request that was sent in part would make nonsense of the next one. If it was sent, its answer comes.
            if not sent:
                self._end(gone())
            raise

    async def _receive(self) -> None:
        pending = bytearray()
        try:
            while block := await self._lane.read(OUTPUT):
                pending += block
                self._take(pending)
            self._end(gone())
        except IsolaError as error:
            self._end(error)

    def _take(self, pending: bytearray) -> None:
        while len(pending) >= 4:
            size = int.from_bytes(pending[:4], "little")
            if not _HEAD.size <= size <= _MAX_ANSWER:
                raise broken(f"an answer of {size} bytes")
            if len(pending) < 4 + size:
                return
            number, error = _HEAD.unpack_from(pending, 4)
            answer = self._pending.pop(number, None)
            if answer is None:
                raise broken("an answer without a request")
            if not answer.done():
                answer.set_result((error, bytes(pending[4 + _HEAD.size : 4 + size])))
            del pending[: 4 + size]

    def _end(self, error: IsolaError) -> None:
        if self._error is not None:
            return
        self._error = error
        self._lane.tell(Type.CLOSE)
        self._lane.discard()
        for answer in self._pending.values():
            if not answer.done():
                answer.set_exception(error)
        self._pending.clear()


def _refusal(path: str, number: int) -> IsolaError:
    if number == _NOT_REGULAR:
        return Unsupported(
            f"{path!r} is not a regular file", remedy="only files, directories and links are transferred"
        )
    if number == _PSEUDO:
        return Unsupported(f"{path!r} is an interface of the kernel", remedy="read and write it by a command inside")
    if number == errno.ENOSYS:
        return Unsupported("The agent in the guest cannot do this", remedy="restart it to get the present agent")

    def refuse() -> None:
        raise OSError(number, os.strerror(number & 0x7FFFFFFF))

    try:
        reported(path, refuse)
    except IsolaError as error:
        return error
    return broken("an unknown error")
