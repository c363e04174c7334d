"""Streams in memory. The other end of each is held by a test or a fake program."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncGenerator, Iterable
from pathlib import Path

from isola.errors import HostFailure, NotFound
from isola.host.sockets import Offer, Pipe, Stream, Terminal

_BLOCK = 65536
_FIRST_DESCRIPTOR = 10_000
_PACKET = 8192
_FIRST_PORT = 32768


class FakeStream:
    """One side of a connection."""

    def __init__(self, *, packets: bool = False) -> None:
        self.far: FakeStream = self
        """The peer, which reads what is written here."""
        self._packets = packets
        self._blocks: list[bytes] = []
        self._news = asyncio.Event()
        self.closed = self.ended = self.paused = False
        self.descriptors: list[int] = []
        """Passed by the far side."""

    async def read(self) -> bytes:
        """Data written by the far side; empty once either side is closed, or the far side has ended."""
        await asyncio.sleep(0)
        while not self._blocks and not self.closed and not self.far.closed and not self.far.ended:
            self._news.clear()
            await self._news.wait()
        if self.closed or not self._blocks:
            return b""
        block = self._blocks.pop(0)
        if len(block) > _BLOCK:
            self._blocks.insert(0, block[_BLOCK:])
        return block[:_BLOCK]

    async def write(self, data: bytes) -> None:
        """To the far side, unless that is closed."""
        await asyncio.sleep(0)
        if self.closed or self.ended or self.far.closed:
            return
        step = _PACKET if self._packets else len(data) or 1
        self.far.arrive(data[at : at + step] for at in range(0, len(data), step))

    async def send_descriptor(self, data: bytes, descriptor: int) -> None:
        """To the far side."""
        self.far.descriptors.append(descriptor)
        await self.write(data)

    def arrive(self, blocks: Iterable[bytes]) -> None:
        """Queue blocks as if the far side had written them."""
        if not self.paused:
            self._blocks.extend(blocks)
        self._news.set()

    def end(self) -> None:
        """The far side reads what is left, then the end; reading goes on."""
        self.ended = True
        self.far.arrive(())

    def pause(self) -> None:
        """What the far side writes from now on is dropped."""
        self.paused = True

    def close(self) -> None:
        """The far side reads the remaining data, then EOF."""
        self.closed = True
        self._news.set()
        self.far.arrive(())


def stream_pair(*, packets: bool = False) -> tuple[FakeStream, FakeStream]:
    """Both sides of a new connection."""
    near, far = FakeStream(packets=packets), FakeStream(packets=packets)
    near.far, far.far = far, near
    return near, far


class FakeTerminal:
    """A terminal without echo."""

    def __init__(self, slave: int, size: tuple[int, int], owner: int | None) -> None:
        self._near, self.far = stream_pair()
        self._slave = slave
        self.size = size
        """Width, height."""
        self.owner = owner
        self.taken = False
        """Whether a program holds the far side as well."""

    @property
    def stream(self) -> Stream:
        """The master side."""
        return self._near

    @property
    def slave(self) -> int:
        """A fake descriptor; -1 after it was closed."""
        return self._slave

    def resize(self, width: int, height: int) -> None:
        """Set the size."""
        self.size = (width, height)

    def close_slave(self) -> None:
        """Close our copy; hangs up unless a program holds another."""
        self._slave = -1
        if not self.taken:
            self.far.close()


class FakeOffer:
    """An offer to which a fake program sends a terminal by ``terminals.put_nowait``."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.terminals: asyncio.Queue[FakeTerminal] = asyncio.Queue()
        self.closed = False

    async def receive(self) -> Terminal:
        """The terminal that was sent."""
        return await self.terminals.get()

    def close(self) -> None:
        """Stop waiting."""
        self.closed = True


class FakeListener:
    """A listener to which tests connect by ``connect``."""

    def __init__(self, mode: int, owner: tuple[int, int]) -> None:
        self.mode = mode
        self.owner = owner
        self.closed = False
        self._pending: asyncio.Queue[FakeStream] = asyncio.Queue()

    def connect(self) -> FakeStream:
        """The program's side of a new connection."""
        near, far = stream_pair()
        self._pending.put_nowait(near)
        return far

    async def accept(self) -> FakeStream:
        """The next connection."""
        return await self._pending.get()

    def close(self) -> None:
        """Stop listening."""
        self.closed = True


class FakePipe:
    """A pipe of either direction."""

    def __init__(self, remote: int) -> None:
        self._near, self.far = stream_pair()
        self._remote = remote
        self.taken = False
        """Whether a program holds the far side as well."""

    @property
    def stream(self) -> Stream:
        """Our end."""
        return self._near

    @property
    def remote(self) -> int:
        """A descriptor of the fake kind, -1 when closed."""
        return self._remote

    def close_remote(self) -> None:
        """Close our copy; causes EOF unless a program holds another."""
        self._remote = -1
        if not self.taken:
            self.far.close()


