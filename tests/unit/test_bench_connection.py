"""The bench's kept-open connection, and a peer that closes it."""

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from bench.connection import Connection

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


@pytest.fixture
def forgetful(tmp_path: Path) -> Iterator[str]:
    """A server that closes each connection after its response without announcing it."""
    path = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        listening.listen()

        def serve() -> None:
            while True:
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return
                with connection:
                    request = b""
                    # Read to the end of the body: a client that is still sending would get a connection reset.
                    while not request.endswith(b"{}" if request.startswith(b"POST") else b"\r\n\r\n"):
                        block = connection.recv(65536)
                        assert block, "the client has disconnected"
                        request += block
                    connection.sendall(ANSWER)

        thread = threading.Thread(target=serve)
        thread.start()
        yield path
        listening.shutdown(socket.SHUT_RDWR)
        thread.join()


def test_connects_again_when_the_peer_has_closed(forgetful: str) -> None:
    connection = Connection(forgetful)
    assert [connection.get("/") for _ in range(3)] == [b"{}"] * 3
    assert connection.post("/", {}) == {}
    connection.close()
