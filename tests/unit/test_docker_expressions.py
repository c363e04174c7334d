"""Regular expressions of filters find what Python's find, and never take long."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isola.doors.docker.expressions import Expression, expression
from isola.doors.docker.filtering import finds

_ATOMS = st.sampled_from(
    ["a", "b", "-", "_", ".", "[ab]", "[^a]", "[a-c-]", r"\.", r"\d", r"\w", r"\W", "^", "$", "(a)", "(a|b)", "(?:ab|)"]
)
_SIGNS = st.sampled_from(["", "", "", "*", "+", "?", "*?", "{2}", "{1,2}", "{2,}", "{0}"])
_PIECES = st.tuples(_ATOMS, _SIGNS).filter(lambda each: each[0] not in "^$" or not each[1]).map("".join)
_EXPRESSIONS = st.lists(st.one_of(_PIECES, st.just("|")), max_size=6).map("".join)


@given(_EXPRESSIONS, st.text("abc-_.1", max_size=8))
def test_the_same_is_found_as_by_python(pattern: str, text: str) -> None:
    # "$" of Python is also before a last newline, of which there is none here
    assert Expression(pattern).found_in(text) == (re.search(pattern, text, re.ASCII) is not None)


@pytest.mark.parametrize(
    ("pattern", "text", "found"),
    [
        ("^/e[12]$", "/e1", True), ("^/e[12]$", "/e3", False), ("^/?web$", "web", True), ("^/?web$", "/web", True),
        ("web|db", "my-db-1", True), ("^(web|db)-[0-9]+$", "db-12", True), ("^(web|db)-[0-9]+$", "db-", False),
        ("a.c", "abc", True), (r"a\.c", "abc", False), ("", "x", True), ("^$", "x", False), ("^$", "", True),
        ("x{,2}", "x{,2}", True), ("a{b", "a{b", True), ("[]a]", "]", True), ("[a-]", "-", True), (r"[\d]", "7", True),
        (".*", "", True), ("^web.*1$", "web-x-1", True), ("web_1", "a-web_1-b", True), (r"\S+\s\D", "a b", True),
    ],
)  # fmt: skip
def test_names_are_found(pattern: str, text: str, found: bool) -> None:
    assert finds(pattern, text) is found


@pytest.mark.parametrize(
    "wrong",
    [
        "[", "(", ")", "a)", "(a", "*", "+a", "a**", "a{3,2}", "a{257}", "[b-a]", "\\", r"\b", "(?i)a", "(?P<x>a)",
        "[[:alpha:]]", "[a", "x" * 257, "((a{200}){200}){200}", "(((){200}){200}){200}",
        "(" * 33 + ")" * 33,
    ],
)  # fmt: skip
def test_what_is_no_expression_is_found_nowhere(wrong: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        Expression(wrong)
    assert expression(wrong) is None and not finds(wrong, "a")
    assert finds(wrong, wrong), "a text finds itself"


@pytest.mark.parametrize(
    "slow",
    [
        "(a*)*b",
        "(a|a)*b",
        "(a|aa)+$b",
        "(.*)(.*)(.*)(.*)(.*)(.*)(.*)(.*)b",
        "(a?){100}a{100}b",
        "(" * 32 + ")" * 32 + "b",
    ],
)
def test_what_would_take_python_years_is_found_out_at_once(slow: str) -> None:
    assert not finds(slow, "a" * 128)