class FakeSockets:
    """Creates streams; ``far`` finds the peer of a descriptor, ``listen`` waits for connections."""

    def __init__(self) -> None:
        self.terminals: list[FakeTerminal] = []
        self.offers: dict[Path, FakeOffer] = {}
        self.listeners: dict[Path, FakeListener] = {}
        self.posted: dict[Path, list[bytes]] = {}
        self.ports: dict[tuple[str, int], asyncio.Queue[FakeStream]] = {}
        """TCP ports on which servers listen: connections arrive in the queue."""
        self._given: dict[int, FakeTerminal | FakePipe] = {}
        self._servers: dict[Path, asyncio.Queue[FakeStream]] = {}
        self._files: dict[Path, bytes] = {}
        self._ports = itertools.count(_FIRST_PORT)
        self._grown: dict[Path, asyncio.Event] = {}

    def terminal(self, width: int = 0, height: int = 0, *, owner: int | None = None, raw: bool = False) -> Terminal:
        """A new terminal."""
        terminal = FakeTerminal(self._descriptor(), (width or 80, height or 25), owner)
        self.terminals.append(terminal)
        self._given[terminal.slave] = terminal
        return terminal

    def free_port(self, address: str, *, udp: bool) -> int:
        """Another one each time."""
        return next(self._ports)

    def offer(self, path: Path) -> Offer:
        self.offers[path] = FakeOffer(path)
        return self.offers[path]

    def listener(self, path: Path, *, mode: int, uid: int, gid: int) -> FakeListener:
        """Tests find it in ``listeners`` and connect to it as programs do."""
        self.listeners[path] = FakeListener(mode, (uid, gid))
        return self.listeners[path]

    def pipe_to_child(self) -> Pipe:
        """The daemon writes."""
        return self._pipe()

    def pipe_from_child(self) -> Pipe:
        """The daemon reads."""
        return self._pipe()

    def pair_with_child(self) -> Pipe:
        """Both ends read and write, as of every pipe here."""
        return self._pipe()

    def far(self, descriptor: int) -> FakeStream:
        """The stream of a program that has this descriptor; the program closes it when it ends."""
        self._given[descriptor].taken = True
        return self._given[descriptor].far

    def listen(self, path: Path) -> asyncio.Queue[FakeStream]:
        """Be the server of a socket: connections arrive in the queue."""
        return self._servers.setdefault(path, asyncio.Queue())

    def vanish(self, path: Path) -> None:
        """Its server has ended."""
        self._servers.pop(path, None)

    async def connect_packets(self, path: Path) -> FakeStream:
        """Connect to a server made by ``listen``."""
        if path not in self._servers:
            raise NotFound(f"There is no socket {path}")
        near, far = stream_pair(packets=True)
        self._servers[path].put_nowait(far)
        return near

    async def connect(self, path: Path) -> FakeStream:
        """Connect to a server made by ``listen``."""
        if path not in self._servers:
            raise NotFound(f"There is no socket {path}")
        near, far = stream_pair()
        self._servers[path].put_nowait(far)
        return near

    async def reach(self, address: str, port: int) -> FakeStream:
        """Connect to a server of ``ports``."""
        if (address, port) not in self.ports:
            raise HostFailure(f"Cannot connect to {address}, port {port}", evidence="refused")
        near, far = stream_pair()
        self.ports[address, port].put_nowait(far)
        return near

    def post(self, path: Path, message: bytes, *, once: bool = False) -> bool:
        """Kept in ``posted``, where a test made the FIFO by giving its path a list."""
        if path not in self.posted:
            return False
        self.posted[path].append(message)
        return True

    def append(self, path: Path, data: bytes) -> None:
        """Append to a file that ``follow`` reads."""
        self._files[path] = self._files.get(path, b"") + data
        self._grown.setdefault(path, asyncio.Event()).set()

    async def follow(self, path: Path) -> AsyncGenerator[bytes, None]:
        """Blocks of a file made by ``append``."""
        grown = self._grown.setdefault(path, asyncio.Event())
        at = 0
        while True:
            grown.clear()
            content = self._files.get(path, b"")
            while at < len(content):
                block = content[at : at + _BLOCK]
                at += len(block)
                yield block
            await grown.wait()

    def _pipe(self) -> FakePipe:
        pipe = FakePipe(self._descriptor())
        self._given[pipe.remote] = pipe
        return pipe

    def _descriptor(self) -> int:
        return _FIRST_DESCRIPTOR + len(self._given)
