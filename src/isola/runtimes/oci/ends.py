"""The standard streams of a command inside an instance."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from isola.host.process import Child
from isola.host.sockets import Offer, Pipe, Sockets, Stream, Terminal
from isola.runtimes.spec import ExecSpec

_LATE_SECONDS = 0.1


@dataclass(slots=True)
class Ends:
    """Three pipes, or a terminal, either our own relayed by the engine or one that it sends; and the engine's log."""

    log: Pipe
    pipes: tuple[Pipe, ...] = ()
    terminal: Terminal | None = None
    offer: Offer | None = None

    @classmethod
    def open(cls, sockets: Sockets, spec: ExecSpec, handover: Path | None, *, direct: bool = False) -> Ends:
        """As the command requires; with ``handover`` the engine sends the terminal over that socket.

        ``direct``: the engine does not relay our terminal to one inside, but lets the command have it.
        """
        log = sockets.pipe_from_child()
        if not spec.terminal:
            return cls(log, (sockets.pipe_to_child(), sockets.pipe_from_child(), sockets.pipe_from_child()))
        if handover is None:
            return cls(log, terminal=sockets.terminal(spec.width, spec.height, raw=not direct))
        # The pipe is used if no terminal arrives because the command cannot be executed.
        return cls(log, (sockets.pipe_from_child(),), offer=sockets.offer(handover))

    @property
    def options(self) -> list[str]:
        """Options for the engine."""
        if self.offer is not None:
            return ["--tty", "--console-socket", str(self.offer.path)]
        return ["--tty"] if self.terminal else []

    @property
    def relayed(self) -> bool:
        """Whether the engine must be notified of a new window size."""
        return self.terminal is not None and self.offer is None

    @property
    def streams(self) -> tuple[Stream, ...]:
        """Our ends of standard input, output and, without a terminal, error."""
        if self.terminal is not None:
            return (self.terminal.stream,) * 2
        if self.offer is not None:
            return (self.pipes[0].stream,) * 2
        return tuple(pipe.stream for pipe in self.pipes)

    @property
    def remotes(self) -> tuple[int | None, ...]:
        """The engine's standard input, output and error."""
        if self.offer is not None:
            return (None,) * 3
        if self.terminal is not None:
            return (self.terminal.slave,) * 3
        return tuple(pipe.remote for pipe in self.pipes)

    async def settle(self, child: Child, spec: ExecSpec) -> None:
        """Wait until the engine sends the terminal or exits."""
        if self.offer is None:
            return
        received, ended = asyncio.ensure_future(self.offer.receive()), asyncio.ensure_future(child.wait())
        try:
            await asyncio.wait([received, ended], return_when=asyncio.FIRST_COMPLETED)
            with contextlib.suppress(TimeoutError):
                # The command may have ended before the terminal is received.
                self.terminal = await asyncio.wait_for(received, _LATE_SECONDS)
                self.terminal.resize(spec.width or 80, spec.height or 25)
        finally:
            received.cancel()
            ended.cancel()
            self.offer.close()

    def close_remotes(self) -> None:
        """Close the engine's ends after the child has been started."""
        for pipe in (*self.pipes, self.log):
            pipe.close_remote()
        if self.terminal:
            self.terminal.close_slave()

    def close(self) -> None:
        """Close all descriptors."""
        self.close_remotes()
        if self.offer:
            self.offer.close()
        for stream in (*self.streams, self.log.stream, *(pipe.stream for pipe in self.pipes)):
            stream.close()


class Screen:
    """A terminal that shows the engine's log if the command cannot be executed: some engines report errors only
    there.
    """

    def __init__(self, stream: Stream, last_output: Callable[[], Awaitable[bytes]]) -> None:
        self._stream = stream
        self._last_output = last_output
        self._blank = True

    async def read(self) -> bytes:
        """The next block; empty at the end."""
        block = await self._stream.read()
        if not block and self._blank:
            block = await self._last_output()
        self._blank = False
        return block

    async def write(self, data: bytes) -> None:
        """Type."""
        await self._stream.write(data)

    def close(self) -> None:
        """Hang up."""
        self._stream.close()
