"""Variables in instructions, as a table of what Docker makes of them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isola.builds.dockerfile.expansion import MAX_VALUE, expand, expand_content, expand_words

VARIABLES = {
    "PWD": "/home",
    "SHELL": "bash",
    "EMPTY": "",
    "kor": "한국어",
    "p": "a/b/a.tar.gz",
    "star": "a*b",
    "n1": "x",
}


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("hello", "hello"),
        ("he'll'o", "hello"),
        ("he\\'llo", "he'llo"),
        ("he\\\\'llo'", "he\\llo"),
        ('abc"def"', "abcdef"),
        ('"a \\" b"', 'a " b'),
        ('"a \\b"', "a \\b"),
        ("'a \\\" $PWD'", 'a \\" $PWD'),
        ("$PWD", "/home"),
        ("${PWD}x", "/homex"),
        ("$PWDx", ""),
        ("$PWD.x", "/home.x"),
        ("\\$PWD", "$PWD"),
        ("a$", "a$"),
        ("$ a", "$ a"),
        ("$1x", "x"),
        ("$n1", "x"),
        ("$kor", "한국어"),
        ('"$PWD"', "/home"),
        ("\"${PWD}/'x'\"", "/home/'x'"),
        ("${X:-a b}", "a b"),
        ("${X:-$PWD}", "/home"),
        ("${X:-${Y:-${PWD}}}", "/home"),
        ("${EMPTY:-x}", "x"),
        ("${EMPTY-x}", ""),
        ("${X-x}", "x"),
        ("${X:+x}", ""),
        ("${EMPTY:+x}", ""),
        ("${EMPTY+x}", "x"),
        ("${PWD:+x}", "x"),
        ("${PWD:?x}", "/home"),
        ("${EMPTY?x}", ""),
        ("${X:-'}'}", "}"),
        ("${X:-\\}}", "}"),
        ("${p#*/}", "b/a.tar.gz"),
        ("${p##*/}", "a.tar.gz"),
        ("${p%.*}", "a/b/a.tar"),
        ("${p%%.*}", "a/b/a"),
        ("${p#x}", "a/b/a.tar.gz"),
        ("${p%?}", "a/b/a.tar.g"),
        ("${p/a/X}", "X/b/a.tar.gz"),
        ("${p//a/X}", "X/b/X.tXr.gz"),
        ("${p//a\\//X}", "Xb/a.tar.gz"),
        ("${p/a*/X}", "X"),
        ("${p/zz/X}", "a/b/a.tar.gz"),
        ("${p//./}", "a/b/atargz"),
        ("${star#a\\*}", "b"),
        ("${EMPTY#*}", ""),
        ("${X%x}", ""),
        ("a\\", "a"),
        ("", ""),
    ],
)
def test_one_word(text: str, want: str) -> None:
    assert expand(text, VARIABLES) == want


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("${X:?say x}", "X: say x"),
        ("${X?}", "X: is not allowed to be unset"),
        ("${EMPTY:?}", "EMPTY: is not allowed to be empty"),
        ("${", "syntax error: missing '}'"),
        ("${X", "syntax error: missing '}'"),
        ("${X:-", "syntax error: missing '}'"),
        ("${}", "syntax error: bad substitution"),
        ("${:-x}", "syntax error: bad substitution"),
        ("${X:=x}", "unsupported modifier (:=) in substitution"),
        ("${X=x}", "unsupported modifier (=) in substitution"),
        ("${X/a}", "syntax error: missing '/' in ${}"),
        ("${X/a/b", "syntax error: missing '}'"),
        ("${p#\\a}", "invalid pattern"),
        ("'a", "looking for matching single-quote"),
        ('"a', "looking for matching double-quote"),
        ("${X:-" * 60 + "}" * 60, "nested too deeply"),
        ("$a" * 20, "more than"),
        ("${a//a*a*a*/$a}", "too long"),
    ],
)
def test_what_cannot_be_expanded(text: str, message: str) -> None:
    with pytest.raises(ValueError) as caught:
        expand(text, {**VARIABLES, "a": "a" * (MAX_VALUE // 10)})
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("a b", ("a", "b")),
        ("$x", ("1", "2", "3")),
        ('"$x" y', ("1 2  3", "y")),
        ("a$x", ("a1", "2", "3")),
        ("a\\ b c", ("a b", "c")),
        (" ", ()),
    ],
)
def test_several_words(text: str, want: tuple[str, ...]) -> None:
    assert expand_words(text, {"x": "1 2  3"}) == want


def test_another_escape_character() -> None:
    assert expand("C:\\$x`$x", {"x": "y"}, "`") == "C:\\y$x"


def test_the_content_of_a_file_keeps_its_quotes() -> None:
    text = 'don\'t "$x" \'${x}\' \\$x ${y:-"z"}\n'
    assert expand_content(text, {"x": "1"}) == 'don\'t "1" \'1\' $x "z"\n'


@given(st.text(alphabet="${}:-+?#%/*\\'\"ab ", max_size=60))
def test_any_text_is_expanded_or_refused(text: str) -> None:
    try:
        assert isinstance(expand(text, {"a": "b" * 50, "b": "a/b"}), str)
    except ValueError as error:
        assert str(error)
