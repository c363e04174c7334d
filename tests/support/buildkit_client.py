"""A client of BuildKit as ``docker buildx`` is one: it hands in a build, and answers what the daemon asks for."""

from __future__ import annotations

import asyncio
import io
import tarfile
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from isola.doors.docker.buildkit.calls import Call, Code, Failure, Method, answer, calling, only, require_ok
from isola.doors.docker.buildkit.http2 import Broken, Connection, Link, Stream
from isola.doors.docker.buildkit.sessions import Session
from isola.doors.docker.buildkit.tunnel import Tunnel
from isola.doors.docker.buildkit.wire import Message, message

STAT, REQUEST, DATA, FINISHED = range(4)
CONTROL, BRIDGE = "/moby.buildkit.v1.Control/", "/moby.buildkit.v1.frontend.LLBBridge/"


class StreamLink:
    """Bytes of a pair of asyncio's streams."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def read(self, size: int) -> bytes:
        return await self._reader.readexactly(size)

    async def write(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    def close(self) -> None:
        self._writer.close()


def file_stat(path: str, content: bytes = b"", *, mode: int = 0o644, link: str = "", size: int | None = None) -> bytes:
    """One of the list of files; modes are those of Go."""
    return message({1: path, 2: mode, 5: len(content) if size is None else size, 6: 10**18, 7: link})


@dataclass
class Files:
    """What a client offers: directories by name, each with stats and content in the order of the list."""

    directories: Mapping[str, Sequence[tuple[bytes, bytes]]]
    secrets: Mapping[str, bytes] = field(default_factory=dict)
    upload: bytes = b""
    passwords: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    """User and password by host."""
    asked: list[Mapping[str, list[str]]] = field(default_factory=list)
    """Metadata of all transfers."""
    received: dict[str, bytes] = field(default_factory=dict)
    """Files of results by path; what came as one archive is without a path."""
    refuses: str = ""
    """Why no result is taken."""

    @property
    def methods(self) -> dict[str, Method]:
        """By path."""
        return {
            "/moby.filesync.v1.FileSync/DiffCopy": self._copy,
            "/moby.filesync.v1.Auth/Credentials": self._password,
            "/moby.buildkit.secrets.v1.Secrets/GetSecret": self._secret,
            "/moby.upload.v1.Upload/Pull": self._pull,
            "/moby.filesync.v1.FileSend/DiffCopy": self._receive,
        }

    async def serve(self, stream: Stream) -> None:
        """One call."""
        await answer(stream, self.methods, "not here")

    async def _copy(self, call: Call) -> AsyncIterator[bytes]:
        metadata: dict[str, list[str]] = {}
        for name, value in call.stream.headers:
            metadata.setdefault(name.decode(), []).append(value.decode())
        self.asked.append(metadata)
        include = metadata.get("include-patterns")
        found = [
            each
            for each in self.directories[metadata["dir-name"][0]]
            if include is None or Message(each[0]).text(1) in include
        ]
        for each, _ in found:
            yield message({2: each})
        yield message({})
        while (data := await call.read()) is not None:
            packet = Message(data)
            if packet.number(1) == FINISHED:
                yield message({1: FINISHED})
                return
            content = found[packet.number(3)][1]
            for at in range(0, len(content), 32768):
                yield message({1: DATA, 3: packet.number(3), 4: content[at : at + 32768]})
            yield message({1: DATA, 3: packet.number(3)})

    async def _password(self, call: Call) -> AsyncIterator[bytes]:
        user, password = self.passwords.get(Message(await only(call)).text(1), ("", ""))
        yield message({1: user, 2: password})

    async def _secret(self, call: Call) -> AsyncIterator[bytes]:
        name = Message(await only(call)).text(1)
        if name not in self.secrets:
            raise Failure(Code.NOT_FOUND, "no such secret")
        yield message({1: self.secrets[name]})

    async def _receive(self, call: Call) -> AsyncIterator[bytes]:
        if self.refuses:
            raise Failure(Code.UNKNOWN, self.refuses)
        listed, pending = list[Message](), 0
        while (data := await call.read()) is not None:
            packet = Message(data)
            if packet.blobs(1):
                self.received[""] = self.received.get("", b"") + packet.blob(1)
            elif packet.number(1) == DATA and packet.blob(4):
                self.received[listed[packet.number(3)].text(1)] += packet.blob(4)
            elif packet.number(1) == DATA:
                pending -= 1
            elif packet.number(1) == STAT and packet.has(2):
                listed.append(packet.inside(2))
                continue
            elif packet.number(1) == STAT:
                wanted = [number for number, each in enumerate(listed) if not each.number(2) >> 27]
                pending = len(wanted)
                self.received |= {each.text(1): each.text(7).encode() for each in listed}
                for number in wanted:
                    yield message({1: REQUEST, 3: number})
            else:
                continue
            if not packet.blobs(1) and not pending:
                yield message({1: FINISHED})

    async def _pull(self, call: Call) -> AsyncIterator[bytes]:
        yield message({1: self.upload})


def files_of(**content: bytes | str) -> list[tuple[bytes, bytes]]:
    """Regular files; ``__`` in a name is a slash."""
    found = {
        name.replace("__", "/"): text.encode() if isinstance(text, str) else text for name, text in content.items()
    }
    return [(file_stat(name, data), data) for name, data in sorted(found.items())]


def tar_of(**content: str) -> bytes:
    """The same as an archive."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, text in content.items():
            info = tarfile.TarInfo(name)
            info.size = len(text)
            archive.addfile(info, io.BytesIO(text.encode()))
    return buffer.getvalue()


