"""Pseudo-terminals, pipes and the sockets of the engines, as asyncio streams over file descriptors."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Protocol


class Stream(Protocol):
    """Our end of a pipe, terminal or socket. Closing twice is fine."""

    async def read(self) -> bytes:
        """The next block, at most 64 KiB; empty at the end (also when a terminal hangs up)."""
        ...

    async def write(self, data: bytes) -> None:
        """All of it; BrokenPipe at the other end is silently the end."""
        ...

    def close(self) -> None: ...


class Terminal(Protocol):
    """A pseudo-terminal: ``stream`` is the master side, ``slave`` a descriptor to hand to a child."""

    @property
    def stream(self) -> Stream: ...

    @property
    def slave(self) -> int: ...

    def resize(self, width: int, height: int) -> None: ...

    def close_slave(self) -> None:
        """After the child has it."""
        ...


class Pipe(Protocol):
    """A pipe with one end ours (``stream``) and the other a descriptor for a child."""

    @property
    def stream(self) -> Stream: ...

    @property
    def remote(self) -> int: ...

    def close_remote(self) -> None: ...


class Sockets(Protocol):
    """Opens streams."""

    def terminal(self, width: int = 0, height: int = 0, *, owner: int | None = None) -> Terminal:
        """A new pseudo-terminal (80x25 where no size is given); ``owner`` is the host id that owns the slave."""
        ...

    def pipe_to_child(self) -> Pipe:
        """We write, the child reads."""
        ...

    def pipe_from_child(self) -> Pipe:
        """The child writes, we read."""
        ...

    async def connect_packets(self, path: Path) -> Stream:
        """Connect to a SOCK_SEQPACKET Unix socket (conmon's ``attach``), however long its path is."""
        ...

    async def follow(self, path: Path) -> AsyncIterator[bytes]:
        """Blocks of a growing file from its beginning, ending only when cancelled."""
        ...
