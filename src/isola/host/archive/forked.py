"""Requests to the fork server of archives, which runs while there are any, and for a while after."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from isola.errors import HostFailure, IsolaError, UnsafeArchive
from isola.host.cancellation import finish
from isola.host.capture import Head, Lines, Output, Tail
from isola.host.process import Processes

IDLE = 30.0
"""Seconds without a request after which the server ends: it takes as much memory as a Python program."""
_STDOUT_LIMIT = 16 << 20
_STDERR_KEPT = 1 << 20
_LARGEST_MESSAGE = 1 << 20
_PAUSE = 0.01


@dataclass(frozen=True, slots=True)
class Ended:
    """A request that has been carried out, or not."""

    status: int
    """Exit status of its process, or the negative number of the signal that killed it."""
    stdout: bytes
    stderr: bytes
    confined: bool = False
    """Whether that process is the one that has read the archive."""


class Forked:
    """Carries out requests in processes forked by a server, which is started when it is needed."""

    def __init__(self, processes: Processes, idle: float = IDLE) -> None:
        self._processes = processes
        self._idle = idle
        self._server: _Connection | None = None
        self._starting = asyncio.Lock()
        self._open = 0

    async def run(
        self,
        request: Mapping[str, object],
        *,
        on_line: Callable[[str], None] | None = None,
        descriptor: int | None = None,
    ) -> Ended:
        """Run until it ends; ``on_line`` is called with each line of standard error.

        ``descriptor`` is passed on, and closed here. When cancelled, it first kills the process group and waits for it.
        Raises HostFailure.
        """
        self._open += 1
        try:
            server = await self._ready()
            return await _carried_out(server, request, on_line, descriptor)
        except OSError as error:  # no descriptors left
            raise HostFailure("Cannot start a process that unpacks and packs archives", evidence=str(error)) from error
        finally:
            if descriptor is not None:
                os.close(descriptor)
            self._open -= 1
            if not self._open and self._server is not None:
                self._server.end_after(self._idle)

    async def _ready(self) -> _Connection:
        loop = asyncio.get_running_loop()
        server = self._server
        if server is not None and server.loop is not loop:
            server.close()  # of an event loop that has ended
            self._starting, server = asyncio.Lock(), None
        async with self._starting:
            server = self._server
            if server is None or server.closed or server.loop is not loop:
                server = self._server = await _started(self._processes)
            server.stay()
            return server


async def _started(processes: Processes) -> _Connection:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        argv = [sys.executable, "-I", "-m", "isola.host.archive.fork_server", str(theirs.fileno())]
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _LARGEST_MESSAGE)
        await processes.spawn(argv, pass_fds=(theirs.fileno(),))
    except BaseException:
        ours.close()
        raise
    finally:
        theirs.close()
    return _Connection(ours)


_Result = asyncio.Future[tuple[int, bool]]
"""Exit status of the process of a request, and whether it is the confined one."""


class _Connection:
    """To a running server."""

    def __init__(self, end: socket.socket) -> None:
        end.setblocking(False)
        self.loop = asyncio.get_running_loop()
        self.closed = False
        self._end = end
        self._last = 0
        self._waiting: dict[int, _Result] = {}
        self._timer: asyncio.TimerHandle | None = None
        self.loop.add_reader(end.fileno(), self._receive)
        weakref.finalize(self, end.close)

    async def start(self, request: Mapping[str, object], descriptors: Sequence[int]) -> tuple[int, _Result]:
        """The request's number, and its result."""
        self._last += 1
        number, ended = self._last, self.loop.create_future()
        self._waiting[number] = ended
        try:
            await self._send({"start": number, "request": request}, descriptors)
        except BaseException:
            self._waiting.pop(number, None)
            raise
        return number, ended

    async def kill(self, number: int, ended: _Result) -> None:
        """All processes of a request have ended on return."""
        with contextlib.suppress(HostFailure):
            await self._send({"kill": number}, ())
        await asyncio.wait([ended])

    def end_after(self, seconds: float) -> None:
        """Have it end unless ``stay`` is called before."""
        if not self.closed:
            self.stay()
            self._timer = self.loop.call_later(seconds, self.close)

    def stay(self) -> None:
        """Undo ``end_after``."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def close(self) -> None:
        """The server ends, and with it its processes."""
        if self.closed:
            return
        self.closed = True
        if not self.loop.is_closed():
            self.stay()
            self.loop.remove_reader(self._end.fileno())
            for ended in self._waiting.values():
                if not ended.done():
                    ended.set_exception(_lost())
                    ended.exception()  # retrieved, or asyncio would log it
        self._waiting.clear()
        self._end.close()

    async def _send(self, message: Mapping[str, object], descriptors: Sequence[int]) -> None:
        data = json.dumps(message).encode()
        while not self.closed:
            try:
                socket.send_fds(self._end, [data], [*descriptors])
                return
            except BlockingIOError:
                await asyncio.sleep(_PAUSE)
            except OSError as error:
                self.close()
                raise _lost(str(error)) from error
        raise _lost()

    def _receive(self) -> None:
        try:
            data = self._end.recv(4096)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.close()
            return
        message: Mapping[str, Any] = json.loads(data)
        ended = self._waiting.pop(message["ended"], None)
        if ended is not None and not ended.done():
            ended.set_result((message["status"], message["confined"]))


async def _carried_out(
    server: _Connection, request: Mapping[str, object], on_line: Callable[[str], None] | None, descriptor: int | None
) -> Ended:
    failed: asyncio.Future[None] = server.loop.create_future()
    kept, tail = Head(_STDOUT_LIMIT, _too_much), Tail(_STDERR_KEPT)
    lines = Lines(on_line or _ignore)

    def collect(data: bytes) -> None:
        tail.take(data)
        lines.take(data)

    try:
        with Output(kept.take, failed) as output, Output(collect, failed) as errors:
            passed = [output.remote, errors.remote, *([] if descriptor is None else [descriptor])]
            number, ended = await server.start(request, passed)
            output.close_remote()
            errors.close_remote()
            status, confined = await _end(server, number, ended, failed)
            output.drain()
            errors.drain()
            lines.end()
            if failed.done():
                failed.result()
    finally:
        if not failed.cancel() and not failed.cancelled():
            failed.exception()  # retrieved, or asyncio would log it
    return Ended(status, kept.content(), tail.content(), confined)


async def _end(server: _Connection, number: int, ended: _Result, failed: asyncio.Future[None]) -> tuple[int, bool]:
    try:
        either: set[asyncio.Future[Any]] = {ended, failed}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if failed.done():
            failed.result()
        return ended.result()
    except BaseException:
        if not ended.done():
            await finish(server.kill(number, ended))
        raise


def _ignore(_: str) -> None:
    """Used without ``on_line``."""


def _too_much() -> HostFailure:
    return HostFailure("The process that unpacks and packs archives wrote too much")


def _lost(evidence: str = "") -> HostFailure:
    return HostFailure("The process that unpacks and packs archives ended", evidence=evidence)


def died(done: Ended) -> IsolaError:
    """If its limits killed it, the archive is invalid; anything else is a failure of the host."""
    output = done.stderr.decode("utf-8", "replace").strip()[-2000:]
    # Out of memory, or timed out; and what a confined process dies of is always the archive's doing.
    if done.status in (-signal.SIGKILL, -signal.SIGALRM) or (done.confined and done.status < 0):
        return UnsafeArchive("The archive exceeds the limits on time or memory", evidence=f"signal {-done.status}")
    return HostFailure("The process that unpacks and packs archives failed", evidence=output)


class Counter:
    """Turns running totals into steps."""

    def __init__(self, progress: Callable[[int], None] | None) -> None:
        self._progress = progress
        self._total = 0

    def take_line(self, line: str) -> None:
        """Output of the process is as untrusted as the archive it reads."""
        keyword, _, number = line.partition(" ")
        if keyword == "progress" and number.isascii() and number.isdigit() and len(number) < 19 and self._progress:
            total = max(int(number), self._total)
            self._progress(total - self._total)
            self._total = total
