"""Tables: a header, a rule, and rows; nothing that gets in the way of reading or of ``awk``."""

from __future__ import annotations

import sys

from isola.cli.terminal import clean, colours, unicode_works, width

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_GAP = "  "
_COLOURS = {"Running": "\x1b[32m", "Frozen": "\x1b[36m", "Error": "\x1b[31m", "Stopped": "\x1b[2m"}


def draw(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """The table as text. A cell with several lines makes its row as high."""
    cells = [[[clean(line) for line in cell.split("\n")] for cell in row] for row in rows]
    widths = [width(title) for title in titles]
    for row in cells:
        for number, lines in enumerate(row):
            widths[number] = max(widths[number], *map(width, lines))
    coloured = colours(sys.stdout)
    rule = "─" if unicode_works(sys.stdout) else "-"
    header = _line(titles, widths)
    lines = [f"\x1b[1m{header}\x1b[0m" if coloured else header]
    lines.append(rule * (sum(widths) + len(_GAP) * (len(widths) - 1)))
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
