"""Paths that ignore files leave out of a build's context, as Docker decides it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isola.errors import InvalidInput, TooLarge
from isola.model.ignore import MAX_FILE, MAX_PATTERNS, Patterns, read_ignore_file


@pytest.mark.parametrize(
    ("pattern", "path", "excluded"),
    [
        ("a", "a", True),
        ("a", "a/b/c", True),
        ("a", "b/a", False),
        ("a", "ab", False),
        ("/a", "a", True),
        ("./a/", "a", True),
        ("a/../b", "b", True),
        ("../a", "a", False),
        (".", "a", False),
        ("[!f]a", "!a", True),
        ("[!f]a", "fa", True),
        ("[!f]a", "xa", False),
        ("[^f]a", "xa", True),
        ("[^f]a", "fa", False),
        ("*", "a", True),
        ("*", "a/b", True),
        ("*.go", "a.go", True),
        ("*.go", "d/a.go", False),
        ("*/*.go", "d/a.go", True),
        ("*/*.go", "d/e/a.go", False),
        ("**/*.go", "a.go", True),
        ("**/*.go", "d/e/a.go", True),
        ("**/*.go", "d/e/a.gox", False),
        ("**", "a", True),
        ("**", "a/b", True),
        ("a/**", "a/b", True),
        ("a/**", "a/b/c", True),
        ("a/**", "a", False),
        ("a/**/b", "a/b", True),
        ("a/**/b", "a/x/y/b", True),
        ("a/**/b", "a/x/y/bc", False),
        ("a/**/b", "xa/b", False),
        ("**/a/**/b/**/c", "x/a/y/b/c", True),
        ("**/a/**/b/**/c", "x/b/y/a/c", False),
        ("**/a/b", "a/a/b", True),
        ("**/a/b", "a/x/a/b/below", True),
        ("**.go", "d/e.go", True),
        ("a**b", "a/x/b", True),
        ("a**", "abc/d", True),
        ("a*b*c", "aXbYc", True),
        ("a*b*c", "aXcYb", False),
        ("a*b*b", "aXbYbZb", True),
        ("a*bc", "abbc", True),
        ("*a*", "bab", True),
        ("*a", "a/b", True),
        ("a?c", "abc", True),
        ("a?c", "a/c", False),
        ("[abc]x", "bx", True),
        ("[a-c]x", "dx", False),
        ("[^a]x", "bx", True),
        ("[^a]x", "ax", False),
        ("[]a]x", "]x", True),
        ("[^a]b", "/b", False),
        ("a\\*b", "a*b", True),
        ("a\\*b", "axb", False),
        ("a.b", "axb", False),
        ("a+(b)$", "a+(b)$", True),
        ("a b", "a b", True),
        (".*", ".git/config", True),
        ("ä*", "äö", True),
    ],
)
def test_one_pattern(pattern: str, path: str, excluded: bool) -> None:
    assert Patterns([pattern]).excludes(path) is excluded


@pytest.mark.parametrize(
    ("lines", "path", "excluded"),
    [
        ("*\n!a", "a", False),
        ("*\n!a", "a/b", False),
        ("*\n!a", "b", True),
        ("!a\n*", "a", True),
        ("*.md\n!README*.md\nREADME-secret.md", "README.md", False),
        ("*.md\n!README*.md\nREADME-secret.md", "README-secret.md", True),
        ("*.md\nREADME-secret.md\n!README*.md", "README-secret.md", False),
        ("a\n!a/b", "a/b", False),
        ("a\n!a/b", "a/c", True),
        ("a/*\n! a/b ", "a/b", False),
        ("# a\na", "a", True),
        ("# a", "# a", False),
        (" # a", "# a", True),
        ("\n\n  \n", "a", False),
        ("\ufeffa\r\nb", "a", True),
        ("a\r\nb\r\n", "b", True),
    ],
)
def test_a_file(lines: str, path: str, excluded: bool) -> None:
    assert read_ignore_file(lines.encode()).excludes(path) is excluded


@pytest.mark.parametrize(
    ("lines", "skipped"),
    [
        ("a", True),
        ("a\n!b", True),
        ("a\n!a/b", False),
        ("a\n!a/b/c", False),
        ("a\n!**/x", False),
        ("a\n!a", False),
        ("a\n!ab", True),
    ],
)
def test_a_directory_is_skipped_when_nothing_in_it_can_be_kept(lines: str, skipped: bool) -> None:
    assert Patterns(lines.split("\n")).skips("a") is skipped


@pytest.mark.parametrize("pattern", ["[a", "a\\", "!", "! ", "[b-a]", "a**b**c/**d**/**e**f", "[]"])
def test_a_wrong_pattern_is_refused(pattern: str) -> None:
    with pytest.raises(InvalidInput):
        Patterns([pattern])


def test_files_and_patterns_have_bounds() -> None:
    with pytest.raises(TooLarge):
        read_ignore_file(b"a" * (MAX_FILE + 1))
    with pytest.raises(TooLarge):
        Patterns(["a"] * (MAX_PATTERNS + 1))


@pytest.mark.parametrize("pattern", ["*a" * 40 + "b", "**/a/" * 40 + "b", "a**a**c", "[ab]*" * 40 + "c"])
def test_no_pattern_takes_long(pattern: str) -> None:
    """Each would take years where every star were tried at every place."""
    path = "/".join(["a" * 50] * 40)
    assert not Patterns([pattern]).excludes(path)
    assert not Patterns([pattern]).excludes("a/" * 1000 + "a")


@given(st.text(alphabet="ab/*?![]^-\\. ", max_size=20), st.text(alphabet="ab/.", min_size=1, max_size=20))
def test_any_pattern_decides_or_is_refused(pattern: str, path: str) -> None:
    try:
        patterns = Patterns([pattern])
    except InvalidInput:
        return
    assert patterns.excludes(path) in (True, False)


_PARTS = st.lists(st.sampled_from(["a", "b", "*", "**", "a*b", "*a*", "?"]), min_size=1, max_size=6)


@given(_PARTS, st.lists(st.sampled_from(["a", "b", "ab", "aab", "ba"]), min_size=1, max_size=6))
def test_it_decides_as_one_that_tries_everything(pattern: list[str], path: list[str]) -> None:
    wanted = any(_matches(pattern, path[:length]) for length in range(1, len(path) + 1))
    assert Patterns(["/".join(pattern)]).excludes("/".join(path)) is wanted


def _matches(pattern: list[str], path: list[str]) -> bool:
    if not pattern:
        return not path
    if pattern[0] == "**":
        if len(pattern) == 1:
            return bool(path)
        return any(_matches(pattern[1:], path[at:]) for at in range(len(path) + 1))
    return bool(path) and _name(pattern[0], path[0]) and _matches(pattern[1:], path[1:])


def _name(pattern: str, name: str) -> bool:
    if not pattern:
        return not name
    if pattern[0] == "*":
        return any(_name(pattern[1:], name[at:]) for at in range(len(name) + 1))
    return bool(name) and pattern[0] in ("?", name[0]) and _name(pattern[1:], name[1:])
