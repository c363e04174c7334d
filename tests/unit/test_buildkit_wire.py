"""Bytes of BuildKit's clients: headers of HTTP/2 and messages of protocol buffers, good and hostile ones."""

from __future__ import annotations

import pytest

from isola.doors.docker.buildkit.hpack import Decoder, encode
from isola.doors.docker.buildkit.wire import Message, message, timestamp

FIRST = "828684418cf1e3c2e5f23a6ba0ab90f4ff"
SECOND = "828684be5886a8eb10649cbf"
THIRD = "828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf"


def test_headers_of_the_standard_are_read() -> None:
    """RFC 7541, C.4: Huffman's code, and references to the headers of earlier requests."""
    decoder = Decoder()
    common = [(b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/"), (b":authority", b"www.example.com")]
    assert decoder.decode(bytes.fromhex(FIRST)) == common
    assert decoder.decode(bytes.fromhex(SECOND)) == [*common, (b"cache-control", b"no-cache")]
    assert decoder.decode(bytes.fromhex(THIRD)) == [
        (b":method", b"GET"),
        (b":scheme", b"https"),
        (b":path", b"/index.html"),
        (b":authority", b"www.example.com"),
        (b"custom-key", b"custom-value"),
    ]


def test_headers_that_are_written_are_read_again() -> None:
    fields = [(":status", "200"), ("a", ""), ("long", "x" * 5000), ("b", "ü" * 127)]
    assert Decoder().decode(encode(fields)) == [(name.encode(), value.encode()) for name, value in fields]


def test_old_headers_leave_the_table() -> None:
    decoder = Decoder()
    for number in range(200):
        value = f"{number:0100}".encode()
        decoder.decode(b"\x40\x01a" + bytes((len(value),)) + value)
    assert decoder.decode(b"\xbe") == [(b"a", f"{199:0100}".encode())]
    with pytest.raises(ValueError, match="no such entry"):
        decoder.decode(bytes((0x80 | 62 + 40,)))  # 4096 bytes hold 30 such entries


@pytest.mark.parametrize(
    "data",
    [
        b"\x80",  # entry 0
        b"\xff\xff\xff\xff\xff\xff\xff",  # a number without an end
        b"\x40\x05ab",  # a text that is too short
        b"\x00\x01a",  # no value
        b"\x00\x01a\x81\x00",  # padding with zeros
        b"\x00\x01a\x84\xff\xff\xff\xff",  # the end of a text inside it
        b"\x3f\xff\xff\x7f",  # a larger table than agreed
    ],
)
def test_hostile_headers_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError):
        Decoder().decode(data)


def test_short_references_cannot_become_megabytes() -> None:
    decoder = Decoder()
    decoder.decode(b"\x40\x01a\x7f\xd1\x1e" + b"x" * 4048)
    with pytest.raises(ValueError, match="too long"):
        decoder.decode(b"\xbe" * 1000)


def test_messages_are_read_and_written() -> None:
    """The first is the example of the description of the format."""
    assert message({1: 150}) == bytes.fromhex("089601")
    assert message({2: "testing"}) == bytes.fromhex("120774657374696e67")
    made = Message(
        message({1: -1, 2: {"a": "b", "c": ""}, 3: ["x", "y"], 4: b"", 5: True, 6: 0, 7: None, 8: message({1: 7})})
    )
    assert made.number(1) == -1 and made.texts(2) == {"a": "b", "c": ""}
    assert made.blobs(3) == [b"x", b"y"] and made.has(4) and made.number(5) == 1
    assert not made.has(6) and not made.has(7) and made.inside(8).number(1) == 7
    assert Message(timestamp(5 * 10**9 + 3)).number(2) == 3
    fixed = Message(bytes.fromhex("0d010203041101020304050607082001"))
    assert fixed.blob(1) == b"\1\2\3\4" and fixed.blob(2) == bytes(range(1, 9)) and fixed.number(4) == 1


@pytest.mark.parametrize("data", [b"\x08", b"\x0a\x05ab", b"\x0b", b"\x08" + b"\xff" * 11, b"\x09\x01"])
def test_malformed_messages_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="malformed"):
        Message(data)
