"""``python -m isola.host.forwarder SPEC``: carries connections from one network namespace into another.

It listens in one namespace, drops the privileges that it does not need, and connects in the other for each client. It
outlives the daemon that started it; the next one adopts it by its PID and start time. SPEC is the JSON of a
``Spec``. It prints ``ready`` to standard output, or ``error: ...`` and exits.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import json
import os
import resource
import signal
import socket
import stat
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import NoReturn, TypeVar

from isola.host import confine, kernel

T = TypeVar("T")
NOBODY = 65534
MOST_CONNECTIONS = 4096
"""Concurrent connections; further clients wait in the kernel's backlog."""
_BACKLOG = 512
_BLOCK = 65536
_MOST_SENDERS, _IDLE = 1024, 60.0
"""UDP: maximum number of senders of one address, and seconds after which an idle one is removed."""
_IN_ROOT = kernel.RESOLVE_IN_ROOT | kernel.RESOLVE_NO_MAGICLINKS
_CONNECT_SECONDS = 10.0
_PIPE = 1 << 20
"""Bytes in the kernel between two connections that carry much."""
_SPLICE = os.SPLICE_F_MOVE | os.SPLICE_F_NONBLOCK


@dataclass(frozen=True, slots=True)
class Side:
    """Where it listens, or where it connects to."""

    protocol: str
    """``tcp``, ``udp`` or ``unix``."""
    host: str
    """An IP address; for ``unix`` the path, or ``@name`` of an abstract socket."""
    ports: tuple[int, ...] = ()
    network: str = ""
    """A file that refers to its network namespace; empty: the one in which it is started."""
    rooted: bool = False
    """Whether its path is resolved within another root."""

    @property
    def family(self) -> socket.AddressFamily:
        if self.protocol == "unix":
            return socket.AF_UNIX
        return socket.AF_INET6 if ":" in self.host else socket.AF_INET

    @property
    def kind(self) -> socket.SocketKind:
        return socket.SOCK_DGRAM if self.protocol == "udp" else socket.SOCK_STREAM


@dataclass(frozen=True, slots=True)
class Spec:
    """The n-th port of ``listen`` is forwarded to the n-th of ``connect``, or to its only one."""

    listen: Side
    connect: Side
    proxy_protocol: bool = False
    """Begin each connection with a line that names the client (PROXY protocol, version 1)."""
    socket_owner: tuple[int, int] = (0, 0)
    """User and group of a Unix socket that it listens on."""
    socket_mode: int = 0o644
    socket_maker: tuple[int, int] = (0, 0)
    """User and group that create the socket file: id-mapped mounts refuse ids that they do not map."""
    user: int = NOBODY
    """User and group that it runs as once it listens, without capabilities."""
    group: int = NOBODY
    pid_file: str = ""
    """The file in which it writes its PID before it listens."""
    root: int | None = None
    """An inherited descriptor of the directory in which paths of ``rooted`` sides are resolved."""

    def text(self) -> str:
        """The spec as the program's argument."""
        return json.dumps(asdict(self))

    @classmethod
    def read(cls, text: str) -> Spec:
        """The spec from the program's argument."""
        given = json.loads(text)
        for key in ("listen", "connect"):
            given[key] = Side(**given[key] | {"ports": tuple(given[key]["ports"])})
        return cls(**given | {key: tuple(given[key]) for key in ("socket_owner", "socket_maker")})


def main() -> None:
    """Listen, drop privileges, forward."""
    try:
        spec = Spec.read(sys.argv[1])
        _raise_descriptors()
        _without_terminal()
        _write_pid(spec)
        named = spec.listen.protocol == "unix" and not spec.listen.host.startswith("@")
        listening = [_listen_unix(spec)] if named else _within(spec.listen.network, lambda: _listen(spec.listen))
        root = spec.root if spec.connect.rooted else None
        if spec.connect.network:
            _within(spec.connect.network, None)
        confine.become(spec.user, (), group=spec.group, with_parent=named)
        connector = _Connector(spec, root)
    except Exception as error:
        _end(f"error: {error}", 1)
    os.write(1, b"ready\n")
    _silence()
    asyncio.run(_carry(spec, listening, connector))


