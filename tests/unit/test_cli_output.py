"""Output: YAML that can be read back, aligned tables, and escaped control characters."""

from __future__ import annotations

import csv
import io
import json
from contextlib import redirect_stdout
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from isola.cli.arguments import Arguments
from isola.cli.context import Context
from isola.cli.failures import report
from isola.cli.output import Column, show
from isola.cli.table import draw
from isola.cli.terminal import clean, width
from isola.cli.yaml import dump, load
from isola.client import json as quick
from isola.errors import InvalidInput

WORDS = ["yes", "No", "null", "~", "1", "0x1F", "1e3", "1_000", ".inf", ".5", "+1", "12:30", "2026-01-01", "0o7", "0b1"]
TRICKY = [*WORDS, *"%@=!&*'\"é", "<<", "1.5"]
SPACED = [
    "- a",
    "a: b",
    "a #b",
    "a\nb",
    "a\n\nb\n",
    "\n",
    " a\n",
    "a\n\n",
    "\t",
    "a\tb\nc",
    "😀\n",
    "a\r\nb",
    "\u2028\n",
]
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12) | st.sampled_from(TRICKY + SPACED)
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)


@given(VALUES)
def test_written_yaml_is_read_back_unchanged(value: Any) -> None:
    assert yaml.safe_load(dump(value)) == value


@given(VALUES)
def test_json_is_read_and_written_as_the_standard_library_does(value: Any) -> None:
    assert quick.decode(json.dumps(value)) == value
    assert json.loads(quick.encode(value)) == value


@pytest.mark.parametrize("text", ["", "{", "[1,]", "nul", "1 2", "{'a': 1}", "[" * 5000, b"\xff"])
def test_what_is_not_json_is_a_value_error(text: str | bytes) -> None:
    with pytest.raises(ValueError):
        quick.decode(text)


def test_invalid_yaml_is_refused_with_its_position() -> None:
    with pytest.raises(InvalidInput) as caught:
        load("a: [1\nb: 2")
    assert "line 2" in caught.value.evidence


def test_tables_line_up_with_wide_characters_and_cells_of_several_lines() -> None:
    text = draw(["NAME", "ADDRESS"], [["web", "10.0.0.1\n10.0.0.2"], ["日本", "é"]])
    assert text.splitlines() == ["NAME  ADDRESS", "─" * 14, "web   10.0.0.1", "      10.0.0.2", "日本  é"]


TITLES = ("NAME", "STATUS", "IPV4", "IPV6", "ISOLATION", "IMAGE")
ROW = ("web1", "Running", "10.1.2.3 (eth0)", "fd00:1:2:3:869:73ff:fec2:35df (eth0)", "container", "Debian 12 bookworm")


@pytest.mark.parametrize("room", [24, 30, 40, 60, 61, 80, 98, 99, 200])
def test_a_table_fits_the_terminal(room: int) -> None:
    lines = draw(TITLES, [ROW], room=room, spare=(3, 5, 4)).splitlines()
    assert max(map(width, lines)) <= room
    assert lines[0].split()[:2] == ["NAME", "STATUS"]
    assert ("IPV6" in lines[0], "IMAGE" in lines[0]) == (room >= 99, room >= 61)
    assert ("Debian 12 bookworm" in lines[2]) == (room >= 61)


def test_a_column_that_was_asked_for_is_shortened_not_left_out() -> None:
    header, _, row = draw(TITLES, [ROW], room=70).splitlines()
    assert (width(row) <= 70, header.split(), "fd00:1:2" in row, "…" in row) == (True, list(TITLES), True, True)


def test_without_a_terminal_nothing_is_shortened() -> None:
    assert all(cell in draw(TITLES, [ROW]) for cell in (*TITLES, *ROW))


def test_no_control_character_reaches_the_terminal() -> None:
    assert clean("a\x1b[31mred\x07\u202eevil\n\x9b2J") == "a�[31mred��evil��2J"
    assert "\x1b" not in draw(["X"], [["\x1b]0;title\x07"]])


def test_width_counts_columns() -> None:
    assert [width(text) for text in ("abc", "日本", "e\u0301")] == [3, 4, 1]


@pytest.mark.parametrize("kind", ["table", "csv", "json", "yaml"])
def test_a_listing_comes_in_every_format(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    items = [{"name": 'a,"b"', "size": 5, "on": True, "extra": None}]
    columns = [
        Column("NAME", "name"),
        Column("SIZE", lambda item: item["size"] * 2),
        Column("ON", "on"),
        Column("X", "extra"),
    ]
    show(Context(Arguments({"format": kind})), items, columns)
    text = capsys.readouterr().out
    if kind == "csv":
        assert list(csv.reader(io.StringIO(text))) == [['a,"b"', "10", "yes", ""]]
    elif kind == "table":
        assert text.splitlines()[2].split() == ['a,"b"', "10", "yes"]
    else:
        assert (json.loads if kind == "json" else yaml.safe_load)(text) == items


class Screen(io.StringIO):
    """Standard output that is a terminal."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


EVIL = "a\x1b]0;owned\x07\x1b[31m\x9b31m\u202eb"


@pytest.mark.parametrize("kind", ["table", "csv", "json", "yaml"])
def test_control_sequences_are_escaped_on_a_terminal(kind: str) -> None:
    with redirect_stdout(Screen()) as screen:
        show(Context(Arguments({"format": kind})), [{"name": EVIL}], [Column("NAME", "name")])
        Context(Arguments({})).write(f"first\n{EVIL}")
    assert screen.getvalue().replace("\x1b[1m", "").replace("\x1b[0m", "").replace("\n", "").isprintable()
    assert "first\na" in screen.getvalue()


def test_pipes_get_unchanged_text() -> None:
    with redirect_stdout(io.StringIO()) as pipe:
        Context(Arguments({})).write(EVIL)
    assert pipe.getvalue() == EVIL + "\n"


def test_unlimited_nesting_is_not_an_internal_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert report(RecursionError("maximum recursion depth exceeded")) == 1
    assert "nested too deeply" in capsys.readouterr().err
