"""Interpolation, environment files and YAML of compose files."""

from __future__ import annotations

import pytest

from isola.compose.documents import Override, Reset, parse
from isola.compose.env_files import parse_env
from isola.compose.variables import Variables
from isola.errors import InvalidInput

_VALUES = {"A": "1", "EMPTY": "", "B": "$A"}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("$A", "1"),
        ("${A}b", "1b"),
        ("x$A$A", "x11"),
        ("$$A", "$A"),
        ("$${A}", "${A}"),
        ("$B", "$A"),
        ("${EMPTY:-d}", "d"),
        ("${EMPTY-d}", ""),
        ("${NONE-d}", "d"),
        ("${A:-d}", "1"),
        ("${A:+o}", "o"),
        ("${EMPTY:+o}", ""),
        ("${EMPTY+o}", "o"),
        ("${NONE+o}", ""),
        ("${NONE:-${A}}", "1"),
        ("${NONE:-${ALSO:-x y}}z", "x yz"),
        ("${A:-${NONE:?not asked for}}", "1"),
        ("${A:?m}", "1"),
        ("a}b", "a}b"),
        ("$NONE", ""),
    ],
)
def test_interpolation(text: str, found: str) -> None:
    assert Variables(_VALUES).text(text) == found


@pytest.mark.parametrize("text", ["$", "a $ b", "${", "${A", "${A:}", "${A/x/y}", "${1}", "$-", "${NONE:-${}"])
def test_malformed_variables_are_refused(text: str) -> None:
    with pytest.raises(InvalidInput) as error:
        Variables(_VALUES).text(text, "services.web.image")
    assert error.value.field == "services.web.image"


@pytest.mark.parametrize("text", ["${NONE:?say it}", "${NONE?say it}", "${EMPTY:?say it}"])
def test_a_required_variable_has_its_message(text: str) -> None:
    with pytest.raises(InvalidInput, match="say it"):
        Variables(_VALUES).text(text)


def test_missing_variables_are_reported_once() -> None:
    missing: list[str] = []
    Variables({}, missing.append).tree({"a": "$X $X", "b": ["$X", "$Y"], "$Z": "key"})
    assert missing == ["X", "Y"]


def test_endless_nesting_is_refused() -> None:
    with pytest.raises(InvalidInput):
        Variables({}).text("${A:-" * 50 + "}" * 50)


def test_environment_files() -> None:
    text = (
        "\ufeff# a comment\n\nA=1\nexport B = two words # why\r\n"
        'C=\'$A \\n\'\nD="$A\\n\\t\\"\\$A" # end\nE=x#y\nF\nG\nH: colon\nI="several\nlines"\nJ=\n'
    )
    assert parse_env(text, {"F": "given"}, ".env") == {
        "A": "1", "B": "two words", "C": "$A \\n", "D": '1\n\t"$A', "E": "x#y", "F": "given", "G": None,
        "H": "colon", "I": "several\nlines", "J": "",
    }  # fmt: skip


def test_variables_of_the_caller_precede_those_of_the_file() -> None:
    assert parse_env("A=1\nB=$A", {"A": "outer"}, ".env")["B"] == "outer"
    assert parse_env("A='1'\nB=$A", {}, ".env", raw=True) == {"A": "'1'", "B": "$A"}


@pytest.mark.parametrize("text", ["a b=1", "=1", "A='x", 'A="x', "A='x' y", "1A=1"])
def test_malformed_environment_files_name_the_line(text: str) -> None:
    with pytest.raises(InvalidInput, match="line 2"):
        parse_env(f"# first\n{text}\n", {}, ".env")


def test_yaml_as_compose_files_mean_it() -> None:
    found = parse(
        "a: yes\nb: 22:22\nc: 0440\nd: 0o440\ne: true\nf: 1.5\n1: {<<: {x: 1, y: 2}, y: 3}\nt: 2020-01-01\n", "f"
    )
    assert found == {
        "a": "yes", "b": "22:22", "c": 288, "d": 288, "e": True, "f": 1.5, "1": {"x": 1, "y": 3}, "t": "2020-01-01",
    }  # fmt: skip


def test_tags() -> None:
    assert parse("a: !reset []\nb: !override [1, 'x']\nc: !override 5\nd: !override {e: true}\n", "f") == {
        "a": Reset(), "b": Override([1, "x"]), "c": Override(5), "d": Override({"e": True}),
    }  # fmt: skip


@pytest.mark.parametrize(
    "text",
    [
        "a: [",
        "- a",
        "a: 1\na: 2",
        "a: !!python/object:os.system x",
        "{[1]: 2}",
        "~: 1",
        "a: " + "[" * 500 + "]" * 500,
        "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b]\n"
        "d: &d [*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d]\nf: &f [*e,*e,*e,*e,*e,*e,*e,*e]\n",
    ],
)
def test_hostile_or_malformed_yaml(text: str) -> None:
    with pytest.raises(InvalidInput, match="compose"):
        parse(text, "compose.yaml")
