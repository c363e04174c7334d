"""Names and ids of networks: those that exist, and the three that every client expects."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass

from isola.devices.nics import network_name
from isola.doors.docker.identity import long_id
from isola.doors.docker.networks.notes import note_of
from isola.doors.docker.request import Request
from isola.errors import Exhausted, HostFailure, InvalidInput, IsolaError, NotFound
from isola.model.network import Network
from isola.model.reference import Kind, Ref

BRIDGE, HOST, NONE = "bridge", "host", "none"
PREDEFINED = (BRIDGE, HOST, NONE)
RESERVED = (*PREDEFINED, "default")
"""Names that no other network can have."""
CONFIGURATION = "configuration"
"""The type of networks that only hold settings for others (``--config-only``)."""
_DRIVERS = {HOST: "host", NONE: "null", CONFIGURATION: "null"}
_WHOLE = 64
_DIGITS = re.compile(r"[0-9a-f]{1,64}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Shown:
    """A network under the name that clients know it by."""

    name: str
    network: Network | None = None
    """None for the host's network and for none."""

    @property
    def id(self) -> str:
        """64 digits."""
        if self.network is not None:
            return long_id(self.network.identity)
        return long_id(hashlib.sha256(f"network {self.name}".encode()).hexdigest()[:16])

    @property
    def driver(self) -> str:
        """Docker's name of it."""
        kind = self.network.driver if self.network is not None else self.name
        return _DRIVERS.get(kind, kind)

    @property
    def configuration(self) -> bool:
        """Whether it only holds settings."""
        return self.network is not None and self.network.driver == CONFIGURATION


def default_network(request: Request) -> Network | None:
    """What clients know as ``bridge``: the network of the first NIC of the default profile."""
    profile = request.services.profiles.get(Ref(request.home(Kind.PROFILE), "default"))
    for _, device in sorted(profile.devices.items()):
        if device.get("type") == "nic" and (name := network_name(device)):
            return request.services.networks.find(request.ref(name, Kind.NETWORK))
    return None


def shown(request: Request, network: Network) -> Shown:
    """A network under the name that clients know it by."""
    default = default_network(request)
    return Shown(BRIDGE if default is not None and default.ref == network.ref else shown_name(network), network)


def shown_name(network: Network) -> str:
    """As clients call a network that is not the default one."""
    return note_of(network).name or network.name


def all_networks(request: Request) -> Iterator[Shown]:
    """The usual three, and all others of the project; one with the name of a usual one is known by its id only."""
    default = default_network(request)
    if default is not None:
        yield Shown(BRIDGE, default)
    yield Shown(HOST)
    yield Shown(NONE)
    home = request.home(Kind.NETWORK)
    for network in request.services.networks:
        if network.project == home and (default is None or network.ref != default.ref):
            yield Shown(shown_name(network), network)


def no_address(request: Request, error: Exhausted) -> IsolaError:
    """As Docker says it, with the network that is full."""
    network = request.services.networks.find(request.ref(error.evidence, Kind.NETWORK))
    each = Shown(error.evidence, network) if network is None else shown(request, network)
    version = 6 if (error.field or "").startswith("ipv6") else 4
    return HostFailure(f"no available IPv{version} addresses on this network's address pools: {each.name} ({each.id})")


def find_network(request: Request, text: str) -> Shown:
    """The network with this id, name or unique beginning of an id. Raises NotFound, InvalidInput."""
    known = list(all_networks(request))
    for each in known:
        if each.id == text:
            return each
    for each in known:
        if text in (each.name, each.network.name if each.network is not None else each.name):
            return each
    found = [each for each in known if _DIGITS.fullmatch(text) and each.id.startswith(text)]
    if len(found) > 1:
        raise InvalidInput(f"network {text} is ambiguous ({len(found)} matches found based on ID prefix)")
    if not found:
        raise NotFound(f"network {text[:200]} not found")
    return found[0]