@asynccontextmanager
async def pair() -> AsyncIterator[tuple[StreamLink, StreamLink]]:
    """Two ends of a connection."""
    accepted: asyncio.Future[StreamLink] = asyncio.get_running_loop().create_future()
    server = await asyncio.start_server(
        lambda reader, writer: accepted.set_result(StreamLink(reader, writer)), "127.0.0.1", 0
    )
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    ours, theirs = StreamLink(reader, writer), await accepted
    try:
        yield ours, theirs
    finally:
        ours.close()
        theirs.close()
        server.close()


@asynccontextmanager
async def running(*connections: Connection) -> AsyncIterator[None]:
    """Both sides, for the duration of the block."""
    tasks = [asyncio.ensure_future(each.run()) for each in connections]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        for ended in await asyncio.gather(*tasks, return_exceptions=True):
            if ended is not None and not isinstance(ended, asyncio.CancelledError | Broken):
                raise ended


@asynccontextmanager
async def session(
    methods: Mapping[str, Method], watch: Callable[[Link], Link] = lambda link: link
) -> AsyncIterator[Session]:
    """The daemon's side of a session with a client that offers these methods; ``watch``: its end of the connection."""

    async def serve(stream: Stream) -> None:
        await answer(stream, methods, "not here")

    async with pair() as (ours, theirs):
        connection = Connection(watch(ours))
        async with running(connection, Connection(theirs, serve)):
            yield Session(connection, frozenset(name.lower() for name in methods))


@asynccontextmanager
async def upgraded(socket: Path, path: str, **headers: Sequence[str]) -> AsyncIterator[StreamLink]:
    """A connection to the door of Docker, taken over."""
    reader, writer = await asyncio.open_unix_connection(str(socket))
    lines = [f"{name.replace('_', '-')}: {value}" for name, values in headers.items() for value in values]
    head = [f"POST {path} HTTP/1.1", "Host: docker", "Connection: Upgrade", "Upgrade: h2c", *lines, "", ""]
    writer.write("\r\n".join(head).encode())
    said = await reader.readuntil(b"\r\n\r\n")
    assert said.startswith(b"HTTP/1.1 101 "), said
    link = StreamLink(reader, writer)
    try:
        yield link
    finally:
        link.close()


