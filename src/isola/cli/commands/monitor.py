"""``isola monitor``."""

from __future__ import annotations

import sys

from isola.cli.grammar import Command, Option
from isola.cli.output import ALL_PROJECTS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from isola.cli.context import Context
    from isola.client.shapes import EventInfo

_ENDED = 200
"""The lowest status code of an operation that has ended."""
_TYPES = ("lifecycle", "operation", "logging")


def monitor(context: Context) -> None:
    """Print events as they happen, until Ctrl-C."""
    from isola.cli.terminal import shown
    from isola.client.failures import Unreachable

    kind = context.args.text("format") or "pretty"
    pretty = Pretty()
    with context.client.events(*context.args.many("type")) as follower:
        for event in follower:
            text = pretty.line(event) if kind == "pretty" else _text(event, kind)
            sys.stdout.write(shown(text, sys.stdout))
            sys.stdout.flush()
    raise Unreachable("The daemon closed the stream of events")


def _text(event: EventInfo, kind: str) -> str:
    if kind == "yaml":
        from isola.cli.yaml import dump

        return dump(event) + "---\n"
    from isola.client.json import encode

    return encode(event) + "\n"


class Pretty:
    """Formats one line per event; unchanged reports of an operation are dropped."""

    def __init__(self) -> None:
        self._last: dict[str, str] = {}

    def line(self, event: EventInfo) -> str:
        """The line; empty for an event that is not shown."""
        from isola.cli.terminal import clean

        about = event.get("metadata") or {}
        kind = event.get("type", "")
        if kind == "operation":
            text = _operation(about)
            id = str(about.get("id"))
            if self._last.get(id) == text:
                return ""
            self._last[id] = text
            if _has_ended(about):
                del self._last[id]
        elif kind == "lifecycle":
            text = f"{about.get('action')} {_named(str(about.get('source')))}"
        else:
            text = f"{about.get('level', '')} {about.get('message', about)}"
        return f"{_time_of_day(event.get('timestamp', ''))} {kind:<9} {clean(text)}\n"


def _operation(about: Mapping[str, Any]) -> str:
    """``Running: Creating instance web1: Unpack image 43%``."""
    paths = {str(path): None for found in (about.get("resources") or {}).values() for path in found or ()}
    names = dict.fromkeys(path.rpartition("/")[2] for path in paths)
    parts = [f"{about.get('status')}: {about.get('description')}", *names]
    steps = [step for step in (about.get("metadata") or {}).get("progress") or () if not step.get("finished")]
    text = " ".join(parts)
    if steps and not _has_ended(about):
        text += f": {steps[-1].get('name')}"
        if steps[-1].get("total"):
            text += f" {min(100, steps[-1].get('done', 0) * 100 // steps[-1]['total'])}%"
    return f"{text}: {about['err']}" if about.get("err") else text


def _has_ended(about: Mapping[str, Any]) -> bool:
    return int(about.get("status_code") or 0) >= _ENDED


def _named(source: str) -> str:
    from isola.client.paths import short

    return short(source)


def _time_of_day(timestamp: str) -> str:
    """``HH:MM:SS.mmm`` of an RFC 3339 time, which may have no fraction."""
    seconds, _, fraction = timestamp[11:].rstrip("Z").partition(".")
    return f"{seconds}.{fraction[:3]:0<3}" if seconds else ""


COMMANDS = (
    Command(
        "monitor",
        "Print the daemon's events as they happen",
        monitor,
        Option("-t --type", "Only events of this type", value="TYPE", repeat=True, choices=_TYPES),
        Option(
            "-f --format", "How to print them", value="FORMAT", choices=("pretty", "json", "yaml"), default="pretty"
        ),
        ALL_PROJECTS,
        examples=(
            ("isola monitor", "all events of the current project"),
            ("isola monitor -A", "the events of all projects"),
            ("isola monitor -t lifecycle -f json", "one JSON object per line, for scripts"),
        ),
    ),
)
