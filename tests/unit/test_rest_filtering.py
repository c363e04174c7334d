"""The filter language."""

from __future__ import annotations

import time

import pytest

from isola.doors.rest.filtering import parse_filter, select
from isola.errors import InvalidInput

WEB = {"name": "web1", "status": "Running", "config": {"user.tier": "front", "image": {"os": "Debian"}}, "n": 5}
DB = {"name": "db1", "status": "Stopped", "config": {}, "n": 7, "ephemeral": True, "tags": ["a"]}
LONG = " and ".join(["a eq b"] * 40)
WIDE = "name eq " + "^" * 2000


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("", ["web1", "db1"]),
        ("name eq web1", ["web1"]),
        ("name eq WEB1", ["web1"]),
        ("name ne web1", ["db1"]),
        ("not name eq web1", ["db1"]),
        ("status eq running and name eq web1", ["web1"]),
        ("status eq Running and name eq db1", []),
        ("name eq web1 or name eq db1", ["web1", "db1"]),
        ("name eq web1,db1", ["web1", "db1"]),
        ("config.user.tier eq front", ["web1"]),
        ("config.image.os eq debian", ["web1"]),
        ("config.missing eq front", []),
        ("name eq web.*", ["web1"]),
        ("name eq ^(web|db)1$", ["web1", "db1"]),
        ("name eq we", []),
        ("name eq ^we", ["web1"]),
        ("status eq 'Running'", ["web1"]),
        ('status eq "Stopped"', ["db1"]),
        ("n gt 5", ["db1"]),
        ("n ge 5", ["web1", "db1"]),
        ("n lt 6", ["web1"]),
        ("n le 4", []),
        ("n eq 5", ["web1"]),
        ("name gt 5", []),
        ("ephemeral eq true", ["db1"]),
        ("tags eq a", ["db1"]),
    ],
)
def test_selects(text: str, names: list[str]) -> None:
    assert [thing["name"] for thing in select([WEB, DB], text)] == names


@pytest.mark.parametrize(
    "text",
    [
        "name",
        "name eq",
        "name is web1",
        "name eq a b",
        "name eq a and",
        "not",
        "and",
        "n gt many",
        "a eq b " * 2,
        LONG,
        WIDE,
    ],
)
def test_malformed_filters_are_refused(text: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        select([WEB, DB], text)
    assert caught.value.field == "filter"


@pytest.mark.parametrize(
    "value",
    [
        "(a+)+$",
        "(a|a)*b",
        "((a|a)|(a|a))" * 60,
        ".*.*.*.*.*.*x",
        "(.*)(.*)(.*)x",
        "(a|b|a|b|a|b|a|b|a|b)",
        "[a-z]+",
        "(?=a)",
        "(((((((((" + ")" * 9,
        "a{1,30}{1,30}",
        "\\1",
        "(a",
    ],
)
def test_no_value_makes_matching_slow(value: str) -> None:
    begun = time.process_time()
    match = parse_filter(f"name eq {value}")
    assert match is not None
    match({"name": "a" * 100_000 + "!"})
    assert time.process_time() - begun < 0.5
