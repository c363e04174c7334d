"""Processes of a guest in the columns of ``ps``. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from isola.model.stats import ProcessTable
from isola.runtimes.agent.reports import Process

_TICKS = 100
_TITLES = ("UID", "PID", "PPID", "STAT", "RSS", "TIME", "CMD")


def table_of(processes: Iterable[Process]) -> ProcessTable:
    """By number; RSS in KiB, as ``ps`` shows it."""
    return ProcessTable(_TITLES, tuple(_row(each) for each in sorted(processes, key=lambda each: each.pid)))


def _row(process: Process) -> tuple[str, ...]:
    seconds = process.cpu // _TICKS
    return (
        str(process.uid),
        str(process.pid),
        str(process.parent),
        process.state,
        str(process.resident >> 10),
        f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}",
        process.command or f"[{process.pid}]",
    )
