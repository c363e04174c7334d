"""The client's WebSockets: split frames, malformed frames, and commands over several connections."""

from __future__ import annotations

import os
import signal
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from served_daemon import ServedDaemon

from isola import errors
from isola.client import Client
from isola.client.failures import BadReply, Unreachable
from isola.client.websocket import WebSocket

SWITCH = b"HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"


def frame(payload: bytes, kind: int = 2, *, final: bool = True) -> bytes:
    size = len(payload)
    head = bytes([(0x80 if final else 0) | kind])
    if size < 126:
        return head + bytes([size]) + payload
    if size < 65536:
        return head + b"\x7e" + struct.pack(">H", size) + payload
    return head + b"\x7f" + struct.pack(">Q", size) + payload


Talk = Callable[[socket.socket], None]


@pytest.fixture
def talk(tmp_path: Path) -> Iterator[Callable[[Talk], WebSocket]]:
    """Open a WebSocket to a server that runs the given function."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "unix.socket"))
    listener.listen()
    threads = []

    def begin(server: Talk) -> WebSocket:
        def serve() -> None:
            link, _ = listener.accept()
            with link:
                while b"\r\n\r\n" not in link.recv(65536):
                    pass
                server(link)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        threads.append(thread)
        return Client(tmp_path, timeout=5).websocket("/1.0/events").accept()

    yield begin
    for thread in threads:
        thread.join(5)
        assert not thread.is_alive()
    listener.close()


def says(*pieces: bytes) -> Talk:
    def send(link: socket.socket) -> None:
        for piece in pieces:
            link.sendall(piece)

    return send


def everything(opened: WebSocket) -> list[bytes | str]:
    return list(iter(opened.receive, None))


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65535, 65536, 3_000_000])
def test_messages_of_all_sizes_arrive_complete(talk: Callable[[Talk], WebSocket], size: int) -> None:
    opened = talk(says(SWITCH + frame(b"x" * size) + frame("grüß".encode(), 1) + frame(b"\x03\xe8", 8)))
    assert everything(opened) == [b"x" * size, "grüß"]
    assert opened.clean


def test_split_frames_and_fragmented_messages_arrive_complete(talk: Callable[[Talk], WebSocket]) -> None:
    stream = SWITCH + frame(b"one", final=False) + frame(b"!", 9) + frame(b"-two", 0) + frame(b"three")
    opened = talk(says(*(stream[i : i + 1] for i in range(len(stream)))))
    assert everything(opened) == [b"one-two", b"three"]
    assert not opened.clean


def test_a_ping_is_answered_in_a_masked_frame(talk: Callable[[Talk], WebSocket]) -> None:
    heard: list[bytes] = []

    def server(link: socket.socket) -> None:
        link.sendall(SWITCH + frame(b"are you there", 9))
        heard.append(link.recv(100))
        link.sendall(frame(b"", 8))

    assert everything(talk(server)) == []
    assert heard == [bytes([0x8A, 0x80 | 13]) + bytes(4) + b"are you there"]


def test_sent_frames_have_a_length_of_the_right_form(talk: Callable[[Talk], WebSocket]) -> None:
    heard = bytearray()
    over = threading.Event()

    def server(link: socket.socket) -> None:
        link.sendall(SWITCH)
        while data := link.recv(65536):
            heard.extend(data)
        over.set()

    opened = talk(server)
    for size in (5, 300, 70_000):
        opened.send(b"y" * size)
    opened.send("text")
    opened.close()
    assert over.wait(5)
    expected = b"\x82\x85" + bytes(4) + b"y" * 5
    expected += b"\x82\xfe" + struct.pack(">H", 300) + bytes(4) + b"y" * 300
    expected += b"\x82\xff" + struct.pack(">Q", 70_000) + bytes(4) + b"y" * 70_000
    expected += b"\x81\x84" + bytes(4) + b"text" + b"\x88\x82" + bytes(4) + b"\x03\xe8"
    assert bytes(heard) == expected


@pytest.mark.parametrize(
    "broken",
    [
        b"\x82\x85" + bytes(9),
        b"\xc2\x01x",
        frame(b"end", 0),
        frame(b"one", final=False) + frame(b"two"),
        b"\x82\x7f" + struct.pack(">Q", 1 << 40),
        b"\x83\x00",
    ],
    ids=["masked", "extension", "continues nothing", "begins twice", "huge", "unknown kind"],
)
def test_malformed_frames_are_refused(talk: Callable[[Talk], WebSocket], broken: bytes) -> None:
    with pytest.raises(BadReply):
        everything(talk(says(SWITCH + broken)))


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (SWITCH.replace(b"s3p", b"xxx"), BadReply),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 15\r\n\r\n" + b'{"type":"sync"}', BadReply),
        (b'HTTP/1.1 404 X\r\nContent-Length: 31\r\n\r\n{"type":"error","error":"gone"}\n', errors.NotFound),
        (b"", Unreachable),
    ],
    ids=["wrong answer", "no upgrade", "error", "silence"],
)
def test_a_failed_handshake_has_a_reason(
    talk: Callable[[Talk], WebSocket], answer: bytes, kind: type[errors.IsolaError]
) -> None:
    with pytest.raises(kind):
        talk(says(answer))


# --- commands over WebSockets ---------------------------------------------------------------------------------------


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[ServedDaemon]:
    with ServedDaemon(tmp_path) as daemon:
        daemon.create("web1")
        yield daemon


def test_a_command_returns_its_output_and_status(client: Client) -> None:
    ended = client.instances.run("web1", ["sh", "-c", "echo out; echo err >&2; exit 7"])
    assert (ended.status, ended.stdout, ended.stderr) == (7, b"out\n", b"err\n")


def test_binary_input_of_any_size_is_returned_unchanged(client: Client) -> None:
    """Both directions are full: neither may block the other."""
    data = os.urandom(1 << 20) * 24
    assert client.instances.run("web1", ["cat"], data).stdout == data


def test_a_command_that_reads_nothing_ends_despite_input(client: Client) -> None:
    assert client.instances.run("web1", ["true"], b"x" * 4_000_000).status == 0


def test_a_command_that_cannot_start_raises_the_operations_error(client: Client) -> None:
    assert client.instances.run("web1", ["missing"]).status == 127
    with pytest.raises(errors.InvalidInput, match="no-such-user"):
        client.instances.run("web1", ["true"], user="no-such-user")


def test_signals_are_sent_over_the_control_channel(client: Client, daemon: ServedDaemon) -> None:
    session = client.instances.exec(
        "web1", ["sh", "-c", "trap 'echo caught; exit 3' TERM; echo ready; while :; do sleep 0.05; done"]
    )
    outputs: list[bytes] = []

    def receive(data: bytes) -> None:
        outputs.append(data)
        if data == b"ready\n":
            session.signal(signal.SIGTERM)

    session.pump(None, {"1": receive, "2": receive})
    assert (session.status(), b"".join(outputs)) == (3, b"ready\ncaught\n")
    assert daemon.signals == [signal.SIGTERM]


def test_the_loss_of_the_daemon_during_a_command_is_noticed(tmp_path: Path) -> None:
    daemon = ServedDaemon(tmp_path)
    with daemon:
        daemon.create("web1")
        client = Client(tmp_path, timeout=20)
        session = client.instances.exec("web1", ["sh", "-c", "echo begun; sleep 20"])
        leave = threading.Event()

        def gone() -> None:
            leave.wait(5)
            daemon.die()

        thread = threading.Thread(target=gone)
        thread.start()
        session.pump(None, {"1": lambda data: leave.set(), "2": bytes})
        with pytest.raises(Unreachable, match="lost"):
            session.status()
        thread.join(10)
