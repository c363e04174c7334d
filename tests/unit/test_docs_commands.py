"""All `isola` and `isolad` commands in pages can be parsed."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from isola.cli import index
from isola.cli.grammar import Group
from isola.cli.parsing import parse

ROOT = Path(__file__).parents[2]
PAGES = sorted([*(ROOT / "docs").rglob("*.md"), ROOT / "README.md", ROOT / "CONTRIBUTING.md"])
_CALL = re.compile(r"(?:^|[|;(]|&&|=\S+) *isola ")


def shown(page: Path) -> Iterator[str]:
    """Indented lines that call the program; pages generated from the parser's tables are tested elsewhere."""
    if page.name == "cli.md":
        return
    fenced = False
    for line in page.read_text().splitlines():
        fenced ^= line.startswith("```")  # output of a command
        if not fenced and line.startswith("    ") and _CALL.search(line.partition(" #")[0].strip()):
            yield line.strip()


def commands(line: str) -> Iterator[list[str]]:
    """The arguments of each call of `isola` in a line, up to the end of the command."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    arguments = list(lexer)
    for place, argument in enumerate(arguments):
        if argument == "isola" and (place == 0 or arguments[place - 1][-1] in "|&;(" or "=" in arguments[place - 1]):
            rest = arguments[place + 1 :]
            ends = [i for i, each in enumerate(rest) if each[0] in "|&;<>()"]
            yield rest[: ends[0]] if ends else rest


SHOWN = [(page, line) for page in PAGES for line in shown(page)]


@pytest.mark.parametrize(("page", "line"), SHOWN, ids=lambda value: value.stem if isinstance(value, Path) else value)
def test_commands_on_pages_are_parsed(page: Path, line: str) -> None:
    found = list(commands(line))
    assert found, "the line contains isola, but does not call it"
    for arguments in found:
        if arguments == ["--help"]:
            continue
        name = index.ALIASES.get(arguments[0], arguments[0])
        command = index.find(name)
        assert command is not None, f"there is no verb {arguments[0]!r}"
        rest = arguments[1:]
        while isinstance(command, Group):
            group, verb = command, rest.pop(0)
            command = group.find(verb)
            assert command is not None, f"{group.path} has no verb {verb!r}"
        parse(command, rest)


def test_there_are_commands_on_pages() -> None:
    assert len(SHOWN) > 80
