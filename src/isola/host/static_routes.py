"""Routes to subnets that are reached through instances: as many as asked for, and none of others is touched."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_network

import orjson

from isola.errors import AlreadyExists
from isola.host.process import Processes


@dataclass(frozen=True, slots=True)
class Route:
    """A subnet that is reached over a link."""

    subnet: str
    link: str
    via: str = ""
    """The neighbour on the link that forwards to it; empty: its addresses are themselves on the link."""

    @property
    def line(self) -> str:
        """As ``ip`` names it. The neighbour need not be in a subnet of the link."""
        return f"{self.subnet} {f'via {self.via} ' if self.via else ''}dev {self.link}"


async def missing(processes: Processes, routes: Sequence[Route]) -> list[Route]:
    """Those that do not exist yet. Raises AlreadyExists where there is another route to the same subnet."""
    found: dict[str, set[tuple[str, str]]] = {}
    for family in {"-6" if ":" in route.subnet else "-4" for route in routes}:
        answer = await processes.run(["ip", "-j", family, "route", "show", "table", "main"])
        for shown in orjson.loads(answer.stdout or b"[]"):
            if (subnet := shown.get("dst", "default")) != "default":
                place = str(shown.get("dev", "")), str(shown.get("gateway", ""))
                found.setdefault(str(ip_network(subnet, strict=False)), set()).add(place)
    return [route for route in routes if _is_missing(route, found.get(route.subnet, set()))]


def _is_missing(route: Route, present: set[tuple[str, str]]) -> bool:
    if others := sorted(present - {(route.link, route.via)}):
        raise taken(route, others[0][0])
    return not present


def taken(route: Route, link: str) -> AlreadyExists:
    """The error for a subnet to which the host has another route."""
    return AlreadyExists(
        f"The host has a route to {route.subnet} already",
        evidence=f"over {link}" if link else "",
        remedy="route another subnet, or remove that route",
    )
