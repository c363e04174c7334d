"""Medians, ratios and targets."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from bench.workload import Workload


@dataclass(frozen=True)
class Row:
    """One workload compared with one peer, from samples taken at the same time."""

    workload: Workload
    peer: str
    ours: Sequence[float]
    theirs: Sequence[float]
    versions: Sequence[str] = ()

    @property
    def ratio(self) -> float | None:
        """Isola / peer."""
        if not self.ours or not self.theirs or not statistics.median(self.theirs):
            return None
        return statistics.median(self.ours) / statistics.median(self.theirs)

    @property
    def target(self) -> float | None:
        """The ratio to reach."""
        return self.workload.targets.get(self.peer)

    @property
    def verdict(self) -> str:
        """Whether target and limit are met; empty if there are none."""
        verdicts = []
        if self.target is not None:
            verdicts.append(self.ratio is not None and self._reached(self.ratio, self.target))
        if self.workload.limit is not None:
            verdicts.append(bool(self.ours) and self._reached(statistics.median(self.ours), self.workload.limit))
        return ("reached" if all(verdicts) else "MISSED") if verdicts else ""

    def as_json(self) -> dict[str, object]:
        """Everything, with the samples."""
        return {
            "workload": self.workload.name, "title": self.workload.title, "unit": self.workload.unit, "peer": self.peer,
            "ours": list(self.ours), "theirs": list(self.theirs), "ratio": self.ratio, "target": self.target,
            "limit": self.workload.limit, "verdict": self.verdict,
            "versions": list(self.versions),
        }  # fmt: skip

    def _reached(self, figure: float, bound: float) -> bool:
        return figure >= bound if self.workload.more_is_better else figure <= bound


def render(rows: Sequence[Row]) -> str:
    """A table in Markdown."""
    lines = [("work", "peer", "ours", "theirs", "ratio", "target", "")]
    for row in sorted(
        rows, key=lambda row: list(dict.fromkeys(r.workload.name for r in rows)).index(row.workload.name)
    ):
        sign = "≥" if row.workload.more_is_better else "≤"
        bounds = [f"{sign} {row.target:g} ×"] if row.target is not None else []
        bounds += [f"{sign} {row.workload.limit:g} {row.workload.unit}"] if row.workload.limit is not None else []
        ratio = "—" if row.ratio is None else f"{row.ratio:.2f}"
        lines.append(
            (
                row.workload.title,
                row.peer,
                _figure(row.ours, row),
                _figure(row.theirs, row),
                ratio,
                ", ".join(bounds),
                row.verdict,
            )
        )
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    text = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in lines
    ]
    text.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(text)


def _figure(samples: Sequence[float], row: Row) -> str:
    if not samples:
        return "—"
    median = statistics.median(samples)
    return f"{median:.2f} {row.workload.unit}" if median < 10 else f"{median:,.0f} {row.workload.unit}"