# --- before anything is forwarded, with all privileges ---------------------------------------------------------------


def _within(namespace: str, work: Callable[[], T] | None) -> T:
    """Run in a network namespace, in a thread that ends; without work enter it permanently."""
    if work is None:
        _enter(namespace)
        return None  # type: ignore[return-value]
    outcome: list[T] = []
    failed: list[BaseException] = []

    def run() -> None:
        try:
            if namespace:
                _enter(namespace)
            outcome.append(work())
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if failed:
        raise failed[0]
    return outcome[0]


def _enter(namespace: str) -> None:
    descriptor = os.open(namespace, os.O_RDONLY | os.O_CLOEXEC)
    try:
        kernel.join(descriptor, kernel.CLONE_NEWNET)
    finally:
        os.close(descriptor)


def _write_pid(spec: Spec) -> None:
    if spec.pid_file:
        draft = f"{spec.pid_file}.new"
        with open(draft, "w", encoding="ascii") as file:
            file.write(str(os.getpid()))
        os.replace(draft, spec.pid_file)


def _listen(side: Side) -> list[socket.socket]:
    if side.protocol == "unix":
        return [_bound(side, f"\0{side.host[1:]}")]
    return [_bound(side, (side.host, port)) for port in side.ports]


def _bound(side: Side, address: object) -> socket.socket:
    made = socket.socket(side.family, side.kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        if side.kind is socket.SOCK_STREAM:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if side.family is socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if side.family is not socket.AF_UNIX:
            # The address may be added to the link later, or be removed and added again.
            made.setsockopt(socket.IPPROTO_IP, 15, 1)  # IP_FREEBIND
        made.bind(address)  # type: ignore[arg-type]
        if side.kind is socket.SOCK_STREAM:
            made.listen(_BACKLOG)
    except OSError as error:
        made.close()
        shown = f"{side.host}:{address[1]}" if isinstance(address, tuple) else side.host
        raise OSError(error.errno, f"cannot listen on {side.protocol}:{shown}: {error.strerror}") from error
    return made


def _listen_unix(spec: Spec) -> socket.socket:
    side = spec.listen
    root = spec.root if side.rooted else None
    parent, _, name = side.host.rpartition("/")
    above = _directory(root, parent)
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISSOCK(os.stat(name, dir_fd=above, follow_symlinks=False).st_mode):
            raise FileExistsError(errno.EEXIST, f"{side.host} exists and is not a socket")
        os.unlink(name, dir_fd=above)
    os.umask(0o177)
    with _effective(*spec.socket_maker):
        made = _bound(side, f"/proc/self/fd/{above}/{name}")
    # By a descriptor of the socket's own inode, because its name may have been replaced by a link.
    own = kernel.open_beneath(above, os.fsencode(name), os.O_PATH, kernel.RESOLVE_BENEATH | kernel.RESOLVE_NO_SYMLINKS)
    if not stat.S_ISSOCK(os.fstat(own).st_mode):
        raise OSError(errno.EEXIST, f"{side.host} was replaced")
    os.chown(f"/proc/self/fd/{own}", *spec.socket_owner)
    os.chmod(f"/proc/self/fd/{own}", spec.socket_mode)
    _janitor(above, name, os.fstat(own).st_ino)
    return made


@contextlib.contextmanager
def _effective(user: int, group: int) -> Iterator[None]:
    """Files are created as this user; the process still belongs to root."""
    os.setegid(group)
    os.seteuid(user)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)


