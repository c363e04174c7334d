"""Tables: a header, a rule, and rows, easy to read and to process with ``awk``."""

from __future__ import annotations

import sys

from isola.cli.terminal import clean, colours, unicode_works, width

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_GAP = "  "
_SHORTEST = 8
"""Minimum width of a shortened cell."""
_COLOURS = {"Running": "\x1b[32m", "Frozen": "\x1b[36m", "Error": "\x1b[31m", "Stopped": "\x1b[2m"}


def draw(
    titles: Sequence[str], rows: Sequence[Sequence[str]], *, room: int | None = None, spare: Sequence[int] = ()
) -> str:
    """The table as text. The height of a row is that of its highest cell.

    If it is wider than ``room``, columns of ``spare`` are left out in this order until it fits; if it is still too
    wide, the widest columns except the first are shortened.
    """
    cells = [[[clean(line) for line in cell.split("\n")] for cell in row] for row in rows]
    widths = [width(title) for title in titles]
    for row in cells:
        for number, lines in enumerate(row):
            widths[number] = max(widths[number], *map(width, lines))
    shown = list(range(len(widths)))
    if room is not None:
        for number in spare:
            if _total([widths[column] for column in shown]) > room and len(shown) > 1:
                shown.remove(number)
        widths = _fitted(widths, shown, room)
    return _drawn(
        [titles[column] for column in shown],
        [[[shortened(line, widths[column]) for line in row[column]] for column in shown] for row in cells],
        [widths[column] for column in shown],
    )


def shortened(text: str, columns: int) -> str:
    """The text, or its beginning and an ellipsis."""
    if width(text) <= columns:
        return text
    mark = "…" if unicode_works(sys.stdout) else "~"
    while text and width(text) > columns - 1:
        text = text[:-1]
    return text + mark


def _total(widths: Sequence[int]) -> int:
    return sum(widths) + len(_GAP) * (len(widths) - 1)


def _fitted(widths: list[int], shown: Sequence[int], room: int) -> list[int]:
    """Shorten the widest column, never the first, until the table fits or all are as short as they may be."""
    fitted = list(widths)
    while (over := _total([fitted[column] for column in shown]) - room) > 0:
        by_width = sorted((fitted[column] for column in shown[1:]), reverse=True)
        if not by_width or by_width[0] <= _SHORTEST:
            break
        next_lower = max(by_width[1] if len(by_width) > 1 else 0, _SHORTEST - 1)
        widest = next(column for column in shown[1:] if fitted[column] == by_width[0])
        fitted[widest] -= min(over, max(1, by_width[0] - next_lower))
    return fitted


def _drawn(titles: Sequence[str], cells: Sequence[Sequence[Sequence[str]]], widths: Sequence[int]) -> str:
    coloured = colours(sys.stdout)
    rule = "─" if unicode_works(sys.stdout) else "-"
    header = _line([shortened(title, columns) for title, columns in zip(titles, widths, strict=True)], widths)
    lines = [f"\x1b[1m{header}\x1b[0m" if coloured else header]
    lines.append(rule * _total(widths))
    for row in cells:
        height = max(map(len, row), default=1)
        for level in range(height):
            parts = [lines_[level] if level < len(lines_) else "" for lines_ in row]
            lines.append(_line(parts, widths, coloured=coloured))
    return "\n".join(lines) + "\n"


def _line(parts: Sequence[str], widths: Sequence[int], *, coloured: bool = False) -> str:
    cells = []
    for part, columns in zip(parts, widths, strict=True):
        padding = " " * (columns - width(part))
        paint = _COLOURS.get(part) if coloured else None
        cells.append((f"{paint}{part}\x1b[0m" if paint else part) + padding)
    return _GAP.join(cells).rstrip()
