"""Typed reading of hostile JSON."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from isola.doors.http.reading import Fields, parse_object
from isola.errors import InvalidInput


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"nonsense",
        b"[]",
        b"null",
        b'"text"',
        b'{"a": NaN}',
        b'{"a": Infinity}',
        b'{"a": "\xff"}',
        b'{"a": "\\ud800"}',
        b'{"a":' * 5000 + b"1" + b"}" * 5000,
        b"{'a': 1}",
        b'{"a": 1,}',
    ],
)
def test_what_is_not_a_json_object_is_refused_naming_the_body(data: bytes) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_object(data)
    assert caught.value.field == "body"


@pytest.mark.parametrize(
    ("value", "read"),
    [
        ({}, lambda f: f.text("x")),
        (7, lambda f: f.text("x")),
        ("a\0b", lambda f: f.text("x")),
        ("a" * 300_000, lambda f: f.text("x")),
        ({"deep": {}}, lambda f: f.mapping("x")),
        ([], lambda f: f.mapping("x")),
        ({"k\0": "v"}, lambda f: f.mapping("x")),
        ({"k": ["v"]}, lambda f: f.mapping("x")),
        ({"k": 1.5}, lambda f: f.mapping("x")),
        ({"eth0": "nic"}, lambda f: f.mappings("x")),
        ("yes", lambda f: f.boolean("x")),
        (1, lambda f: f.boolean("x")),
        (True, lambda f: f.whole("x", 0)),
        ("7", lambda f: f.whole("x", 0)),
        (1e300, lambda f: f.whole("x", 0)),
        (10**30, lambda f: f.whole("x", 0)),
        (-1, lambda f: f.whole("x", 0)),
        ("a", lambda f: f.texts("x")),
        ([1], lambda f: f.texts("x")),
        ([None], lambda f: f.texts("x")),
        (["a\0"], lambda f: f.texts("x")),
        (["a"] * 5000, lambda f: f.texts("x")),
        ([1], lambda f: f.objects("x")),
        ({}, lambda f: f.objects("x")),
        ("soon", lambda f: f.time("x")),
        ("2026-01-01T00:00:00", lambda f: f.time("x")),
        ("text", lambda f: f.inside("x").text("y")),
    ],
)
def test_a_wrong_value_is_refused_naming_the_field(value: object, read: Callable[[Fields], object]) -> None:
    with pytest.raises(InvalidInput) as caught:
        read(Fields({"x": value}))
    assert caught.value.field is not None
    assert caught.value.field.startswith("x")


def test_a_field_within_is_named_by_its_path() -> None:
    fields = Fields({"devices": {"eth0": {"mtu": ["1"]}}, "aliases": [{"name": 1}]})
    with pytest.raises(InvalidInput) as caught:
        fields.mappings("devices")
    assert caught.value.field == "devices.eth0.mtu"
    with pytest.raises(InvalidInput) as caught:
        fields.objects("aliases")[0].text("name")
    assert caught.value.field == "aliases[0].name"


def test_null_counts_as_absent() -> None:
    fields = Fields(dict.fromkeys("abcdefgh"))
    assert fields.text("a", "default") == "default"
    assert fields.boolean("b", True) is True
    assert fields.whole("c", 5) == 5
    assert (fields.texts("d"), fields.mapping("e"), fields.mappings("f"), fields.objects("g")) == ((), {}, {}, [])
    assert fields.time("h") is None
    assert not fields.has("a")


def test_empty_values_are_dropped_where_they_are_read() -> None:
    fields = Fields({"config": {"limits.memory": "", "user.x": "1"}, "devices": {"eth0": {"type": "nic", "mtu": ""}}})
    assert fields.mapping("config") == {"user.x": "1"}
    assert fields.mapping("config", empty=True) == {"limits.memory": "", "user.x": "1"}
    assert fields.mappings("devices") == {"eth0": {"type": "nic"}}
    assert Fields({"devices": {"eth0": None}}).mappings("devices") == {}


def test_valid_values_are_returned() -> None:
    fields = parse_object(b'{"n": 3.0, "c": {"a": 1, "b": true, "c": null, "d": "x"}, "t": "2027-01-01T00:00:00Z"}')
    assert fields.whole("n", 0) == 3
    assert fields.mapping("c") == {"a": "1", "b": "true", "d": "x"}
    assert fields.mapping("c", empty=True) == {"a": "1", "b": "true", "c": "", "d": "x"}
    moment = fields.time("t")
    assert moment is not None
    assert moment.year == 2027
    assert Fields({"t": "0001-01-01T00:00:00Z"}).time("t") is None
