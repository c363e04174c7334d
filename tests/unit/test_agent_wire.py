"""Frames and bodies of the agent's protocol, among them those that no honest agent sends."""

import contextlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isola.errors import HostFailure
from isola.runtimes.agent.body import Reader, Writer
from isola.runtimes.agent.wire import (
    HEADER,
    MAGIC,
    MAX_ANSWER,
    MAX_DATA,
    MAX_STALE,
    Decoder,
    Frame,
    Greeting,
    Type,
    encode,
    hello,
)

TAG = 0x12345678
EPOCH = bytes(range(16))


def greeting(tag: int = TAG, epoch: bytes = EPOCH, rest: bytes = b"rest") -> bytes:
    return encode(Frame(Type.HELLO, payload=MAGIC + epoch + rest), tag)


def sent(*frames: Frame) -> bytes:
    return b"".join(encode(frame, TAG) for frame in frames)


# --- frames ------------------------------------------------------------------------------------------------------


@given(st.lists(st.binary(max_size=300), max_size=8), st.data())
def test_frames_arrive_whole_however_the_bytes_are_cut(payloads: list[bytes], data: st.DataObject) -> None:
    frames = [Frame(Type.DATA, number + 1, payload, number % 3) for number, payload in enumerate(payloads)]
    stream, decoder = sent(*frames), Decoder(TAG)
    found: list[Frame] = []
    while stream:
        size = data.draw(st.integers(1, len(stream)))
        found += decoder.feed(stream[:size])
        stream = stream[size:]
    assert found == frames


def test_a_frame_that_is_not_taken_is_not_lost() -> None:
    decoder = Decoder(TAG)
    first = next(decoder.feed(sent(Frame(Type.DATA, 1, b"a"), Frame(Type.DATA, 1, b"b"))))
    assert first.payload == b"a"
    assert [frame.payload for frame in decoder.feed(b"")] == [b"b"]


@pytest.mark.parametrize(
    "header",
    [
        (0, 1, TAG + 1, Type.DATA, 1, 0),
        (0, 1, TAG, Type.DATA, 3, 0),
        (0, 1, TAG, Type.DATA, 1, 1),
        (0, 1, TAG, Type.EXIT, 1, 0),
        (0, 1, TAG, Type.HELLO, 0, 0),
        (0, 1, TAG, Type.REQUEST, 0, 0),
        (0, 1, TAG, Type.SIGNAL, 0, 0),
        (0, 1, TAG, 11, 0, 0),
        (0, 1, TAG, 255, 0, 0),
        (MAX_DATA + 1, 1, TAG, Type.DATA, 1, 0),
        (MAX_ANSWER + 1, 1, TAG, Type.ANSWER, 0, 0),
        (2**32 - 1, 1, TAG, Type.ANSWER, 0, 0),
    ],
)
def test_a_wrong_header_is_refused_before_its_payload_arrives(header: tuple[int, ...]) -> None:
    with pytest.raises(HostFailure):
        list(Decoder(TAG).feed(HEADER.pack(*header)))


@given(st.binary(max_size=2000))
def test_any_bytes_are_frames_or_refused(data: bytes) -> None:
    with contextlib.suppress(HostFailure):
        assert sum(HEADER.size + len(frame.payload) for frame in Decoder(TAG).feed(data)) <= len(data)


def test_what_is_too_large_is_not_sent() -> None:
    with pytest.raises(ValueError, match="65537 bytes"):
        encode(Frame(Type.DATA, 1, bytes(MAX_DATA + 1)), TAG)


# --- the greeting ------------------------------------------------------------------------------------------------


def test_the_host_says_which_versions_it_knows() -> None:
    assert hello(EPOCH)[HEADER.size :] == MAGIC + struct.pack("<II", 1, 1) + EPOCH


@given(st.binary(max_size=200), st.integers(1, 50), st.binary(max_size=20))
def test_the_greeting_is_found_after_bytes_of_an_earlier_connection(stale: bytes, size: int, after: bytes) -> None:
    stream, greeter, found = stale + greeting() + after, Greeting(EPOCH), None
    while found is None:
        assert stream
        found = greeter.feed(stream[:size])
        stream = stream[size:]
    frame, tag, rest = found
    assert (frame.payload, tag, rest + stream) == (MAGIC + EPOCH + b"rest", TAG, after)


def test_the_greeting_of_another_epoch_is_not_ours() -> None:
    greeter = Greeting(EPOCH)
    assert greeter.feed(greeting(1, epoch=bytes(16))) is None
    found = greeter.feed(greeting())
    assert found is not None and found[1] == TAG


def test_endless_bytes_are_no_greeting() -> None:
    greeter = Greeting(EPOCH)
    with pytest.raises(HostFailure):
        for _ in range(MAX_STALE // MAX_DATA + 2):
            assert greeter.feed(bytes(MAX_DATA)) is None


@pytest.mark.parametrize(
    "header",
    [(40, 1, TAG, 0, 0, 0), (40, 0, TAG, 2, 0, 0), (40, 0, TAG, 0, 1, 0), (MAX_ANSWER + 1, 0, TAG, 0, 0, 0)],
)
def test_a_malformed_greeting_is_refused(header: tuple[int, ...]) -> None:
    with pytest.raises(HostFailure):
        Greeting(EPOCH).feed(HEADER.pack(*header) + MAGIC + EPOCH)
    with pytest.raises(HostFailure):
        Greeting(EPOCH).feed(MAGIC + EPOCH)


# --- bodies ------------------------------------------------------------------------------------------------------


def test_values_are_read_as_they_were_written() -> None:
    writer = Writer().number("BHIQq", 1, 2, 3, 4, -5).text("é\udcff").texts(("a", "")).flag(True).raw(b"rest")
    reader = Reader(writer.done())
    assert reader.numbers("BHIQq") == (1, 2, 3, 4, -5)
    assert reader.data() == "é".encode() + b"\xff"
    assert reader.items(Reader.text) == ("a", "")
    assert (reader.number("B"), reader.rest()) == (1, b"rest")
    reader.end()


def test_lengths_are_checked_before_anything_is_read() -> None:
    for read in (Reader.data, lambda reader: reader.items(Reader.text), lambda reader: reader.raw(5)):
        with pytest.raises(HostFailure):
            read(Reader(b"\xff\xff\xff\xff"))
    with pytest.raises(HostFailure):
        Reader(Writer().text("long").done()).text(longest=3)
    with pytest.raises(HostFailure):
        Reader(Writer().texts("abc").done()).items(Reader.text, most=2)
    with pytest.raises(HostFailure):
        Reader(b"x").end()
