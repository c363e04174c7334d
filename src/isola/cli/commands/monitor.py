"""``isola monitor``."""

from __future__ import annotations

import sys

from isola.cli.grammar import Command, Option

TYPE_CHECKING = False
if TYPE_CHECKING:
    from isola.cli.context import Context
    from isola.client.shapes import EventInfo

_TYPES = ("lifecycle", "operation", "logging")


def monitor(context: Context) -> None:
    """Print events as they happen, until Ctrl-C."""
    from isola.cli.terminal import shown
    from isola.client.failures import Unreachable

    kind = context.args.text("format") or "pretty"
    with context.client.events(*context.args.many("type")) as follower:
        for event in follower:
            sys.stdout.write(shown(_text(event, kind), sys.stdout))
            sys.stdout.flush()
    raise Unreachable("The daemon has ended the stream of events")


def _text(event: EventInfo, kind: str) -> str:
    if kind == "json":
        from isola.client.json import encode

        return encode(event) + "\n"
    if kind == "yaml":
        from isola.cli.yaml import dump

        return dump(event) + "---\n"
    return _pretty(event)


def _pretty(event: EventInfo) -> str:
    from isola.cli.terminal import clean

    about = event.get("metadata") or {}
    text = {
        "operation": f"{about.get('status')}: {about.get('description')} {about.get('err') or ''}".rstrip(),
        "lifecycle": f"{about.get('action')} {about.get('source')}",
    }.get(event.get("type", ""), f"{about.get('level', '')} {about.get('message', about)}")
    return f"{event.get('timestamp', '')[11:23]} {event.get('type', ''):<9} {clean(text)}\n"


COMMANDS = (
    Command(
        "monitor",
        "Print the daemon's events as they happen",
        monitor,
        Option("-t --type", "Only events of this type", value="TYPE", repeat=True, choices=_TYPES),
        Option(
            "-f --format", "How to print them", value="FORMAT", choices=("pretty", "json", "yaml"), default="pretty"
        ),
        examples=(
            ("isola monitor", "everything"),
            ("isola monitor -t lifecycle -f json", "one JSON object per line, for scripts"),
        ),
    ),
)