def _janitor(above: int, name: str, inode: int) -> None:
    """Continue as a child. The parent keeps the privilege to remove the socket file, and removes it at the end."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGCHLD})
    child = os.fork()
    if child == 0:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM, signal.SIGCHLD})
        return
    _silence()
    if signal.sigwait({signal.SIGTERM, signal.SIGCHLD}) == signal.SIGTERM:
        os.kill(child, signal.SIGKILL)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    with contextlib.suppress(OSError):
        if os.stat(name, dir_fd=above, follow_symlinks=False).st_ino == inode:
            os.unlink(name, dir_fd=above)
    os._exit(max(status, 0))


def _directory(root: int | None, path: str) -> int:
    flags = os.O_PATH | os.O_DIRECTORY
    if root is None:
        return os.open(path or "/", flags | os.O_CLOEXEC)
    return kernel.open_beneath(root, os.fsencode(path.lstrip("/") or "."), flags, _IN_ROOT)


def _raise_descriptors() -> None:
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _without_terminal() -> None:
    os.chdir("/")
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)


def _silence() -> None:
    nothing = os.open("/dev/null", os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nothing, descriptor)
    os.close(nothing)


def _end(message: str, status: int) -> NoReturn:
    with contextlib.suppress(OSError):
        os.write(1, f"{message}\n".encode(errors="replace"))
    os._exit(status)


# --- forwarding, without privileges -----------------------------------------------------------------------------------


class _Connector:
    """Opens connections to the target."""

    def __init__(self, spec: Spec, root: int | None) -> None:
        self._side = spec.connect
        self._root = root

    async def connect(self, number: int) -> socket.socket:
        """To the n-th port. Raises OSError, TimeoutError."""
        side = self._side
        made = socket.socket(side.family, side.kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        try:
            async with asyncio.timeout(_CONNECT_SECONDS):
                if side.protocol == "unix":
                    await self._connect_unix(made)
                else:
                    port = side.ports[number if len(side.ports) > 1 else 0]
                    await asyncio.get_running_loop().sock_connect(made, (side.host, port))
        except BaseException:
            made.close()
            raise
        return made

    async def _connect_unix(self, made: socket.socket) -> None:
        loop, path = asyncio.get_running_loop(), self._side.host
        if path.startswith("@") or self._root is None:
            await loop.sock_connect(made, f"\0{path[1:]}" if path.startswith("@") else path)
            return
        found = kernel.open_beneath(self._root, os.fsencode(path.lstrip("/")), os.O_PATH, _IN_ROOT)
        try:
            await loop.sock_connect(made, f"/proc/self/fd/{found}")
        finally:
            os.close(found)


async def _carry(spec: Spec, listening: Sequence[socket.socket], connector: _Connector) -> None:
    if spec.listen.protocol == "udp":
        await asyncio.gather(*(_Datagrams(one, connector, number).run() for number, one in enumerate(listening)))
    else:
        room = asyncio.Semaphore(MOST_CONNECTIONS)
        await asyncio.gather(
            *(_accept(one, connector, number, room, spec.proxy_protocol) for number, one in enumerate(listening))
        )


async def _accept(
    listening: socket.socket, connector: _Connector, number: int, room: asyncio.Semaphore, announced: bool
) -> None:
    loop, tasks = asyncio.get_running_loop(), set[asyncio.Task[None]]()

    def ended(task: asyncio.Task[None]) -> None:
        tasks.discard(task)
        room.release()

    while True:
        await room.acquire()
        try:
            client, _ = await loop.sock_accept(listening)
        except OSError:  # no descriptors, no memory, or the client has disconnected already
            room.release()
            await asyncio.sleep(0.05)
            continue
        task = loop.create_task(_connection(client, connector, number, announced))
        tasks.add(task)
        task.add_done_callback(ended)


async def _connection(client: socket.socket, connector: _Connector, number: int, announced: bool) -> None:
    try:
        with client, await connector.connect(number) as server:
            for one in (client, server):
                if one.family != socket.AF_UNIX:
                    one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    one.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            if announced:
                await asyncio.get_running_loop().sock_sendall(server, proxy_line(client))
            async with asyncio.TaskGroup() as both:
                both.create_task(_pump(client, server))
                both.create_task(_pump(server, client))
    except* (OSError, TimeoutError):
        pass  # refused, or reset: both ends are closed


async def _pump(source: socket.socket, target: socket.socket) -> None:
    """Copy until EOF, which is forwarded; an error ends both directions."""
    loop = asyncio.get_running_loop()
    while data := await loop.sock_recv(source, _BLOCK):
        await loop.sock_sendall(target, data)
        if len(data) == _BLOCK:
            await _splice(source, target)
            break
    target.shutdown(socket.SHUT_WR)


async def _splice(source: socket.socket, target: socket.socket) -> None:
    """Move the rest through a pipe, without copying it."""
    reading, writing = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        with contextlib.suppress(OSError):  # the user's pipes have a limit in all
            fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, _PIPE)
        while count := await _moved(source.fileno(), writing, _PIPE, source.fileno(), writes=False):
            while count:
                count -= await _moved(reading, target.fileno(), count, target.fileno(), writes=True)
    finally:
        os.close(reading)
        os.close(writing)


async def _moved(source: int, target: int, count: int, watched: int, *, writes: bool) -> int:
    """Bytes that were moved; waits for the ``watched`` end if there are none now."""
    loop = asyncio.get_running_loop()
    while True:
        try:
            moved = os.splice(source, target, count, flags=_SPLICE)
        except BlockingIOError:
            ready = asyncio.Event()
            add, remove = (loop.add_writer, loop.remove_writer) if writes else (loop.add_reader, loop.remove_reader)
            add(watched, ready.set)
            try:
                await ready.wait()
            finally:
                remove(watched)
            continue
        if not writes:
            await asyncio.sleep(0)  # once for each round, so that other connections get their turn
        return moved


def proxy_line(client: socket.socket) -> bytes:
    """The line that names a client to the server, see haproxy's proxy-protocol.txt."""
    if client.family == socket.AF_UNIX:
        return b"PROXY UNKNOWN\r\n"
    (source, source_port, *_), (target, target_port, *_) = client.getpeername(), client.getsockname()
    family = "TCP6" if client.family == socket.AF_INET6 else "TCP4"
    return f"PROXY {family} {source} {target} {source_port} {target_port}\r\n".encode()


