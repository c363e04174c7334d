"""QEMU's control protocol (QMP): commands and events as lines of JSON on a stream.

QEMU is not trusted, since a guest may have taken it over: what it sends has bounds, and every command a time limit.
"""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
from collections.abc import Callable, Mapping
from typing import Any

from isola.errors import HostFailure, TimedOut, WrongState
from isola.host.sockets import Connection

_LONGEST = 1 << 20
"""Bytes of a line."""
_TIMEOUT = 30.0
Event = Mapping[str, Any]


class Qmp:
    """A connection that may be used by several tasks at a time."""

    def __init__(self, stream: Connection, on_event: Callable[[Event], None]) -> None:
        self._stream = stream
        self._on_event = on_event
        """Called with each event."""
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._greeted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._turn = asyncio.Lock()
        self._reader = asyncio.get_running_loop().create_task(self._read(), name="read control messages")
        self.ended = self._reader

    async def open(self, timeout: float = _TIMEOUT) -> None:
        """Wait for the greeting, and begin. Raises TimedOut, HostFailure."""
        try:
            async with asyncio.timeout(timeout):
                await asyncio.shield(self._greeted)
                await self.execute("qmp_capabilities")
        except TimeoutError:
            raise TimedOut("The hypervisor does not answer") from None

    async def execute(
        self,
        command: str,
        arguments: Mapping[str, object] | None = None,
        *,
        descriptor: int | None = None,
        timeout: float = _TIMEOUT,
    ) -> Any:
        """What it returns, unvalidated. Raises HostFailure with QEMU's message, TimedOut, WrongState (it has ended)."""
        number = next(self._numbers)
        message = {"execute": command, "id": number} | ({"arguments": arguments} if arguments else {})
        answer = self._waiting[number] = asyncio.get_running_loop().create_future()
        try:
            if self._reader.done():
                raise _over()
            async with asyncio.timeout(timeout):
                async with self._turn:
                    data = json.dumps(message).encode() + b"\n"
                    if descriptor is not None:
                        await self._stream.send_descriptor(data, descriptor)
                    else:
                        await self._stream.write(data)
                return await answer
        except TimeoutError:
            raise TimedOut(f"The hypervisor does not answer to {command}") from None
        finally:
            del self._waiting[number]

    async def ring(self, name: str, size: int = 65536) -> bytes:
        """Take what is in a ring buffer of characters out of it."""
        found = await self.execute("ringbuf-read", {"device": name, "size": size, "format": "base64"})
        try:
            return base64.b64decode(found, validate=True)
        except (TypeError, ValueError):
            raise violation(found) from None

    def close(self) -> None:
        """The hypervisor runs on."""
        self._reader.cancel()
        self._stream.close()

    async def _read(self) -> None:
        pending = b""
        try:
            while block := await self._stream.read():
                *lines, pending = (pending + block).split(b"\n")
                if len(pending) > _LONGEST:
                    break
                for line in lines:
                    self._take(line)
        except (ValueError, RecursionError, TypeError):
            pass
        finally:
            self._stream.close()
            for waiting in (*self._waiting.values(), self._greeted):
                if not waiting.done():
                    waiting.set_exception(_over())
                    waiting.exception()

    def _take(self, line: bytes) -> None:
        """Raises ValueError, TypeError for what is not of the protocol."""
        if not line.strip():
            return
        message = json.loads(line)
        if not isinstance(message, dict):
            raise TypeError
        if "QMP" in message and not self._greeted.done():
            self._greeted.set_result(None)
        elif isinstance(message.get("event"), str):
            self._on_event(message)
        elif (waiting := self._waiting.get(message.get("id", 0))) is not None and not waiting.done():
            if "return" in message:
                waiting.set_result(message["return"])
            else:
                error = message.get("error")
                text = str(error.get("desc", ""))[:500] if isinstance(error, dict) else ""
                waiting.set_exception(HostFailure("The hypervisor refused a command", evidence=text))


def _over() -> WrongState:
    return WrongState("The hypervisor has ended", remedy="start the instance again")


def violation(found: object) -> HostFailure:
    """The error for a hypervisor that answers with something else than its protocol says."""
    return HostFailure("The hypervisor violates its protocol", evidence=repr(found)[:200])
