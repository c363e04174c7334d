"""Echo servers and clients in given network namespaces; responses contain the sender's address and the data."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence

from daemon import TIMEOUT_FACTOR

_SERVER = """
import os, socket, sys, threading
kind, where = sys.argv[1], sys.argv[2:]
if kind == "unix":
    family, address = socket.AF_UNIX, where[0].replace("@", chr(0))
else:
    family, address = socket.AF_INET6 if ":" in where[0] else socket.AF_INET, (where[0], int(where[1]))
server = socket.socket(family, socket.SOCK_DGRAM if kind == "udp" else socket.SOCK_STREAM)
server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
server.bind(address)
if kind == "unix" and not where[0].startswith("@"):
    os.chmod(where[0], 0o777)
shown = lambda sender: sender[0].encode() if kind != "unix" else b"local"
if kind != "udp":
    server.listen(16)
print("ready", flush=True)
while kind == "udp":
    data, sender = server.recvfrom(65536)
    server.sendto(shown(sender) + b" " + data, sender)
def serve(client, sender):
    with client:
        data = b""
        while block := client.recv(65536):
            data += block
        client.sendall(shown(sender) + b" " + data)
while True:
    threading.Thread(target=serve, args=server.accept(), daemon=True).start()
"""
_CLIENT = """
import socket, sys
seconds, kind, data, where = sys.argv[1], sys.argv[2], sys.argv[3].encode(), sys.argv[4:]
if kind == "unix":
    family, address = socket.AF_UNIX, where[0].replace("@", chr(0))
else:
    family, address = socket.AF_INET6 if ":" in where[0] else socket.AF_INET, (where[0], int(where[1]))
client = socket.socket(family, socket.SOCK_DGRAM if kind == "udp" else socket.SOCK_STREAM)
client.settimeout(float(seconds))
try:
    client.connect(address)
    client.sendall(data)
    if kind == "udp":
        print(client.recv(65536).decode())
    else:
        client.shutdown(socket.SHUT_WR)
        print(b"".join(iter(lambda: client.recv(65536), b"")).decode())
except OSError as error:
    print("error:", type(error).__name__)
"""
Enter = Sequence[str]
"""The first arguments of a command that runs in a network namespace."""


@contextlib.contextmanager
def echo(enter: Enter, kind: str, *where: str) -> Iterator[None]:
    """A server at ``tcp ADDRESS PORT``, ``udp ADDRESS PORT`` or ``unix PATH``; answers ``SENDER DATA``."""
    server = subprocess.Popen([*enter, sys.executable, "-c", _SERVER, kind, *where], stdout=subprocess.PIPE)
    assert server.stdout is not None
    with server.stdout:
        try:
            assert server.stdout.readline() == b"ready\n"
            yield
        finally:
            server.kill()
            server.wait()


def ask(enter: Enter, data: str, kind: str, *where: str, seconds: float = 5) -> str:
    """A server's response, or ``error: ConnectionRefusedError``."""
    done = subprocess.run(
        [*enter, sys.executable, "-c", _CLIENT, str(seconds * TIMEOUT_FACTOR), kind, data, *where],
        capture_output=True, check=True, timeout=120 * TIMEOUT_FACTOR,
    )  # fmt: skip
    return done.stdout.decode().strip()


def until_answer(wanted: str, enter: Enter, data: str, kind: str, *where: str, seconds: float = 60) -> None:
    """Ask again until the response is the expected one."""
    end = time.monotonic() + seconds * TIMEOUT_FACTOR
    while (found := ask(enter, data, kind, *where)) != wanted:
        assert time.monotonic() < end, found
        time.sleep(0.1)
