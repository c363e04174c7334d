"""The process for published ports, with real sockets: hand-over, half-closed connections, bounds, restarts."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import tempfile
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from daemon import TIMEOUT_FACTOR
from netns import Netns

from isola.devices.port_forwarder import PortForwarder
from isola.errors import HostFailure
from isola.host.linux import linux_host
from isola.host.published.message import Address, Endpoint

FIRST, SECOND = ("127.0.0.7", 17080), ("127.0.0.8", 17080)
PORT: Endpoint = ("tcp", "127.0.0.1", 17000)
OTHER: Endpoint = ("tcp", "127.0.0.1", 17001)


@contextlib.contextmanager
def server(address: Address) -> Iterator[None]:
    """Answers with its address and all that it has read, once the client has ended its side."""
    listener = socket.create_server(address, backlog=1024)

    def serve(client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):
            client.sendall(f"{address[0]} ".encode())
            while block := client.recv(65536):
                client.sendall(block)
            client.sendall(b" end")

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(60)


@pytest.fixture
def servers(netns: Netns) -> Iterator[None]:
    with server(FIRST), server(SECOND):
        yield


@pytest.fixture
async def ports(netns: Netns) -> AsyncIterator[PortForwarder]:
    with tempfile.TemporaryDirectory(prefix="isola-ports-" + "x" * 80) as directory:
        made = PortForwarder(linux_host(), Path(directory) / "ports")
        yield made
        await made.drop("old", "new", "a", "b")
        assert pid(Path(directory)) is None


def pid(directory: Path) -> int | None:
    """Of the process that serves this directory."""
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdecimal() and f"{directory}/".encode() in (entry / "cmdline").read_bytes():
                return int(entry.name)
    return None


def status_of(process: int | None) -> dict[str, str]:
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return dict(line.split(":\t", 1) for line in lines if ":\t" in line)


def connected(endpoint: Endpoint = PORT) -> socket.socket:
    return socket.create_connection(endpoint[1:], timeout=60 * TIMEOUT_FACTOR)


def rest(client: socket.socket, data: bytes = b"") -> bytes:
    def send() -> None:
        client.sendall(data)
        client.shutdown(socket.SHUT_WR)

    sender = threading.Thread(target=send)
    sender.start()
    found = b"".join(iter(lambda: client.recv(1 << 20), b""))
    sender.join()
    client.close()
    return found


async def ask(endpoint: Endpoint = PORT, data: bytes = b"hello") -> bytes:
    return await asyncio.to_thread(lambda: rest(connected(endpoint), data))


async def test_both_directions_and_an_end_that_is_passed_on(ports: PortForwarder, servers: None) -> None:
    await ports.publish("a", {PORT: FIRST})
    big = os.urandom(8 << 20)
    assert await ask(data=big) == b"127.0.0.7 " + big + b" end"
    assert await ask(data=b"") == b"127.0.0.7  end"


async def test_hand_over_keeps_connections_and_refuses_nobody(ports: PortForwarder, servers: None) -> None:
    await ports.publish("old", {PORT: FIRST})
    before = connected()
    assert before.recv(100) == b"127.0.0.7 "
    stop, answers, failures = threading.Event(), list[bytes](), list[Exception]()

    def knock() -> None:
        while not stop.is_set():
            try:
                answers.append(rest(connected(), b"x"))
            except OSError as error:
                failures.append(error)

    clients = [threading.Thread(target=knock) for _ in range(4)]
    for client in clients:
        client.start()
    for _ in range(10):
        await ports.hand_over({"new": {PORT: SECOND}}, ["old"])
        assert (await ask()).startswith(b"127.0.0.8 ")
        await ports.hand_over({"old": {PORT: FIRST}}, ["new"])
        assert (await ask()).startswith(b"127.0.0.7 ")
    stop.set()
    for client in clients:
        await asyncio.to_thread(client.join)
    assert not failures and {answer[:10] for answer in answers} == {b"127.0.0.7 ", b"127.0.0.8 "}
    assert all(answer.endswith(b"x end") for answer in answers)
    await ports.hand_over({"new": {PORT: SECOND}}, ["old"])
    assert rest(before, b"still") == b"still end"


async def test_connections_of_a_dropped_owner_end(ports: PortForwarder, servers: None) -> None:
    await ports.publish("old", {PORT: FIRST})
    before = connected()
    assert before.recv(100) == b"127.0.0.7 "
    await ports.hand_over({"new": {PORT: SECOND}}, ["old"])
    await ports.drop("old")
    assert before.recv(100) == b""
    before.close()
    assert (await ask()).startswith(b"127.0.0.8 ")


async def test_clients_that_wait_for_the_old_target_get_the_new_one(ports: PortForwarder, servers: None) -> None:
    with socket.create_server(("127.0.0.9", 17080), backlog=0) as full, contextlib.ExitStack() as stack:
        for _ in range(4):  # its queue is full: further clients wait
            client = stack.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(full.getsockname())
        await ports.publish("old", {PORT: full.getsockname()})
        waiting = connected()
        await ports.hand_over({"new": {PORT: SECOND}}, ["old"])
        assert await asyncio.to_thread(rest, waiting, b"y") == b"127.0.0.8 y end"


async def test_a_port_in_use_is_reported_and_nothing_changes(ports: PortForwarder, servers: None) -> None:
    await ports.publish("a", {PORT: FIRST})
    with socket.create_server(OTHER[1:]), pytest.raises(HostFailure) as caught:
        await ports.publish("a", {PORT: SECOND, OTHER: SECOND})
    assert "cannot listen on tcp:127.0.0.1:17001: Address already in use" in caught.value.evidence
    assert (await ask()).startswith(b"127.0.0.7 ")


async def test_killed_it_is_restarted_with_all_ports(ports: PortForwarder, servers: None) -> None:
    await ports.publish("a", {PORT: FIRST})
    await ports.publish("b", {OTHER: SECOND})
    found = pid(ports.directory.parent)
    assert found is not None
    os.kill(found, signal.SIGKILL)
    async with asyncio.timeout(60 * TIMEOUT_FACTOR):
        while not (await ports.listening()).keys() >= {PORT, OTHER}:  # noqa: ASYNC110 - of another process
            await asyncio.sleep(0.05)
    assert (await ask()).startswith(b"127.0.0.7 ") and (await ask(OTHER)).startswith(b"127.0.0.8 ")


async def test_idle_connections_of_one_port_do_not_block_another(ports: PortForwarder, servers: None) -> None:
    await ports.publish("a", {PORT: FIRST})
    await ports.publish("b", {OTHER: SECOND})
    with contextlib.ExitStack() as stack:
        for _ in range(1500):
            stack.enter_context(connected()).settimeout(60 * TIMEOUT_FACTOR)
        assert (await ask(OTHER)).startswith(b"127.0.0.8 ")


async def test_datagrams_are_answered_to_each_sender(ports: PortForwarder) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listener:
        listener.bind(FIRST)
        listener.settimeout(60 * TIMEOUT_FACTOR)
        await ports.publish("a", {("udp", "127.0.0.1", 17000): FIRST})
        senders = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(20)]
        for number, sender in enumerate(senders):
            sender.settimeout(60 * TIMEOUT_FACTOR)
            sender.sendto(b"%d" % number, ("127.0.0.1", 17000))
        for _ in senders:
            data, address = listener.recvfrom(100)
            listener.sendto(b"echo " + data, address)
        for number, sender in enumerate(senders):
            assert sender.recv(100) == b"echo %d" % number
            sender.close()


async def test_it_has_no_privileges_but_ports(ports: PortForwarder) -> None:
    await ports.publish("a", {PORT: FIRST})
    found = pid(ports.directory.parent)
    status = status_of(found)
    assert status["Uid"].split() == ["65534"] * 4 and status["Gid"].split() == ["65534"] * 4
    assert {int(status[f"Cap{kind}"], 16) for kind in ("Prm", "Eff", "Bnd")} == {1 << 10}
    assert status["NoNewPrivs"] == "1"
