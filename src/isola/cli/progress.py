"""Progress of an operation: bars redrawn in place on a terminal, one line per step elsewhere."""

from __future__ import annotations

import time

from isola.cli.terminal import clean, colours, size, unicode_works, width

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TextIO

    from isola.client.shapes import OperationInfo, StepInfo

_BAR = 24
_MOST_STEPS = 12
_SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"


class Progress:
    """Shows the steps of one operation."""

    def __init__(self, stream: TextIO, title: str, began: float) -> None:
        """``began``: when, by ``time.monotonic``."""
        self._stream = stream
        self._title = title
        self._live = stream.isatty()
        self._fancy = unicode_works(stream)
        self._colours = colours(stream)
        self._began = began
        self._drawn = 0
        self._since: dict[int, float] = {}
        self._ended: dict[int, float] = {}

    def update(self, info: OperationInfo) -> None:
        """Show the operation's current progress."""
        steps = (info.get("metadata") or {}).get("progress")
        known: list[StepInfo] = [step for step in steps if isinstance(step, dict)] if isinstance(steps, list) else []  # type: ignore[misc]
        if self._live:
            self._note_times(known)
            self._draw(known)
        else:
            self._print_new(known)

    def close(self) -> None:
        """Erase the bars; lines printed without a terminal stay."""
        if self._drawn:
            self._stream.write(f"\r\x1b[{self._drawn}A\x1b[J\x1b[?25h")
            self._stream.flush()
            self._drawn = 0

    def _note_times(self, steps: list[StepInfo]) -> None:
        now = time.monotonic()
        for number, step in enumerate(steps):
            self._since.setdefault(number, now)
            if step.get("finished"):
                self._ended.setdefault(number, now)

    def _print_new(self, steps: list[StepInfo]) -> None:
        if self._title and not self._drawn and not self._since:
            self._stream.write(f"{self._title}\n")
            self._since[-1] = 0
        for number, step in enumerate(steps):
            if number not in self._since:
                self._since[number] = 0
                self._stream.write("  " * (_depth(step) + 1) + clean(str(step.get("name", ""))) + "\n")
        self._stream.flush()

    def _draw(self, steps: list[StepInfo]) -> None:
        columns, rows = size(self._stream.fileno())
        numbered = list(enumerate(steps))[-min(_MOST_STEPS, max(1, rows - 3)) :]
        lines = [f"{self._title} {self._seconds(time.monotonic() - self._began)}"] if self._title else []
        lines += [self._line(number, step) for number, step in numbered]
        text = "\x1b[?25l"
        if self._drawn:
            text += f"\r\x1b[{self._drawn}A\x1b[J"
        text += "".join(self._coloured(_cut(line, columns - 1)) + "\n" for line in lines)
        self._stream.write(text)
        self._stream.flush()
        self._drawn = len(lines)

    def _line(self, number: int, step: StepInfo) -> str:
        name = clean(str(step.get("name", "")))
        indent = "  " * (_depth(step) + 1)
        since = self._since[number]
        if step.get("finished"):
            mark = "✔" if self._fancy else "*"
            return f"{indent}{mark} {name}  {self._seconds(self._ended[number] - since)}"
        elapsed = time.monotonic() - since
        mark = _SPINNER[int(elapsed * 10) % len(_SPINNER)] if self._fancy else "-"
        return f"{indent}{mark} {name}  {self._amount(step, elapsed)}"

    def _amount(self, step: StepInfo, elapsed: float) -> str:
        done, total = step.get("done") or 0, step.get("total")
        in_bytes = step.get("unit") == "bytes"
        shown = _bytes(done) if in_bytes else str(done)
        speed = f"  {_bytes(done / elapsed)}/s" if in_bytes and done and elapsed > 0.2 else ""
        if total:
            share = min(1.0, done / total)
            return f"{self._bar(share)} {share:4.0%}{speed}"
        return f"{shown}{speed}" if done else self._seconds(elapsed)

    def _bar(self, share: float) -> str:
        full = round(share * _BAR)
        return "━" * full + "─" * (_BAR - full) if self._fancy else "[" + "#" * full + "." * (_BAR - full) + "]"

    def _coloured(self, line: str) -> str:
        return line.replace("✔", "\x1b[32m✔\x1b[0m", 1) if self._colours else line

    @staticmethod
    def _seconds(seconds: float) -> str:
        return f"{seconds:.1f}s" if seconds < 60 else f"{int(seconds // 60)}m{int(seconds % 60):02d}s"


def _depth(step: StepInfo) -> int:
    depth = step.get("depth") or 0
    return depth if 0 <= depth <= 8 else 8


def _cut(line: str, columns: int) -> str:
    while width(line) > columns:
        line = line[:-1]
    return line


def _bytes(amount: float) -> str:
    from isola.model.units import format_size

    return format_size(amount)
