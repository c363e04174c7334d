"""Listings as table, JSON, YAML or CSV."""

from __future__ import annotations

import sys

from isola.cli.grammar import Option

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from isola.cli.context import Context

    Item = Mapping[str, Any]

_NEVER = ("0001-01-01", "1970-01-01T00:00:00Z")
FORMATS = ("table", "json", "yaml", "csv")
ALL_PROJECTS = Option("-A --all-projects", "Include all projects")
FORMAT = Option("-f --format", "How to print it", value="FORMAT", choices=FORMATS, default="table")
DOCUMENT_FORMAT = Option("-f --format", "How to print it", value="FORMAT", choices=("yaml", "json"), default="yaml")
"""Of one object."""


def time_of(value: object, length: int = 19) -> str:
    """A time of the API as people read it, to the second or the minute (16); empty for none, and for "never"."""
    text = str(value or "")
    return "" if text.startswith(_NEVER) else text[:length].replace("T", " ")


def users_of(item: Item) -> list[str]:
    """What uses an object, without the API's prefix: ``instances/web1``; of another project with its name."""
    from isola.client.paths import short

    shown = (short(address).partition("?project=") for address in item.get("used_by") or ())
    return [f"{path} (project {project})" if project else path for path, _, project in shown]


class Column:
    """A column of a listing: its title and a function for its cells. A cell may have several lines."""

    def __init__(self, title: str, cell: str | Callable[[Item], object]) -> None:
        self.title = title
        self._cell = cell

    def of(self, item: Item) -> str:
        """The cell's text."""
        value = item.get(self._cell) if isinstance(self._cell, str) else self._cell(item)
        if value is None:
            return ""
        if isinstance(value, bool):
            return "yes" if value else "no"
        return str(value)


def show(context: Context, items: Sequence[Item], columns: Sequence[Column], spare: Sequence[Column] = ()) -> None:
    """Print a listing in the chosen format: the columns, or for JSON and YAML the API's objects.

    A table fits the terminal's width; columns of ``spare`` are dropped first, in this order.
    """
    kind = context.args.text("format") or "table"
    if kind in ("json", "yaml"):
        document(context, list(items), kind)
    elif kind == "csv":
        for item in items:
            context.write(",".join(_csv(column.of(item)) for column in columns))
    else:
        from isola.cli.table import draw
        from isola.cli.terminal import size

        table = draw(
            [column.title for column in columns],
            [[column.of(item) for column in columns] for item in items],
            room=size(1)[0] if sys.stdout.isatty() else None,
            spare=[columns.index(column) for column in spare],
        )
        sys.stdout.write(table)


def document(context: Context, value: object, kind: str = "") -> None:
    """Print a value as JSON or YAML, by default as its options say."""
    if (kind or context.args.text("format")) == "json":
        import json

        context.write(json.dumps(value, indent=2, ensure_ascii=not sys.stdout.isatty()))
    else:
        from isola.cli.yaml import dump

        sys.stdout.write(dump(value))


def _csv(text: str) -> str:
    return '"' + text.replace('"', '""') + '"' if any(mark in text for mark in ',"\r\n') else text
