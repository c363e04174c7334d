"""``isola compose events``: what happens to the instances of one application."""

from __future__ import annotations

import sys

from isola.cli.compose.files import application
from isola.cli.compose.server import instances
from isola.compose.application import order
from isola.compose.instances import SERVICE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from isola.cli.context import Context
    from isola.client.shapes import EventInfo

_PREFIX = "instance-"


class Watch:
    """Events of these services; of all of them if none is named."""

    def __init__(self, context: Context, services: Sequence[str], *, json: bool) -> None:
        self._context, self._json = context, json
        found = application(context, services)
        order(found, services)
        self._name, self._services = found.name, services
        self._known: dict[str, str] = {}
        """Instance -> service; one that is gone is still known by its last events."""

    def run(self) -> None:
        """Until the daemon closes the stream."""
        from isola.client.failures import Unreachable

        with self._context.client.events("lifecycle") as follower:
            self._learn()
            for event in follower:
                if text := self.line(event):
                    sys.stdout.write(text + "\n")
                    sys.stdout.flush()
        raise Unreachable("The daemon closed the stream of events")

    def line(self, event: EventInfo) -> str:
        """As it is printed; empty for one of others."""
        from isola.cli.terminal import clean
        from isola.client.json import encode

        about = event.get("metadata") or {}
        action = str(about.get("action"))
        name = str(about.get("source")).partition("?")[0].rpartition("/")[2]
        if not action.startswith(_PREFIX):
            return ""
        if name not in self._known:
            self._learn()
        service = self._known.get(name)
        if service is None or (self._services and service not in self._services):
            return ""
        action = action.removeprefix(_PREFIX)
        at = event.get("timestamp", "")
        if self._json:
            return encode({"time": at, "type": "instance", "action": action, "name": name, "service": service})
        return clean(f"{at} instance {action} {name} (service={service})")

    def _learn(self) -> None:
        with self._context.connect() as client:
            for one in instances(client, self._name, kept=True, one_off=True):
                self._known[one["name"]] = one["config"].get(SERVICE, "")
