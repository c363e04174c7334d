"""``python -m bench.walls_table RESULTS...``: what walls cost, from results of ``make bench``, into isolation.md."""

import json
import re
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from bench.catalogue import workloads

PAGE = Path(__file__).parents[1] / "docs" / "explanation" / "isolation.md"
_BETWEEN = re.compile(r"(<!-- measured -->\n).*?(<!-- end -->)", re.DOTALL)
_WALLS = {"container": "runc", "sandbox": "runsc", "microvm": "qemu", "vm": "", "unikernel": "qemu"}
_WORK = {
    "boot": ("start until the program runs", "ms"),
    "memory": ("host memory with one program", "MiB"),
    "memory-20": ("host memory for each of 20", "MiB"),
    "syscall": ("one system call", "µs"),
    "write": ("writing to the root, with fsync", "MiB/s"),
    "network": ("data from the host over the bridge", "MiB/s"),
}
Figures = Mapping[str, Mapping[str, object]]


def table(rows: Figures) -> str:
    """Ours, then what the wall is made of, alone, in parentheses, and the ratio."""
    known = workloads()
    lines = [f"| | {' | '.join(f'`{wall}`' for wall in _WALLS)} |", f"| --- |{' --- |' * len(_WALLS)}"]
    for short, (what, unit) in _WORK.items():
        names = {wall: f"wall-{short}-{wall}" for wall in _WALLS}
        cells = [_cell(rows.get(names[wall]), floor) if names[wall] in known else "–" for wall, floor in _WALLS.items()]
        lines.append(f"| {what}, {unit} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _cell(row: Mapping[str, object] | None, floor: str) -> str:
    ours = _median(row.get("ours")) if row else None
    if row is None or ours is None:
        return "to be measured"
    theirs = _median(row.get("theirs"))
    if theirs is None:
        return _number(ours)
    return f"{_number(ours)} ({floor} {_number(theirs)}: {ours / theirs:.2f} ×)"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _median(samples: object) -> float | None:
    return statistics.median(samples) if isinstance(samples, Sequence) and samples else None


def updated(page: str, rows: Figures) -> str:
    """The page with this table."""
    return _BETWEEN.sub(lambda found: found[1] + table(rows) + found[2], page)


def main() -> None:
    """Later files win."""
    rows = {row["workload"]: row for name in sys.argv[1:] for row in json.loads(Path(name).read_text())["rows"]}
    PAGE.write_text(updated(PAGE.read_text(), rows))


if __name__ == "__main__":
    main()
