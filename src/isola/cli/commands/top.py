"""``isola top`` and ``isola stats``."""

from __future__ import annotations

import time

from isola.cli.commands.exec import NAME
from isola.cli.grammar import Argument, Command, Option
from isola.cli.output import FORMAT, Column, show
from isola.model.units import format_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from isola.cli.context import Context
    from isola.cli.output import Item
    from isola.client.shapes import StatisticsInfo

_PERIOD = 1.0
"""Seconds over which the use of CPUs is measured."""


def top(context: Context) -> None:
    """Print its processes."""
    from isola.client.runs import processes

    found = processes(context.client, context.args.text("NAME"), " ".join(context.args.many("OPTIONS")))
    items = [dict(zip(found["titles"], row, strict=False)) for row in found["rows"]]
    show(context, items, [Column(title, title) for title in found["titles"]])


def stats(context: Context) -> None:
    """Print what instances use, once or again and again."""
    measure(context, context.args.many("NAME"))


def measure(context: Context, names: Sequence[str]) -> None:
    """Of these instances, or of all that run; with ``--follow`` until Ctrl-C."""
    first = _measured(context, names)
    while True:
        time.sleep(_PERIOD)
        second = _measured(context, names)
        items = [_item(name, first[name], now) for name, now in second.items() if name in first]
        show(context, items, COLUMNS)
        if not context.args.flag("follow"):
            return
        first = second


def _measured(context: Context, names: Sequence[str]) -> dict[str, StatisticsInfo]:
    """Of these instances, or of all that run: one that has just ended is left out."""
    from isola.client.runs import statistics
    from isola.errors import NotFound, WrongState

    found: dict[str, StatisticsInfo] = {}
    all_names = [each["name"] for each in context.client.instances.all() if each.get("status") == "Running"]
    for name in names or all_names:
        try:
            found[name] = statistics(context.client, name)
        except (NotFound, WrongState):
            if names:
                raise
    return found


def _item(name: str, before: StatisticsInfo, now: StatisticsInfo) -> dict[str, Any]:
    """The fields that are printed: shares in percent, of one CPU and of the limit of memory."""
    from datetime import datetime

    seconds = (datetime.fromisoformat(now["at"]) - datetime.fromisoformat(before["at"])).total_seconds() or 1.0
    memory, network, disks = now["memory"], now["network"].values(), now["disks"]
    return {
        "name": name,
        "cpu": round((now["cpu"]["usage"] - before["cpu"]["usage"]) / seconds / 1e7, 2),
        "memory": memory["usage"],
        "memory_limit": memory["limit"],
        "memory_share": round(100 * memory["usage"] / memory["limit"], 2) if memory["limit"] else 0.0,
        "received": sum(each["bytes_received"] for each in network),
        "sent": sum(each["bytes_sent"] for each in network),
        "read": sum(each["read"] for each in disks),
        "written": sum(each["written"] for each in disks),
        "processes": now["processes"]["count"],
    }


def _pair(item: Item, one: str, other: str) -> str:
    return f"{format_size(item[one])} / {format_size(item[other])}"


COLUMNS = (
    Column("NAME", "name"),
    Column("CPU %", lambda item: f"{item['cpu']:.2f}"),
    Column("MEMORY / LIMIT", lambda item: _pair(item, "memory", "memory_limit")),
    Column("MEMORY %", lambda item: f"{item['memory_share']:.2f}"),
    Column("RECEIVED / SENT", lambda item: _pair(item, "received", "sent")),
    Column("READ / WRITTEN", lambda item: _pair(item, "read", "written")),
    Column("PROCESSES", "processes"),
)
COMMANDS = (
    Command(
        "top",
        "List the processes of an instance, as the host sees them",
        top,
        NAME,
        Argument("OPTIONS", "Options of ps that choose the columns", optional=True, rest=True),
        FORMAT,
        examples=(
            ("isola top web1", "its processes"),
            ("isola top web1 -- -o pid,rss,args", "with other columns"),
        ),
    ),
    Command(
        "stats",
        "Show what running instances use: CPU, memory, network, disks",
        stats,
        Argument(
            "NAME", "Instances to show (default: all running ones)", optional=True, many=True, complete="instances"
        ),
        Option("--follow", "Repeat every second, until Ctrl-C"),
        FORMAT,
        examples=(
            ("isola stats", "all that run"),
            ("isola stats web1 --follow", "one, every second"),
            ("isola stats -f json", "in bytes, for scripts"),
        ),
    ),
)
