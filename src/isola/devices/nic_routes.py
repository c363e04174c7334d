"""Static routes of the host to subnets behind a NIC. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from isola.devices import values
from isola.devices.driver import Plug
from isola.host.static_routes import Route

KEYS = {4: "ipv4.routes", 6: "ipv6.routes"}


def subnets(config: Mapping[str, str], version: int) -> tuple[str, ...]:
    """Those of one family."""
    value = config.get(KEYS[version])
    return values.routes(version)(value) if value else ()


def all_subnets(config: Mapping[str, str]) -> tuple[str, ...]:
    """Those of both families."""
    return (*subnets(config, 4), *subnets(config, 6))


def routes_of(plug: Plug, link: str, *, shared: bool) -> tuple[Route, ...]:
    """Over a link of the host; one that is ``shared`` by several NICs, by way of the address of this one if it has any.

    Without one it has to answer for the subnets itself (ARP, neighbour discovery).
    """
    found = []
    for version in (4, 6):
        via = plug.state.facts.get(f"ipv{version}", "").partition(",")[0].strip() if shared else ""
        found += [Route(subnet, link, via) for subnet in subnets(plug.config, version)]
    return tuple(found)
