"""The forwarder between two network namespaces: streams, datagrams, Unix sockets, PROXY protocol, privileges."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from daemon import TIMEOUT_FACTOR
from netns import Guest, Netns
from waiting import until

from isola.host.forwarder import NOBODY, Side, Spec

ECHO = """
import socket, sys, threading
kind, where = sys.argv[1], sys.argv[2:]
family = socket.AF_UNIX if kind == "unix" else socket.AF_INET
server = socket.socket(family, socket.SOCK_DGRAM if kind == "udp" else socket.SOCK_STREAM)
server.bind(where[0] if kind == "unix" else (where[0], int(where[1])))
if kind == "udp":
    print("ready", flush=True)
    while True:
        data, sender = server.recvfrom(65536)
        server.sendto(b"echo " + data, sender)
server.listen(64)
print("ready", flush=True)
def serve(client):
    data = b""
    while block := client.recv(65536):
        data += block
    client.sendall(b"echo " + data)
    client.close()
while True:
    threading.Thread(target=serve, args=(server.accept()[0],)).start()
"""


@pytest.fixture
def place() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="isola-forwarder-") as directory:
        Path(directory).chmod(0o755)
        yield Path(directory)


@contextlib.contextmanager
def echo(*arguments: str, guest: Guest | None = None) -> Iterator[None]:
    argv = [sys.executable, "-c", ECHO, *arguments]
    server = subprocess.Popen(guest.command(*argv) if guest else argv, stdout=subprocess.PIPE)
    assert server.stdout is not None and server.stdout.readline() == b"ready\n"
    try:
        yield
    finally:
        server.kill()
        server.wait()


@contextlib.contextmanager
def forwarder(spec: Spec, said: str = "ready") -> Iterator[subprocess.Popen[bytes]]:
    argv = [sys.executable, "-I", "-m", "isola.host.forwarder", spec.text()]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, start_new_session=True, close_fds=False)
    assert process.stdout is not None
    line = process.stdout.readline().decode().strip()
    assert said in line, line
    try:
        yield process
    finally:
        process.terminate()
        process.wait(60)


def ask(data: bytes, port: int, host: str = "127.0.0.1") -> bytes:
    with socket.create_connection((host, port), timeout=5 * TIMEOUT_FACTOR) as client:
        return talk(client, data)


def talk(client: socket.socket, data: bytes) -> bytes:
    client.settimeout(5 * TIMEOUT_FACTOR)
    client.sendall(data)
    client.shutdown(socket.SHUT_WR)
    answer = b""
    while block := client.recv(65536):
        answer += block
    return answer


def loopback(guest: Guest) -> Guest:
    subprocess.run(guest.command("ip", "link", "set", "lo", "up"), check=True)
    return guest


def network(guest: Guest) -> str:
    return f"/proc/{guest.pid}/ns/net"


def test_streams_are_forwarded_without_privileges(netns: Netns) -> None:
    guest = loopback(netns.guest())
    spec = Spec(Side("tcp", "127.0.0.1", (7000, 7001)), Side("tcp", "127.0.0.1", (80,), network=network(guest)))
    with echo("tcp", "127.0.0.1", "80", guest=guest), forwarder(spec) as process:
        big = os.urandom(3 << 20)
        assert ask(big, 7000) == b"echo " + big
        clients = [socket.create_connection(("127.0.0.1", 7001), timeout=5 * TIMEOUT_FACTOR) for _ in range(50)]
        for number, client in enumerate(clients):
            assert talk(client, b"%d" % number) == b"echo %d" % number
            client.close()
        status = dict(
            line.split(":\t", 1)
            for line in Path(f"/proc/{process.pid}/status").read_text().splitlines()
            if ":\t" in line
        )
        assert status["Uid"].split() == [str(NOBODY)] * 4 and status["Gid"].split() == [str(NOBODY)] * 4
        assert {int(status[f"Cap{kind}"], 16) for kind in ("Inh", "Prm", "Eff", "Bnd", "Amb")} == {0}
        assert status["NoNewPrivs"] == "1"


def test_a_missing_server_ends_the_connection_only(netns: Netns) -> None:
    guest = loopback(netns.guest())
    spec = Spec(Side("tcp", "127.0.0.1", (7000,)), Side("tcp", "127.0.0.1", (80,), network=network(guest)))
    with forwarder(spec):
        assert ask(b"", 7000) == b""
        with echo("tcp", "127.0.0.1", "80", guest=guest):
            assert ask(b"now", 7000) == b"echo now"


def test_it_listens_inside_for_a_server_of_the_host(netns: Netns) -> None:
    guest = loopback(netns.guest())
    spec = Spec(Side("tcp", "127.0.0.1", (81,), network=network(guest)), Side("tcp", "127.0.0.1", (7002,)))
    code = "import socket;s=socket.create_connection(('127.0.0.1',81));s.sendall(b'x');s.shutdown(1);print(s.recv(99))"
    with echo("tcp", "127.0.0.1", "7002"), forwarder(spec):
        told = subprocess.run(guest.command(sys.executable, "-c", code), capture_output=True, check=True, timeout=120)
        assert told.stdout.strip() == b"b'echo x'"


def test_replies_to_datagrams_reach_each_sender(netns: Netns) -> None:
    guest = loopback(netns.guest())
    spec = Spec(Side("udp", "127.0.0.1", (7003,)), Side("udp", "127.0.0.1", (53,), network=network(guest)))
    with echo("udp", "127.0.0.1", "53", guest=guest), forwarder(spec):
        senders = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(20)]
        for number, sender in enumerate(senders):
            sender.settimeout(5 * TIMEOUT_FACTOR)
            sender.sendto(b"%d" % number, ("127.0.0.1", 7003))
        for number, sender in enumerate(senders):
            assert sender.recv(100) == b"echo %d" % number
            sender.close()


def test_unix_sockets_have_their_owner_and_are_removed(netns: Netns, place: Path) -> None:
    path, server = place / "listen", place / "server"
    spec = Spec(
        Side("unix", str(path)),
        Side("unix", str(server)),
        socket_owner=(1234, 5678),
        socket_mode=0o620,
        user=0,
        group=0,
    )
    with echo("unix", str(server)), forwarder(spec) as process:
        seen = path.lstat()
        assert (seen.st_uid, seen.st_gid, stat.S_IMODE(seen.st_mode)) == (1234, 5678, 0o620)
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
            assert talk(client, b"hello") == b"echo hello"
        process.terminate()
        process.wait(60)
        assert not path.exists()


def test_paths_inside_are_resolved_inside(netns: Netns, place: Path) -> None:
    inside = place / "root"
    (inside / "run").mkdir(parents=True)
    (inside / "run/evil").symlink_to("/../../../../etc")
    (inside / "etc").mkdir()
    child = os.fork()
    if child == 0:
        os.chroot(inside)
        time.sleep(60)
        os._exit(0)
    root = -1
    try:
        until(lambda: os.readlink(f"/proc/{child}/root") == str(inside))
        root = os.open(f"/proc/{child}/root", os.O_PATH | os.O_DIRECTORY)
        os.set_inheritable(root, True)
        spec = Spec(
            Side("unix", "/run/evil/socket", rooted=True), Side("tcp", "127.0.0.1", (1,)), user=0, group=0, root=root
        )
        with forwarder(spec):
            assert (inside / "etc/socket").is_socket() and not Path("/etc/socket").exists()
        spec = replace(spec, listen=Side("tcp", "127.0.0.1", (7004,)), connect=Side("unix", "/run/evil/s", rooted=True))
        with echo("unix", str(inside / "etc/s")), forwarder(spec):
            assert ask(b"in", 7004) == b"echo in"
    finally:
        if root >= 0:
            os.close(root)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_the_proxy_protocol_names_the_client(netns: Netns) -> None:
    guest = loopback(netns.guest())
    spec = Spec(
        Side("tcp", "127.0.0.1", (7005,)), Side("tcp", "127.0.0.1", (80,), network=network(guest)), proxy_protocol=True
    )
    server, client = echo("tcp", "127.0.0.1", "80", guest=guest), socket.socket()
    with server, forwarder(spec), client:
        client.connect(("127.0.0.1", 7005))
        port = client.getsockname()[1]
        assert talk(client, b"GET") == f"echo PROXY TCP4 127.0.0.1 127.0.0.1 {port} 7005\r\nGET".encode()


def test_an_address_in_use_is_reported(netns: Netns) -> None:
    with socket.create_server(("127.0.0.1", 7006)):
        spec = Spec(Side("tcp", "127.0.0.1", (7006,)), Side("tcp", "127.0.0.1", (1,)))
        with forwarder(spec, said="cannot listen on tcp:127.0.0.1:7006: Address already in use"):
            pass
