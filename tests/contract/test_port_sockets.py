"""The contract of ``Sockets``: terminals, pipes, packet sockets and growing files."""

import asyncio
import fcntl
import os
import shutil
import socket
import stat
import struct
import tempfile
import termios
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Protocol

import pytest
from descriptors import closed_since, descriptors

from isola.errors import HostFailure, NotFound
from isola.host.process import LinuxProcesses
from isola.host.sockets import LinuxSockets, Sockets, Stream
from isola.host.stream import DescriptorStream
from isola.testing.sockets import FakeSockets


class Side(Protocol):
    """The peers of the ports, so that a test can act as the child and the server."""

    @property
    def sockets(self) -> Sockets: ...

    def child(self, descriptor: int) -> Stream:
        """The stream of a child that has inherited this descriptor."""

    def listen(self, path: Path) -> Callable[[], Stream]:
        """Serve a packet socket; call the result to accept."""

    def connect(self, path: Path) -> Stream:
        """A program's connection to a listener."""

    def append(self, path: Path, data: bytes) -> None: ...

    def fifo(self, path: Path) -> Callable[[], bytes]:
        """Create a FIFO and read it; the returned function returns the data so far."""


class FakeSide:
    def __init__(self) -> None:
        self.sockets = FakeSockets()

    def child(self, descriptor: int) -> Stream:
        return self.sockets.far(descriptor)

    def listen(self, path: Path) -> Callable[[], Stream]:
        return self.sockets.listen(path).get_nowait

    def connect(self, path: Path) -> Stream:
        return self.sockets.listeners[path].connect()

    def append(self, path: Path, data: bytes) -> None:
        self.sockets.append(path, data)

    def fifo(self, path: Path) -> Callable[[], bytes]:
        messages = self.sockets.posted.setdefault(path, [])
        return lambda: b"".join(messages)