class _Datagrams:
    """One UDP port, with a separate socket to the server for each sender, so that replies can be assigned."""

    def __init__(self, listening: socket.socket, connector: _Connector, number: int) -> None:
        self._listening = listening
        self._connector = connector
        self._number = number
        self._senders: dict[object, tuple[socket.socket, asyncio.Task[None]]] = {}
        self._seen: dict[object, float] = {}

    async def run(self) -> None:
        """For ever."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                data, sender = await loop.sock_recvfrom(self._listening, _BLOCK)
                server = await self._server(sender)
                server.send(data)
            except (OSError, TimeoutError):  # refused, or no room in a buffer: datagrams may be lost
                await asyncio.sleep(0)

    async def _server(self, sender: object) -> socket.socket:
        loop = asyncio.get_running_loop()
        # Kept in the order of use: the first one has been idle for longest.
        self._seen.pop(sender, None)
        self._seen[sender] = loop.time()
        if sender not in self._senders:
            self._forget(loop.time())
            made = await self._connector.connect(self._number)
            self._senders[sender] = made, loop.create_task(self._answers(made, sender))
        return self._senders[sender][0]

    def _forget(self, now: float) -> None:
        for sender in list(self._seen):
            if now - self._seen[sender] < _IDLE and len(self._senders) < _MOST_SENDERS:
                break
            if sender in self._senders:
                del self._seen[sender]
                made, task = self._senders.pop(sender)
                task.cancel()
                made.close()

    async def _answers(self, server: socket.socket, sender: object) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                data = await loop.sock_recv(server, _BLOCK)
                await loop.sock_sendto(self._listening, data, sender)  # type: ignore[arg-type]
            except OSError:
                await asyncio.sleep(0.01)


if __name__ == "__main__":
    main()
