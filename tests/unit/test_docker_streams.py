"""Keys that detach a client, frames, spans of time, and statistics of the Docker door. Pure."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from isola.doors.docker.containers.streams import DetachKeys, frame, line_frames
from isola.doors.docker.events.rendering import Message
from isola.doors.docker.routes.events import matcher
from isola.doors.docker.times import nanoseconds, parse_time, rfc3339, roughly, span
from isola.errors import InvalidInput

NOW = datetime(2026, 1, 31, 12, 0, 0, 5, tzinfo=UTC)


def test_a_frame_names_its_stream_and_length() -> None:
    assert frame(2, b"abc") == b"\x02\0\0\0\0\0\0\x03abc"


def test_each_line_of_a_log_has_a_frame() -> None:
    assert line_frames(1, b"a\n\n\rb\nc") == b"".join(frame(1, line) for line in (b"a\n", b"\n", b"\rb\n", b"c"))
    assert line_frames(1, b"") == b""


@pytest.mark.parametrize(
    ("typed", "passed", "detached"),
    [
        ([b"ab"], b"ab", False),
        ([b"a\x10\x11b"], b"a", True),
        ([b"\x10", b"\x11"], b"", True),
        ([b"\x10", b"x"], b"\x10x", False),
        ([b"\x10\x10\x11"], b"\x10", True),
        ([b"\x11\x10"], b"\x11", False),
    ],
)
def test_keys_to_detach_are_found_in_the_input(typed: list[bytes], passed: bytes, detached: bool) -> None:
    keys, found = DetachKeys(""), b""
    over = False
    for data in typed:
        more, over = keys.look(data)
        found += more
    assert (found, over) == (passed, detached)


def test_keys_are_named_as_by_the_client() -> None:
    assert DetachKeys("ctrl-a,x").look(b"1\x01x") == (b"1", True)
    assert DetachKeys("ctrl-@,ctrl-]").look(b"\x00\x1d") == (b"", True)
    for wrong in ("ctrl-", "ctrl-ab", "ctrl-1", "abc", ",", "ä"):
        with pytest.raises(InvalidInput, match="Invalid escape keys"):
            DetachKeys(wrong)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", None),
        ("0", None),
        ("1769860800", 1769860800 * 10**9),
        ("1769860800.5", 1769860800 * 10**9 + 5 * 10**8),
        ("1h30m", nanoseconds(NOW) - 5400 * 10**9),
        ("2026-01-31T12:00:00Z", nanoseconds(NOW) - 5000),
        ("2026-01-31T13:00:00+01:00", nanoseconds(NOW) - 5000),
    ],
)
def test_times_of_queries(text: str, expected: int | None) -> None:
    assert parse_time(text, "since", NOW) == expected


@pytest.mark.parametrize("text", ["yesterday", "1h30", "12:00"])
def test_wrong_times_are_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="since"):
        parse_time(text, "since", NOW)


def test_times_and_spans_are_written_as_docker_does() -> None:
    assert rfc3339(None) == "0001-01-01T00:00:00Z" and rfc3339(NOW) == "2026-01-31T12:00:00.000005Z"
    assert span("1m0.5s", "x") == 60_500_000_000
    spans = {
        0: "Less than a second", 1: "1 second", 59: "59 seconds", 60: "About a minute", 150: "2 minutes",
        3600: "About an hour", 7200: "2 hours", 3 * 86400: "3 days", 20 * 86400: "2 weeks", 90 * 86400: "3 months",
        800 * 86400: "2 years",
    }  # fmt: skip
    assert {seconds: roughly(timedelta(seconds=seconds).total_seconds()) for seconds in spans} == spans


def test_events_are_filtered() -> None:
    attributes = {"name": "web1", "image": "busybox:1", "tier": "front"}
    message = Message("container", "exec_start: true", "ab12", attributes, 5 * 10**9)
    assert message.json()["status"] == "exec_start: true" and message.json()["time"] == 5
    for filters, expected in (
        ({}, True),
        ({"type": ["container"]}, True),
        ({"type": ["image"]}, False),
        ({"event": ["exec_start"]}, True),
        ({"event": ["exec"]}, False),
        ({"container": ["web1"]}, True),
        ({"container": ["ab"]}, True),
        ({"container": ["other"]}, False),
        ({"label": ["tier=front"]}, True),
        ({"label": ["tier=back"]}, False),
        ({"image": ["busybox"]}, True),
        ({"network": ["web1"]}, False),
        ({"scope": ["swarm"]}, False),
    ):
        assert matcher(filters)(message) is expected, filters
    with pytest.raises(InvalidInput, match="invalid filter 'nonsense'"):
        matcher({"nonsense": ["x"]})
