"""``isola logs`` and ``isola wait``."""

from __future__ import annotations

import sys

from isola.cli.arguments import UsageError
from isola.cli.commands.exec import NAME
from isola.cli.grammar import Command, Option

TYPE_CHECKING = False
if TYPE_CHECKING:
    from isola.cli.context import Context

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_BILLION = 1_000_000_000
CONDITIONS = ("not-running", "next-exit", "removed")


def logs(context: Context) -> None:
    """Print the output of an instance, standard error to standard error."""
    from isola.client.runs import output
    from isola.client.writing import write_all

    args = context.args
    sys.stdout.flush()
    tail = args.text("tail")
    pieces = output(
        context.client,
        args.text("NAME"),
        follow=args.flag("follow"),
        timestamps=args.flag("timestamps"),
        since=nanoseconds(args.text("since")),
        until=nanoseconds(args.text("until")),
        tail=args.number("tail", 0) if tail and tail != "all" else None,
    )
    for number, data in pieces:
        write_all(number, data)


def nanoseconds(text: str) -> int | None:
    """Since 1970, of ``10m`` ago, a time, or seconds since 1970; None for an empty text. Raises UsageError."""
    if not text:
        return None
    from datetime import UTC, datetime

    try:
        if text[-1:] in _UNITS:
            ago = float(text[:-1]) * _UNITS[text[-1]]
            return int((datetime.now(UTC).timestamp() - ago) * _BILLION)
        whole, _, part = text.partition(".")
        if whole.isascii() and whole.isdigit():
            return int(whole) * _BILLION + int((part + "0" * 9)[:9] or "0")
        return int(datetime.fromisoformat(text).astimezone(UTC).timestamp() * _BILLION)
    except (ValueError, OverflowError):
        raise UsageError(
            f"A time is expected, not {text!r}", hint="for example 10m, 2h, 2026-01-31T12:00:00 or 1769860800"
        ) from None


def wait(context: Context) -> int:
    """Wait for the end of a run, and exit as it did."""
    from isola.client.runs import wait as wait_for

    status = wait_for(context.client, context.args.text("NAME"), context.args.text("condition") or CONDITIONS[0])
    context.write(str(status))
    return 0


COMMANDS = (
    Command(
        "logs",
        "Print the output of an instance's program",
        logs,
        NAME,
        Option("-f --follow", "Keep printing new output until the instance stops"),
        Option("-n --tail", "Only the last lines", value="LINES", default="all"),
        Option("--since", "Only lines newer than this time", value="TIME"),
        Option("--until", "Only lines older than this time", value="TIME"),
        Option("-t --timestamps", "Begin each line with its time"),
        details="A time is 10m, 2h or 1d ago, 2026-01-31T12:00:00 (local), or seconds since 1970.",
        examples=(
            ("isola logs web1 -f -n 10", "the last ten lines, and what follows"),
            ("isola logs web1 --since 10m -t", "the last ten minutes, with times"),
            ("isola logs web1 --until 2026-01-31", "up to a day"),
        ),
    ),
    Command(
        "wait",
        "Wait until an instance stops, and print its exit status",
        wait,
        NAME,
        Option("--condition", "What to wait for", value="CONDITION", choices=CONDITIONS, default=CONDITIONS[0]),
        examples=(
            ("isola wait job1", "until it has ended"),
            ("isola wait web1 --condition removed", "until it is deleted"),
        ),
    ),
)
