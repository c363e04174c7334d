"""The client's HTTP: valid responses, in blocks of any size, and invalid ones."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from raw_server import RawServer, reply

from isola import errors
from isola.client import Client
from isola.client.failures import BadReply, Unreachable
from isola.client.http import FileBody

OK = b'{"type":"sync","metadata":{"answer":42}}'


@pytest.fixture
def client(tmp_path: Path) -> Client:
    return Client(tmp_path, timeout=5)


def test_reads_a_response_that_arrives_byte_by_byte(tmp_path: Path, client: Client) -> None:
    RawServer(tmp_path, reply(OK), piece=1)
    assert client.get("/1.0") == {"answer": 42}


def test_reads_chunks_of_any_size_with_extensions_and_trailers(tmp_path: Path, client: Client) -> None:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunks = b"".join(b"%x;name=value\r\n%b\r\n" % (len(OK[i : i + 7]), OK[i : i + 7]) for i in range(0, len(OK), 7))
    RawServer(tmp_path, head + chunks + b"0\r\nChecksum: none\r\n\r\n", piece=3)
    assert client.get("/1.0") == {"answer": 42}


def test_reads_to_the_end_of_the_stream_without_a_length(tmp_path: Path, client: Client) -> None:
    RawServer(tmp_path, b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + OK)
    assert client.get("/1.0") == {"answer": 42}


def test_reuses_the_connection_unless_the_server_has_closed_it(tmp_path: Path, client: Client) -> None:
    server = RawServer(tmp_path, reply(OK), reply(OK), reply(OK, "Connection: close"), reply(OK))
    for _ in range(4):
        assert client.get("/1.0") == {"answer": 42}
    assert len(server.requests) == 4


def test_skips_informational_responses(tmp_path: Path, client: Client) -> None:
    RawServer(tmp_path, b"HTTP/1.1 100 Continue\r\n\r\n" + reply(OK))
    assert client.get("/1.0") == {"answer": 42}


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 abc\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon here\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9999999999999999999999\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}more\r\n",
        b"HTTP/1.1 200 OK\r\n"
        + b"X: y\r\n" * 300
        + b"Y1: 2\r\n"
        + b"".join(b"Z%d: 1\r\n" % i for i in range(300))
        + b"\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 200_000,
        reply(b"<html>not us</html>"),
        reply(b"[1, 2]"),
        reply(b'{"type": "sync"} and more'),
        reply(b'{"type": "sync", "metadata": NaN}'),
        reply(b'{"type": "sync", "metadata": ' + b"[" * 100_000),
        reply(b'{"type": "sync", "metadata": "\xff\xfe"}'),
    ],
    ids=lambda answer: answer[:40].decode(errors="replace"),
)
def test_refuses_responses_that_are_not_of_the_api(tmp_path: Path, client: Client, answer: bytes) -> None:
    RawServer(tmp_path, answer)
    with pytest.raises(BadReply):
        client.get("/1.0")


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200",
        b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
    ],
)
def test_a_connection_lost_in_a_response_is_an_error(tmp_path: Path, client: Client, answer: bytes) -> None:
    RawServer(tmp_path, answer)
    with pytest.raises(Unreachable):
        client.get("/1.0")


def test_a_missing_response_is_a_timeout(tmp_path: Path) -> None:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "unix.socket"))
    listener.listen()
    with pytest.raises(errors.TimedOut), Client(tmp_path, timeout=0.05) as client:
        client.get("/1.0")
    listener.close()


@pytest.mark.parametrize("present", [False, True], ids=["no socket", "no listener"])
def test_a_missing_daemon_is_an_error_with_a_remedy(tmp_path: Path, client: Client, present: bool) -> None:
    if present:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(tmp_path / "unix.socket"))
        listener.close()
    with pytest.raises(Unreachable) as caught:
        client.get("/1.0")
    assert str(tmp_path) in caught.value.evidence
    assert "isolad" in caught.value.remedy


def test_connects_to_a_socket_with_a_long_path(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 120)
    deep.mkdir()
    here = os.open(deep, os.O_DIRECTORY)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(f"/dev/fd/{here}/unix.socket")
    listener.listen()
    with Client(deep, timeout=5) as client:
        connection = client.send("GET", "/1.0")
        accepted, _ = listener.accept()
        assert accepted.recv(100).startswith(b"GET /1.0 HTTP/1.1\r\n")
        accepted.close()
        connection.close()
    listener.close()
    os.close(here)


ERRORS: list[tuple[str, type[errors.IsolaError]]] = [
    ("busy", errors.Busy),
    ("not_found", errors.NotFound),
    ("unsafe_archive", errors.UnsafeArchive),
    ("driver_unavailable", errors.DriverUnavailable),
    ("command_failed", errors.HostFailure),
]


@pytest.mark.parametrize(("code", "kind"), ERRORS)
def test_raises_the_daemons_errors_by_their_code(
    tmp_path: Path, client: Client, code: str, kind: type[errors.IsolaError]
) -> None:
    details = f'{{"code":"{code}","message":"It is so","field":"name","remedy":"do that","evidence":"seen"}}'
    body = f'{{"type":"error","error":"text for others","error_code":409,"metadata":{details}}}'.encode()
    RawServer(tmp_path, reply(body, status="409 Conflict"))
    with pytest.raises(kind) as caught:
        client.get("/1.0")
    error = caught.value
    assert (error.message, error.field, error.remedy, error.evidence) == ("It is so", "name", "do that", "seen")


@pytest.mark.parametrize(
    ("status", "kind"), [(404, errors.NotFound), (412, errors.PreconditionFailed), (500, errors.IsolaError)]
)
def test_falls_back_to_the_http_status(
    tmp_path: Path, client: Client, status: int, kind: type[errors.IsolaError]
) -> None:
    RawServer(tmp_path, reply(b'{"type":"error","error":"gone","error_code":%d}' % status, status=f"{status} X"))
    with pytest.raises(kind, match="gone"):
        client.get("/1.0")


def test_an_error_that_is_not_json_still_has_its_status(tmp_path: Path, client: Client) -> None:
    RawServer(tmp_path, reply(b"<h1>Too large</h1>", status="413 Payload Too Large"))
    with pytest.raises(errors.TooLarge, match="413"):
        client.get("/1.0")


def test_header_values_cannot_contain_line_breaks(client: Client, tmp_path: Path) -> None:
    RawServer(tmp_path, reply(OK))
    with pytest.raises(errors.InvalidInput):
        client.call("GET", "/1.0", headers=(("If-Match", "x\r\nEvil: yes"),))


Send = Callable[[Path], "bytes | FileBody | list[bytes]"]


@pytest.mark.parametrize("kind", ["bytes", "file", "pieces"])
def test_sends_bodies_of_every_kind(tmp_path: Path, client: Client, kind: str) -> None:
    data = bytes(range(256)) * 4096
    server = RawServer(tmp_path, reply(OK))
    source = tmp_path / "data"
    source.write_bytes(data)
    with open(source, "rb") as file:
        bodies: dict[str, bytes | FileBody | Iterable[bytes]] = {
            "bytes": data, "file": FileBody(file.fileno(), len(data)), "pieces": [data[:5], b"", data[5:]],
        }  # fmt: skip
        response = client.exchange("POST", "/1.0/images", bodies[kind])
    assert response.read() == OK
    head, _, sent = server.requests[0].partition(b"\r\n\r\n")
    assert b"POST /1.0/images HTTP/1.1" in head
    if kind == "pieces":
        assert b"Transfer-Encoding: chunked" in head
    else:
        assert sent == data


def test_a_response_before_the_body_was_sent_is_read(tmp_path: Path, client: Client) -> None:
    refusal = reply(b'{"type":"error","error":"too much","error_code":413}', "Connection: close", status="413 X")
    RawServer(tmp_path, refusal, read_all=False)
    with pytest.raises(errors.TooLarge, match="too much"):
        client.call("POST", "/1.0/images", {"data": "x" * 5_000_000})


def test_projects_and_names_are_percent_encoded(tmp_path: Path) -> None:
    server = RawServer(tmp_path, reply(OK))
    with Client(tmp_path, project="my project", timeout=5) as client:
        client.get("/1.0/instances/a%2Fb", {"path": "/tmp/ä&b"})
    assert server.requests[0].startswith(b"GET /1.0/instances/a%2Fb?path=%2Ftmp%2F%C3%A4%26b&project=my%20project HTTP")