class LinuxSide:
    def __init__(self) -> None:
        self.sockets = LinuxSockets()
        self.open: list[Callable[[], None]] = []

    def child(self, descriptor: int) -> Stream:
        return self._keep(DescriptorStream(os.dup(descriptor)))

    def listen(self, path: Path) -> Callable[[], Stream]:
        server = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.open.append(server.close)
        place = os.open(path.parent, os.O_PATH)
        server.bind(f"/proc/self/fd/{place}/{path.name}")
        os.close(place)
        server.listen()
        return lambda: self._keep(DescriptorStream(server.accept()[0].detach()))

    def connect(self, path: Path) -> Stream:
        place = os.open(path.parent, os.O_PATH)
        program = socket.socket(socket.AF_UNIX)
        program.connect(f"/proc/self/fd/{place}/{path.name}")
        os.close(place)
        return self._keep(DescriptorStream(program.detach()))

    def append(self, path: Path, data: bytes) -> None:
        with path.open("ab") as file:
            file.write(data)

    def fifo(self, path: Path) -> Callable[[], bytes]:
        os.mkfifo(path)
        reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        self.open.append(lambda: os.close(reader))
        return lambda: os.read(reader, 4096)

    def _keep(self, stream: DescriptorStream) -> Stream:
        self.open.append(stream.close)
        return stream


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory with a path longer than the limit of socket addresses."""
    short = Path(tempfile.mkdtemp(prefix="isola-sockets-"))
    long = short / ("d" * 120) / ("e" * 120)
    long.mkdir(parents=True)
    yield long
    shutil.rmtree(short)


@pytest.fixture(params=["fake", "linux"])
async def side(request: pytest.FixtureRequest) -> AsyncIterator[Side]:
    if request.param == "fake":
        yield FakeSide()
        return
    before = descriptors()
    linux = LinuxSide()
    yield linux
    for close in linux.open:
        close()
    await closed_since(before)


async def all_of(stream: Stream) -> bytes:
    content = b""
    while block := await stream.read():
        assert len(block) <= 65536
        content += block
    return content


async def test_pipe_to_child_transfers_all_data_then_eof(side: Side) -> None:
    pipe = side.sockets.pipe_to_child()
    child = side.child(pipe.remote)
    pipe.close_remote()
    data = bytes(range(256)) * 4000
    reading = asyncio.create_task(all_of(child))
    await pipe.stream.write(data)
    pipe.stream.close()
    assert await asyncio.wait_for(reading, 60) == data


async def test_pipe_from_child_transfers_all_data_then_eof(side: Side) -> None:
    pipe = side.sockets.pipe_from_child()
    child = side.child(pipe.remote)
    pipe.close_remote()
    reading = asyncio.create_task(all_of(pipe.stream))
    await child.write(b"x" * 300_000)
    child.close()
    assert await asyncio.wait_for(reading, 60) == b"x" * 300_000
    pipe.stream.close()


async def test_both_ends_of_a_pair_read_and_write(side: Side) -> None:
    pipe = side.sockets.pair_with_child()
    child = side.child(pipe.remote)
    pipe.close_remote()
    await pipe.stream.write(b"question")
    assert await asyncio.wait_for(child.read(), 60) == b"question"
    await child.write(b"answer")
    assert await asyncio.wait_for(pipe.stream.read(), 60) == b"answer"
    child.close()
    assert await asyncio.wait_for(pipe.stream.read(), 60) == b""
    pipe.stream.close()


async def test_pipe_without_a_remote_end_is_at_eof(side: Side) -> None:
    pipe = side.sockets.pipe_from_child()
    pipe.close_remote()
    pipe.close_remote()
    assert await asyncio.wait_for(pipe.stream.read(), 60) == b""
    pipe.stream.close()


async def test_write_to_an_ended_child_is_silent(side: Side) -> None:
    pipe = side.sockets.pipe_to_child()
    child = side.child(pipe.remote)
    pipe.close_remote()
    child.close()
    await asyncio.wait_for(pipe.stream.write(b"x" * 1_000_000), 60)
    pipe.stream.close()


async def test_close_wakes_the_reader_and_may_be_repeated(side: Side) -> None:
    pipe = side.sockets.pipe_from_child()
    reading = asyncio.create_task(pipe.stream.read())
    await asyncio.sleep(0.01)
    assert not reading.done()
    pipe.stream.close()
    pipe.stream.close()
    assert await asyncio.wait_for(reading, 60) == b""
    assert await pipe.stream.read() == b""
    await pipe.stream.write(b"discarded")
    pipe.close_remote()


async def test_reading_may_be_cancelled_and_repeated(side: Side) -> None:
    pipe = side.sockets.pipe_from_child()
    child = side.child(pipe.remote)
    pipe.close_remote()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(pipe.stream.read(), 0.02)
    await child.write(b"late")
    assert await asyncio.wait_for(pipe.stream.read(), 60) == b"late"
    pipe.stream.close()


async def test_a_stream_that_always_has_data_lets_others_run(side: Side) -> None:
    pipe = side.sockets.pipe_from_child()
    child = side.child(pipe.remote)
    pipe.close_remote()
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    for _ in range(20):
        await child.write(b"x")
        assert await pipe.stream.read() == b"x"
    task.cancel()
    assert turns >= 20
    pipe.stream.close()


async def test_terminal_transfers_both_ways_and_hangs_up(side: Side) -> None:
    terminal = side.sockets.terminal()
    child = side.child(terminal.slave)
    terminal.close_slave()
    terminal.close_slave()
    await terminal.stream.write(b"typed\n")
    assert await asyncio.wait_for(child.read(), 60) == b"typed\n"
    await child.write(b"shown")
    child.close()
    assert (await asyncio.wait_for(all_of(terminal.stream), 60)).endswith(b"shown")
    terminal.stream.close()
    terminal.resize(10, 10)


async def test_terminal_without_a_child_hangs_up(side: Side) -> None:
    terminal = side.sockets.terminal()
    terminal.close_slave()
    assert await asyncio.wait_for(terminal.stream.read(), 60) == b""
    terminal.stream.close()


async def test_packets_keep_their_boundaries(side: Side, place: Path) -> None:
    accept = side.listen(place / "attach")
    near = await side.sockets.connect_packets(place / "attach")
    far = accept()
    await far.write(b"\x02out")
    await far.write(b"\x03err")
    assert [await near.read(), await near.read()] == [b"\x02out", b"\x03err"]
    await near.write(b"in")
    assert await far.read() == b"in"
    far.close()
    assert await near.read() == b""
    await near.write(b"discarded")
    near.close()


async def test_a_paused_connection_stays_open_and_reads_nothing_more(side: Side, place: Path) -> None:
    accept = side.listen(place / "attach")
    near = await side.sockets.connect_packets(place / "attach")
    far = accept()
    near.pause()
    near.pause()
    await far.write(b"nothing reads this")
    await near.write(b"said")
    assert await far.read() == b"said"
    near.close()
    assert await far.read() == b""
    near.pause()


async def test_large_writes_are_split_into_packets(side: Side, place: Path) -> None:
    accept = side.listen(place / "attach")
    near = await side.sockets.connect_packets(place / "attach")
    far = accept()
    await near.write(b"z" * 20_000)
    assert [len(await far.read()) for _ in range(3)] == [8192, 8192, 3616]
    near.close()


async def test_a_missing_socket_is_not_found(side: Side, place: Path) -> None:
    with pytest.raises(NotFound):
        await side.sockets.connect_packets(place / "attach")


async def test_follow_returns_existing_and_new_data(side: Side, place: Path) -> None:
    side.append(place / "log", b"one")
    seen: list[bytes] = []

    async def follow() -> None:
        async for block in side.sockets.follow(place / "log"):
            seen.append(block)

    task = asyncio.create_task(follow())
    await until(lambda: seen == [b"one"])
    side.append(place / "log", b"two")
    await until(lambda: seen == [b"one", b"two"])
    assert not task.done()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_follow_waits_for_a_missing_file(side: Side, place: Path) -> None:
    following = side.sockets.follow(place / "log")
    first = asyncio.ensure_future(anext(following))
    await asyncio.sleep(0.02)
    assert not first.done()
    side.append(place / "other", b"no")
    side.append(place / "log", b"yes")
    assert await asyncio.wait_for(first, 60) == b"yes"
    await following.aclose()


async def test_posts_reach_the_reader_of_a_fifo_if_there_is_one(side: Side, place: Path) -> None:
    assert not side.sockets.post(place / "control", b"1 25 80\n")
    arrived = side.fifo(place / "control")
    assert side.sockets.post(place / "control", b"1 25 80\n")
    assert side.sockets.post(place / "control", b"2 0 0\n")
    assert arrived() == b"1 25 80\n2 0 0\n"


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(6000):
        if condition():
            return
        await asyncio.sleep(0.01)
    pytest.fail("it did not happen")


# From here on: tests with real descriptors only.


async def test_size_and_owner_of_a_real_terminal() -> None:
    terminal = LinuxSockets().terminal(100, 40, owner=100_000)
    assert os.fstat(terminal.slave).st_uid == 100_000
    assert window(terminal.slave) == (100, 40)
    terminal.resize(90, 30)
    assert window(terminal.slave) == (90, 30)
    terminal.resize(10**6, 10**6)
    assert window(terminal.slave) == (65535, 65535)
    terminal.stream.close()
    terminal.close_slave()


async def test_a_raw_terminal_passes_everything_unchanged() -> None:
    terminal = LinuxSockets().terminal(raw=True)
    child = DescriptorStream(os.dup(terminal.slave))
    terminal.close_slave()
    await terminal.stream.write(b"in\r\n\x03\x04")
    assert await child.read() == b"in\r\n\x03\x04"
    await child.write(b"out\n")
    child.close()
    assert await all_of(terminal.stream) == b"out\n"
    terminal.stream.close()


async def test_posts_do_not_go_into_ordinary_files_or_through_links(place: Path) -> None:
    (place / "file").touch()
    (place / "link").symlink_to(place / "file")
    assert not LinuxSockets().post(place / "file", b"x")
    assert not LinuxSockets().post(place / "link", b"x")
    assert (place / "file").read_bytes() == b""


async def test_a_single_post_removes_the_fifo(place: Path) -> None:
    fifo = place / "fifo"
    os.mkfifo(fifo)
    assert not LinuxSockets().post(fifo, b"x", once=True) and fifo.exists()  # it has no reader
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    try:
        assert LinuxSockets().post(fifo, b"x", once=True) and not fifo.exists()
        assert os.read(reader, 9) == b"x"
    finally:
        os.close(reader)


async def test_terminal_without_a_size_has_the_default() -> None:
    terminal = LinuxSockets().terminal()
    assert window(terminal.slave) == (80, 25)
    terminal.stream.close()
    terminal.close_slave()


async def test_a_program_sees_its_terminal() -> None:
    terminal = LinuxSockets().terminal(72, 20)
    slave = terminal.slave
    child = await LinuxProcesses().spawn(["sh", "-c", "tty; stty size"], stdin=slave, stdout=slave, stderr=slave)
    terminal.close_slave()
    shown = await asyncio.wait_for(all_of(terminal.stream), 60)
    assert await child.wait() == 0
    assert shown.startswith(b"/dev/pts/")
    assert shown.endswith(b"20 72\r\n")
    terminal.stream.close()


async def test_refused_connection_has_a_reason(place: Path) -> None:
    side = LinuxSide()
    side.listen(place / "attach")
    side.open[0]()
    with pytest.raises(HostFailure, match="The process that listened there has ended"):
        await side.sockets.connect_packets(place / "attach")


async def test_follow_starts_over_when_the_file_is_truncated_or_replaced(place: Path) -> None:
    side, log = LinuxSide(), place / "log"
    side.append(log, b"first")
    following = side.sockets.follow(log)
    assert await anext(following) == b"first"
    os.truncate(log, 0)
    side.append(log, b"2nd")
    assert await asyncio.wait_for(anext(following), 60) == b"2nd"
    side.append(place / "new", b"third")
    os.rename(place / "new", log)
    assert await asyncio.wait_for(anext(following), 60) == b"third"
    await following.aclose()


async def test_follow_without_a_directory_is_not_found(place: Path) -> None:
    with pytest.raises(NotFound):
        await anext(LinuxSockets().follow(place / "nowhere" / "log"))


def window(descriptor: int) -> tuple[int, int]:
    height, width, _, _ = struct.unpack("HHHH", fcntl.ioctl(descriptor, termios.TIOCGWINSZ, bytes(8)))
    return width, height


async def test_programs_connect_to_a_listener(side: Side, place: Path) -> None:
    listener = side.sockets.listener(place / "agent", mode=0o640, uid=5, gid=6)
    programs = [side.connect(place / "agent") for _ in range(2)]
    for number, program in enumerate(programs):
        ours = await listener.accept()
        await program.write(b"%d" % number)
        assert await ours.read() == b"%d" % number
        await ours.write(b"answer")
        assert await program.read() == b"answer"
        ours.close()
        assert await program.read() == b""
    listener.close()
    listener.close()


async def test_a_listener_has_its_owner_and_leaves_no_socket(place: Path) -> None:
    listener = LinuxSockets().listener(place / "agent", mode=0o640, uid=5, gid=6)
    status = (place / "agent").lstat()
    assert (stat.S_ISSOCK(status.st_mode), stat.S_IMODE(status.st_mode)) == (True, 0o640)
    assert (status.st_uid, status.st_gid) == (5, 6)
    with pytest.raises(HostFailure):
        LinuxSockets().listener(place / "agent", mode=0o600, uid=0, gid=0)
    listener.close()
    assert os.listdir(place) == []


async def test_a_tcp_port_is_reached_or_refused() -> None:
    server = await asyncio.start_server(lambda reader, writer: writer.write(b"hello\n"), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        stream = await LinuxSockets().reach("127.0.0.1", port)
        assert await stream.read() == b"hello\n"
        stream.close()
    with pytest.raises(HostFailure, match=str(port)):
        await LinuxSockets().reach("127.0.0.1", port)
    fake = FakeSockets()
    with pytest.raises(HostFailure, match="80"):
        await fake.reach("10.0.0.1", 80)
    fake.ports["10.0.0.1", 80] = asyncio.Queue()
    stream = await fake.reach("10.0.0.1", 80)
    await (await fake.ports["10.0.0.1", 80].get()).write(b"hello\n")
    assert await stream.read() == b"hello\n"
