"""A command in a guest, run by its agent."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from isola.errors import InvalidInput, IsolaError
from isola.host.sockets import Stream
from isola.runtimes.agent.body import Writer
from isola.runtimes.agent.connection import Connection
from isola.runtimes.agent.lanes import ERRORS, OUTPUT, Lane
from isola.runtimes.agent.methods import Method, write_command
from isola.runtimes.agent.wire import MAX_REQUEST, Type
from isola.runtimes.spec import ExecSpec

_KILLED = 128 + 9
_END_SECONDS = 2.0
_MOST_SIZE = 65535


class LaneStream:
    """A channel of a stream, and its input, as a stream."""

    def __init__(self, lane: Lane, channel: int, *, ends_input: bool, last: Callable[[], bytes] | None = None) -> None:
        self._lane = lane
        self._channel = channel
        self._ends_input = ends_input
        self._last = last
        self._closed = False

    async def read(self) -> bytes:
        """The next block; empty at the end."""
        if self._closed:
            return b""
        block = await self._lane.read(self._channel)
        if not block and self._last is not None:
            last, self._last = self._last, None
            await asyncio.wait([self._lane.exit])
            return last()
        return block

    async def write(self, data: bytes) -> None:
        """To its input."""
        if not self._closed:
            await self._lane.write(data)

    def close(self) -> None:
        """The program reads EOF, if this is its input."""
        if not self._closed and self._ends_input:
            self._lane.tell(Type.END)
        self._closed = True


class AgentExecution:
    """Ends with the connection: the agent kills it then."""

    def __init__(self, lane: Lane, spec: ExecSpec) -> None:
        self._lane = lane
        self._program = spec.command[0]
        if spec.terminal:
            screen = LaneStream(lane, OUTPUT, ends_input=False, last=self._last_output)
            self._streams: tuple[LaneStream, ...] = (screen, screen)
        else:
            self._streams = (
                LaneStream(lane, OUTPUT, ends_input=True),
                LaneStream(lane, OUTPUT, ends_input=False),
                LaneStream(lane, ERRORS, ends_input=False),
            )

    @property
    def stdin(self) -> Stream:
        """Input of the command."""
        return self._streams[0]

    @property
    def stdout(self) -> Stream:
        """Output of the command."""
        return self._streams[1]

    @property
    def stderr(self) -> Stream | None:
        """None with a terminal."""
        return self._streams[2] if len(self._streams) > 2 else None

    @property
    def refusal(self) -> str:
        """As the guest's kernel says it."""
        exit = self._lane.exit
        reason = exit.result()[1] if exit.done() and exit.exception() is None else ""
        return f"{self._program}: {reason}" if reason else ""

    def resize(self, width: int, height: int) -> None:
        """Of its terminal."""
        sizes = (min(max(0, size), _MOST_SIZE) for size in (width, height))
        self._lane.tell(Type.RESIZE, Writer().number("HH", *sizes).done())

    async def signal(self, signum: int) -> None:
        """To the command itself."""
        self._lane.tell(Type.SIGNAL, Writer().number("I", signum).done())

    async def number(self) -> int:
        """None on the host."""
        return 0

    async def wait(self) -> int:
        """Exit status as in a shell; if the guest or its agent has ended, that of a killed command."""
        try:
            return (await asyncio.shield(self._lane.exit))[0]
        except IsolaError:
            return _KILLED

    async def close(self) -> None:
        """Kill it if it is still running."""
        self._lane.tell(Type.CLOSE)
        self._lane.discard()
        await asyncio.wait([self._lane.exit], timeout=_END_SECONDS)

    def _last_output(self) -> bytes:
        return f"{self.refusal}\r\n".encode() if self.refusal else b""


async def execute(connection: Connection, spec: ExecSpec) -> AgentExecution:
    """Start a command. Raises InvalidInput, and what a request raises."""
    texts = (*spec.command, *spec.environment.keys(), *spec.environment.values(), spec.cwd)
    if not spec.command or not spec.command[0] or any("\0" in text for text in texts):
        raise InvalidInput("The command must have at least one argument, and no NUL", field="command")
    body = Writer()
    write_command(body, spec)
    if len(body.done()) > MAX_REQUEST - 2:
        raise InvalidInput("The command and its environment are too large", field="command")
    return AgentExecution(await connection.lane(Method.EXEC, body), spec)