@dataclass
class Builder:
    """An open connection with a session."""

    calls: Connection
    session: str
    back: StreamLink
    """Of the session."""
    count: int = 0
    name: str = field(default_factory=lambda: uuid.uuid4().hex)

    def ref(self, number: int) -> str:
        """By which a build is known, of all that were ever asked for."""
        return f"{self.name}-{number}"

    async def ask(self, method: str, request: bytes, **metadata: str) -> bytes:
        """One message and its reply. Raises Failure."""
        async with calling(
            self.calls, method, {name.replace("_", "-"): [each] for name, each in metadata.items()}
        ) as call:
            await call.send(request)
            await call.stream.finish()
            found = await call.read()
            while await call.read() is not None:
                pass
            require_ok(call)
            return found or b""

    async def build(
        self,
        names: str = "",
        options: Mapping[str, str] | None = None,
        exporter: str = "moby",
        *,
        more: Sequence[tuple[str, Mapping[str, str]]] = (),
        inputs: Mapping[str, bytes] | None = None,
        returned: Callable[[Message], Awaitable[object]] | None = None,
    ) -> dict[str, str]:
        """Through the bridge; what the exporters say, the first of them with names. Raises Failure.

        ``inputs``: definitions of other builds; ``returned`` is called with the reference of this one before it ends.
        """
        self.count += 1
        ref = self.ref(self.count)
        exporters = [(exporter, {"name": names}), *more] if exporter else more
        wanted = message({1: ref, 5: self.session, 13: [message({1: kind, 2: each}) for kind, each in exporters]})
        whole = asyncio.ensure_future(self.ask(f"{CONTROL}Solve", wanted))
        try:
            done, _ = await asyncio.wait([whole], timeout=0.05)
            if not done:
                bridge = {"buildkit_controlapi_buildid": ref}
                request = message({2: "dockerfile.v0", 3: options or {}, 5: True, 13: inputs or {}})
                result = Message(await self.ask(f"{BRIDGE}Solve", request, **bridge)).inside(3)
                if returned is not None:
                    await returned(result.inside(3))
                await self.ask(f"{BRIDGE}Return", message({1: message({3: result.blob(3)})}), **bridge)
            return Message(await whole).texts(1)
        finally:
            whole.cancel()
            await asyncio.gather(whole, return_exceptions=True)

    async def ask_frontend(self, options: Mapping[str, str]) -> dict[str, bytes]:
        """A question about a Dockerfile; the metadata of its result. Raises Failure."""
        self.count += 1
        ref = self.ref(self.count)
        whole = asyncio.ensure_future(self.ask(f"{CONTROL}Solve", message({1: ref, 5: self.session})))
        try:
            request = message({2: "dockerfile.v0", 3: options})
            found = Message(await self.ask(f"{BRIDGE}Solve", request, buildkit_controlapi_buildid=ref)).inside(3)
            await self.ask(f"{BRIDGE}Return", b"", buildkit_controlapi_buildid=ref)
            await whole
            return {each.text(1): each.blob(2) for each in found.messages(10)}
        finally:
            whole.cancel()
            await asyncio.gather(whole, return_exceptions=True)

    async def told(self, number: int) -> list[Message]:
        """The status of a build, to its end."""
        found = []
        async with calling(self.calls, f"{CONTROL}Status") as call:
            await call.send(message({1: self.ref(number)}))
            await call.stream.finish()
            while (data := await call.read()) is not None:
                found.append(Message(data))
            require_ok(call)
        return found


@asynccontextmanager
async def builder(socket: Path, files: Files, session: str = "s1") -> AsyncIterator[Builder]:
    """A client with a session."""
    who = {"X-Docker-Expose-Session-Uuid": [session], "X-Docker-Expose-Session-Grpc-Method": list(files.methods)}
    async with upgraded(socket, "/v1.50/grpc") as calls, upgraded(socket, "/v1.50/session", **who) as back:
        client, served = Connection(calls), Connection(back, files.serve)
        async with running(client, served):
            yield Builder(client, session, back)


@asynccontextmanager
async def direct(socket: Path, files: Files, session: str = "d1") -> AsyncIterator[Builder]:
    """A client with one connection to the socket for BuildKit alone: its session is a call, too."""
    reader, writer = await asyncio.open_unix_connection(str(socket))
    link = StreamLink(reader, writer)
    client = Connection(link)
    who = {"x-docker-expose-session-uuid": [session], "x-docker-expose-session-grpc-method": list(files.methods)}
    try:
        async with (
            running(client),
            calling(client, f"{CONTROL}Session", who) as call,
            running(Connection(Tunnel(call), files.serve)),
        ):
            yield Builder(client, session, link)
    finally:
        link.close()
