"""Help texts, generated from the parser's tables."""

from __future__ import annotations

import sys

from isola.cli.grammar import GLOBAL_OPTIONS, Command, Group
from isola.cli.terminal import colours

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_FIRST_STEPS = (
    ("isola launch debian/12 web1", "create and start a Debian system"),
    ("isola list", "all of them"),
    ("isola shell web1", "open a shell in it"),
    ("isola exec web1 -- apt-get update", "run one command in it"),
    ("isola stop web1; isola delete web1", "delete it"),
)


def overview() -> str:
    """The page of ``isola`` alone: first steps, then all commands by chapter."""
    from isola.cli import index

    lines = ["Isola runs every kind of isolated Linux workload.", "", _title("First steps"), *_table(_FIRST_STEPS)]
    for chapter, names in index.CHAPTERS.items():
        rows = [(name, found.summary) for name in names if (found := index.find(name)) is not None]
        lines += ["", _title(chapter), *_table(rows)]
    lines += ["", _title("Options everywhere"), *_options(GLOBAL_OPTIONS)]
    lines += ["", "isola COMMAND --help explains a command and shows examples."]
    return "\n".join(lines) + "\n"


def describe(item: Command | Group) -> str:
    """The help page of a verb or a noun."""
    lines = _group(item) if isinstance(item, Group) else _command(item)
    return "\n".join(lines) + "\n"


def _group(group: Group) -> list[str]:
    rows = [(command.name, command.summary) for command in group.commands]
    lines = [f"{group.summary}.", "", f"Usage: isola {group.path} COMMAND", "", _title("Commands"), *_table(rows)]
    examples = [command.examples[0] for command in group.commands if command.examples]
    if examples:
        lines += ["", _title("Examples"), *_table(examples)]
    return [*lines, "", f"isola {group.path} COMMAND --help explains a command and shows examples."]


def _command(command: Command) -> list[str]:
    lines = [f"{command.summary}.", "", f"Usage: {command.usage}"]
    if command.aliases:
        lines.append(f"Aliases: {', '.join(command.aliases)}")
    if command.details:
        lines += ["", *command.details.strip().splitlines()]
    if command.arguments:
        lines += ["", _title("Arguments"), *_table((argument.name, argument.help) for argument in command.arguments)]
    lines += ["", _title("Options"), *_options([*command.options, *GLOBAL_OPTIONS])]
    if command.examples:
        lines += ["", _title("Examples")]
        lines += _table(command.examples)
    return lines


def _options(options: Sequence[object]) -> list[str]:
    from isola.cli.grammar import Option

    rows = []
    for option in options:
        assert isinstance(option, Option)
        text = option.help
        if option.choices:
            text += f": {', '.join(option.choices)}"
        if option.default:
            text += f" (default: {option.default})"
        if option.repeat:
            text += "; may be repeated"
        rows.append((option.shown, text))
    return _table(rows)


def _table(rows: Iterable[tuple[str, str]]) -> list[str]:
    rows = list(rows)
    widest = min(max((len(left) for left, _ in rows), default=0), 44)
    lines = []
    for left, right in rows:
        if len(left) > widest:
            lines += [f"  {left}", f"  {'':{widest}}  {right}"]
        else:
            lines.append(f"  {left:{widest}}  {right}".rstrip())
    return lines


def _title(text: str) -> str:
    return f"\x1b[1m{text}\x1b[0m" if colours(sys.stdout) else f"{text}:"
