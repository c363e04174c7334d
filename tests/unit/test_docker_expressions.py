"""Regular expressions of filters are those of Go, and never take long."""

from __future__ import annotations

import pytest

from isola.doors.docker.expressions import search
from isola.doors.docker.filtering import finds


@pytest.mark.parametrize(
    ("pattern", "text", "found"),
    [
        ("^/e[12]$", "/e1", True), ("^/e[12]$", "/e3", False), ("^/?web$", "web", True), ("^/?web$", "/web", True),
        ("web|db", "my-db-1", True), ("^(web|db)-[0-9]+$", "db-12", True), ("^(web|db)-[0-9]+$", "db-", False),
        ("a.c", "abc", True), (r"a\.c", "abc", False), ("", "x", True), ("^$", "x", False), ("^$", "", True),
        ("x{,2}", "x{,2}", True), ("a{b", "a{b", True), ("[]a]", "]", True), ("[a-]", "-", True), (r"[\d]", "7", True),
        (".*", "", True), ("^web.*1$", "web-x-1", True), ("web_1", "a-web_1-b", True), (r"\S+\s\D", "a b", True),
        ("(?i)WEB", "web", True), (r"\bweb\b", "my-web-1", True), ("^[[:alpha:]]+$", "web1", False),
        ("web$", "web\n", False),
    ],
)  # fmt: skip
def test_names_are_found(pattern: str, text: str, found: bool) -> None:
    assert finds(pattern, text) is found


@pytest.mark.parametrize(
    "wrong",
    [
        "[", "(", ")", "a)", "(a", "*", "+a", "a**", "a{3,2}", "a{1001}", "[b-a]", "\\", "(?=a)", "[a", "x" * 1025,
        "((a{200}){200}){200}", "(" * 1001 + ")" * 1001, "\ud800",
    ],
)  # fmt: skip
def test_what_is_no_expression_is_found_nowhere(wrong: str) -> None:
    assert search(wrong) is None and not finds(wrong, "a")
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
