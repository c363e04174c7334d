"""Networks of a container: nic devices in place of those of its profiles."""

from __future__ import annotations

from collections.abc import Mapping

from isola.doors.docker.request import Request
from isola.doors.http.reading import Fields
from isola.errors import InvalidInput, NotFound, Unsupported
from isola.model.reference import Kind, Ref

DEFAULT = ("", "default", "bridge")
"""Modes that mean the networks of the default profile."""
_REFUSED = "conflicting options: only one of networking modes and networks can be given"


def nic_devices(request: Request, host: Fields, endpoints: Fields) -> dict[str, dict[str, str]]:
    """Of ``NetworkMode`` and ``NetworkingConfig.EndpointsConfig``. Raises NotFound, InvalidInput, Unsupported."""
    mode = host.text("NetworkMode", "")
    if mode == "host" or mode.startswith(("container:", "ns:")):
        raise Unsupported(f"The network mode {mode[:80]!r} is not offered yet", field="HostConfig.NetworkMode")
    inherited = _inherited(request)
    nothing = {name: {"type": "none"} for name in inherited}
    if mode == "none":
        return nothing
    wanted = {name: endpoints.inside(name) for name in endpoints.names()}
    if mode not in DEFAULT:
        wanted = {mode: wanted.pop(mode, Fields({})), **wanted}
    named = {name: each for name, each in wanted.items() if name not in DEFAULT}
    if not named:
        return {}
    kept = {} if any(name in DEFAULT for name in wanted) or mode in ("default", "bridge") else nothing
    start = 0 if kept else len(inherited)
    devices = {f"eth{start + at}": _nic(request, name, each) for at, (name, each) in enumerate(named.items())}
    return {**kept, **devices}


def _inherited(request: Request) -> Mapping[str, Mapping[str, str]]:
    """NICs of the default profile."""
    profile = request.services.profiles.get(Ref(request.home(Kind.PROFILE), "default"))
    return {name: device for name, device in profile.devices.items() if device.get("type") == "nic"}


def _nic(request: Request, network: str, endpoint: Fields) -> dict[str, str]:
    try:
        request.services.networks.get(request.ref(network, Kind.NETWORK))
    except NotFound:
        raise NotFound(f"network {network[:80]} not found") from None
    addresses = endpoint.inside("IPAMConfig")
    device = {
        "type": "nic",
        "network": network,
        "ipv4.address": addresses.text("IPv4Address", ""),
        "ipv6.address": addresses.text("IPv6Address", ""),
        "hwaddr": endpoint.text("MacAddress", ""),
    }
    if endpoint.texts("Links"):
        raise InvalidInput("Links are not offered", field="NetworkingConfig.EndpointsConfig")
    return {key: value for key, value in device.items() if value}
