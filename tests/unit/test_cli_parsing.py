"""Parsing of the command line's arguments."""

from __future__ import annotations

import pytest

from isola.cli.arguments import Arguments, UsageError
from isola.cli.grammar import Argument, Command, Group, Option
from isola.cli.parsing import parse, split_globals


def verb(*parameters: Argument | Option) -> Command:
    return Command("verb", "A verb", lambda context: None, *parameters)


EXEC = verb(
    Argument("NAME", "an instance"),
    Argument("COMMAND", "what", rest=True),
    Option("-t --tty", "a terminal"),
    Option("-u --user", "who", value="UID"),
    Option("-E --env", "a variable", value="X=Y", repeat=True),
)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("web1 -- ls -l", {"NAME": "web1", "COMMAND": ["ls", "-l"]}),
        ("web1 ls -l", {"NAME": "web1", "COMMAND": ["ls", "-l"]}),
        ("-t web1 -u 5 -- ls --tty", {"NAME": "web1", "tty": True, "user": "5", "COMMAND": ["ls", "--tty"]}),
        ("web1 --user=5 ls", {"NAME": "web1", "user": "5", "COMMAND": ["ls"]}),
        ("-tu5 web1 ls", {"NAME": "web1", "tty": True, "user": "5", "COMMAND": ["ls"]}),
        ("-E A=1 --env B=2 web1 ls", {"NAME": "web1", "env": ["A=1", "B=2"], "COMMAND": ["ls"]}),
        ("web1 --quiet ls", {"NAME": "web1", "quiet": True, "COMMAND": ["ls"]}),
        ("web1 - x", {"NAME": "web1", "COMMAND": ["-", "x"]}),
        ("web1 -- -- x", {"NAME": "web1", "COMMAND": ["--", "x"]}),
    ],
)
def test_a_verb_that_takes_a_command_leaves_its_options_alone(line: str, expected: dict[str, object]) -> None:
    assert parse(EXEC, line.split()) == expected


def test_options_may_appear_anywhere_for_other_verbs() -> None:
    command = verb(
        Argument("NAME", "which", many=True), Option("-f --force", "at once"), Option("--timeout", "s", value="S")
    )
    assert parse(command, ["a", "-f", "b", "--timeout", "-1"]) == {"NAME": ["a", "b"], "force": True, "timeout": "-1"}


@pytest.mark.parametrize(
    ("line", "message", "hint"),
    [
        ("", "NAME is missing", "usage: isola verb"),
        ("web1", "COMMAND is missing", "usage"),
        ("web1 --usr 5 ls", "Unknown option --usr", "did you mean --user?"),
        ("-z web1 ls", "Unknown option -z", ""),
        ("--tty=yes web1 ls", "--tty takes no value", ""),
        ("web1 --user", "--user needs a value: UID", ""),
    ],
)
def test_invalid_command_lines_are_refused_with_a_hint(line: str, message: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(EXEC, line.split())
    assert caught.value.message.startswith(message)
    assert hint in caught.value.hint


def test_surplus_arguments_and_unknown_choices_are_refused() -> None:
    command = verb(Argument("NAME", "which"), Option("--format", "how", value="F", choices=("json", "yaml")))
    with pytest.raises(UsageError, match="Unexpected argument 'two'"):
        parse(command, ["one", "two"])
    with pytest.raises(UsageError, match="one of json, yaml"):
        parse(command, ["one", "--format", "xml"])


@pytest.mark.parametrize("line", ["a/b/c x y", "a b/c x y", "a/b c x y", "a b c x y"])
def test_nested_names_are_separated_by_slashes_or_spaces(line: str) -> None:
    command = verb(Argument("A/B/C", "which", parts=3), Argument("X", "more", many=True))
    assert parse(command, line.split()) == {"A/B/C": "a/b/c", "X": ["x", "y"]}


@pytest.mark.parametrize(
    ("line", "expected"), [("a b", ["a/b"]), ("a b c", ["a/b", "a/c"]), ("a/b c/d", ["a/b", "c/d"]), ("a", ["a"])]
)
def test_the_outer_name_applies_to_all_following_names(line: str, expected: list[str]) -> None:
    assert parse(verb(Argument("A/B", "which", parts=2, many=True)), line.split()) == {"A/B": expected}


def test_help_wins_over_what_is_missing() -> None:
    assert parse(EXEC, ["--help"]) == {"help": True}


def test_global_options_may_precede_the_verb() -> None:
    assert split_globals(["--dir", "/srv/i", "-q", "list", "-q"]) == ({"dir": "/srv/i", "quiet": True}, ["list", "-q"])


def test_values_are_read_by_kind() -> None:
    args = Arguments({"timeout": "-1", "mode": "0644", "bad": "x", "config": ["a=b=c", "d="], "worse": ["novalue"]})
    assert (args.number("timeout"), args.number("mode", base=8), args.number("none", 7)) == (-1, 0o644, 7)
    assert args.pairs("config") == {"a": "b=c", "d": ""}
    for wrong in (lambda: args.number("bad"), lambda: args.pairs("worse")):
        with pytest.raises(UsageError):
            wrong()


def test_nouns_may_be_nested() -> None:
    run = lambda context: 0  # noqa: E731
    add = Command("add", "Add one", run, examples=(("isola config trust add x", "one"),))
    trust = Group("trust", "Who is trusted", add)
    config = Group("config", "Settings", Command("get", "Read", run), trust)
    assert (trust.path, add.path) == ("config trust", "config trust add")
    found = config.find("trust")
    assert isinstance(found, Group) and found.find("add") is add
    assert [each.path for each in config.all()] == ["config get", "config trust add"]
    assert trust.examples == add.examples
