"""Definitions that stand for builds, as clients hand them on and as they may make them up."""

from __future__ import annotations

import hashlib

import pytest

from isola.doors.docker.buildkit.calls import Failure
from isola.doors.docker.buildkit.linking import builds_in, definition_of
from isola.doors.docker.buildkit.wire import Message, message
from isola.errors import Unsupported


def test_a_definition_is_found_again_when_the_client_has_added_its_own_end() -> None:
    given = Message(definition_of("ref-1"))
    source, last = given.blobs(1)
    digest = f"sha256:{hashlib.sha256(source).hexdigest()}"
    assert Message(last).inside(1).text(1) == digest, "clients follow the last one to what it ends in"
    marshalled = Message(message({1: [source, message({1: message({1: digest})})]}))
    options = {"context:base": "input:context:base", "context:other": "docker-image://app", "filename": "x"}
    assert builds_in(options, {"context:base": marshalled}) == {"context:base": "ref-1"}


def test_other_definitions_and_missing_ones_are_refused() -> None:
    options = {"context:base": "input:context:base"}
    with pytest.raises(Failure):
        builds_in(options, {})
    for data in (b"", message({3: message({1: "docker-image://app"})}), b"\x0a\x00"):
        with pytest.raises(Unsupported):
            builds_in(options, {"context:base": Message(message({1: data}))})
    with pytest.raises(ValueError):
        builds_in(options, {"context:base": Message(message({1: b"\xff"}))})
