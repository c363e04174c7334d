"""The tables of all verbs are complete and consistent, and the page generated from them is up to date."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from isola.cli import index
from isola.cli.grammar import GLOBAL_OPTIONS, Command, Group
from isola.cli.help import describe, overview
from isola.cli.main import run
from isola.cli.parsing import parse
from isola.cli.reference import page

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "cli.md"


def verbs() -> Iterator[Command]:
    for name in index.names():
        found = index.find(name)
        assert found is not None, f"{name} is in the index, but its file does not have it"
        yield from found.all() if isinstance(found, Group) else (found,)


VERBS = list(verbs())


def test_the_reference_page_is_up_to_date() -> None:
    assert PAGE.read_text() == page(), "run: python -m isola.cli.reference > docs/reference/cli.md"


def test_every_file_of_verbs_is_in_the_index() -> None:
    files = {path.stem for path in Path(index.__file__).with_name("commands").glob("*.py")} - {"__init__"}
    assert files == {file for chapter in (*index.CHAPTERS.values(), index.HIDDEN) for file in chapter.values()}


def test_every_alias_has_a_target() -> None:
    assert set(index.ALIASES.values()) <= set(index.names())
    assert not set(index.ALIASES) & set(index.names())


@pytest.mark.parametrize("command", VERBS, ids=lambda command: command.path)
def test_every_verb_is_explained_with_examples_that_parse(command: Command) -> None:
    assert command.examples
    assert not command.summary.endswith(".")
    text = describe(command)
    for explained in (*(item.help for item in command.arguments), *(item.help for item in command.options)):
        assert explained in text
    for typed, _ in command.examples:
        arguments = shlex.split(typed.replace("<(", "").replace(")", ""))
        arguments = arguments[arguments.index("isola") + 1 :]
        for mark in (">", "<", "|"):
            arguments = arguments[: arguments.index(mark)] if mark in arguments else arguments
        head = command.path.split()
        assert index.ALIASES.get(arguments[0], arguments[0]) == head[0]
        parse(command, arguments[len(head) :])


@pytest.mark.parametrize("command", VERBS, ids=lambda command: command.path)
def test_no_two_options_of_a_verb_share_a_name(command: Command) -> None:
    names = [name for option in (*command.options, *GLOBAL_OPTIONS) for name in option.names]
    assert sorted(names) == sorted(set(names))
    for argument in command.arguments[:-1]:
        assert not argument.many


@pytest.mark.parametrize(
    "arguments", [[], ["--help"], ["help", "launch"], ["network"], ["network", "-h"], ["help", "image", "build"]]
)
def test_help_is_available_in_many_ways(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(arguments) == 0
    assert "isola" in capsys.readouterr().out


def test_the_overview_names_every_noun_and_verb() -> None:
    assert [name for name in index.names() if f"\n  {name} " not in overview()] == []


SHOWN = [each for each in VERBS if each.path.rpartition(" ")[2] in ("show", "info") and each.path != "file show"]


@pytest.mark.parametrize("command", SHOWN, ids=lambda command: command.path)
def test_what_shows_one_thing_shows_it_to_programs(command: Command) -> None:
    (choices,) = [option.choices for option in command.options if "--format" in option.names]
    assert {"json", "yaml"} <= set(choices)
