"""The reference page of the command line: ``python -m isola.cli.reference > docs/reference/cli.md``."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence

from isola.cli import index
from isola.cli.grammar import GLOBAL_OPTIONS, Command, Group, Option

_HEAD = """# The command line

Written by `python -m isola.cli.reference` from the tables that the parser reads. `isola COMMAND --help` says the same.

Exit status: 0 for success, 1 for failure (also when the output cannot be written), 2 for a wrong command line, 130
after Ctrl-C, 141 when the reader of the output went away; `exec`, `shell` and `run` end with the status of their
command. `ISOLA_DIR` names the daemon's directory, `NO_COLOR` turns colours off, `ISOLA_DEBUG=1` shows the traceback of
a mistake of ours.
"""


def page() -> str:
    """The whole page."""
    lines = [_HEAD, "## Options everywhere", "", *_options(GLOBAL_OPTIONS)]
    for chapter, names in index.CHAPTERS.items():
        lines += ["", f"## {chapter}"]
        for name in names:
            found = index.find(name)
            lines += _group(found) if isinstance(found, Group) else _command(found) if found else ()
    return "\n".join(lines) + "\n"


def _group(group: Group) -> Iterator[str]:
    yield from ("", f"### isola {group.name}", "", f"{group.summary}.")
    for command in group.all():
        yield from _command(command, level=4)


def _command(command: Command, level: int = 3) -> Iterator[str]:
    yield from ("", f"{'#' * level} isola {command.path}", "", f"{command.summary}.", "", f"    {command.usage}")
    if command.details:
        yield from ("", *command.details.strip().splitlines())
    if command.arguments:
        yield from ("", *_table(("argument", "is"), ((f"`{item.name}`", item.help) for item in command.arguments)))
    if command.options:
        yield from ("", *_options(command.options))
    if command.examples:
        widest = max(len(typed) for typed, _ in command.examples)
        yield from ("", *(f"    {typed:{widest}}  # {does}" for typed, does in command.examples))


def _options(options: Sequence[Option]) -> Iterator[str]:
    rows = []
    for option in options:
        text = option.help
        if option.choices:
            text += ": " + ", ".join(f"`{choice}`" for choice in option.choices)
        if option.default:
            text += f" (default `{option.default}`)"
        if option.repeat:
            text += "; may be repeated"
        rows.append((f"`{option.shown}`", text))
    return _table(("option", "does"), rows)


def _table(titles: tuple[str, str], rows: Iterable[tuple[str, str]]) -> Iterator[str]:
    yield f"| {titles[0]} | {titles[1]} |"
    yield "| --- | --- |"
    for left, right in rows:
        yield f"| {left} | {right} |"


if __name__ == "__main__":
    sys.stdout.write(page())
