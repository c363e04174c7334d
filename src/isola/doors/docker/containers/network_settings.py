"""``NetworkSettings``: the networks and published ports of a container."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from ipaddress import ip_interface
from typing import Any

from isola.devices.nics import network_name
from isola.doors.docker.containers.ports import Published, published
from isola.doors.docker.containers.view import View
from isola.doors.docker.identity import long_id
from isola.doors.docker.networks.endpoints import said_of
from isola.doors.docker.networks.lookup import BRIDGE, HOST, NONE, Shown, all_networks, shown
from isola.doors.docker.networks.shape import endpoint_id
from isola.doors.docker.request import Request
from isola.doors.docker.versions import Version
from isola.errors import NotFound
from isola.model.network import Network
from isola.model.reference import Kind

_AS_GIVEN: Version = (1, 45)
_NO_ADDRESS = "none"
_SHORT = 12
"""Digits of an id that are a name in DNS."""


def endpoints(request: Request, view: View) -> dict[str, dict[str, Any]]:
    """``Networks``: by the network's name, what the container has there."""
    found = {
        _name(request, device, key): _endpoint(
            request, view, device, view.instance.plugged[key].facts if key in view.instance.plugged else {}
        )
        for key, device in sorted(view.devices.items())
        if device.get("type") == "nic" and _mode(view) == BRIDGE
    }
    alone = NONE if _mode(view) == BRIDGE else _mode(view)
    return found or {each.name: _none(each) for each in all_networks(request) if each.name == alone}


def _mode(view: View) -> str:
    """``host``, ``none``, ``bridge`` for NICs of its own; empty for those of another container."""
    mode = view.config.get("isola.namespaces.network", "")
    if mode in (HOST, NONE):
        return mode
    return "" if mode.startswith("container:") else BRIDGE


def port_map(view: View) -> dict[str, list[dict[str, str]] | None]:
    """``Ports``: published ports with their bindings, and exposed ones without; empty while it does not run."""
    if not view.running:
        return {}
    found: dict[str, list[dict[str, str]] | None] = dict.fromkeys(view.note.config.get("ExposedPorts") or {})
    for each in _published(view):
        listed = found.get(each.port) or []
        found[each.port] = [*listed, *({"HostIp": at, "HostPort": each.host_port} for at in each.addresses)]
    return found


def bindings(view: View) -> dict[str, list[dict[str, str]]]:
    """``PortBindings`` as they are asked for, by the present devices."""
    found: dict[str, list[dict[str, str]]] = {}
    asked = view.note.host.get("PortBindings") or {}
    by_flag = bool(view.note.host.get("PublishAllPorts"))
    for each in _published(view):
        if by_flag and each.chosen and each.port not in asked:
            continue
        host_ip = "" if each.host_ip == "::" else each.host_ip
        found.setdefault(each.port, []).append({"HostIp": host_ip, "HostPort": "" if each.chosen else each.host_port})
    return found


def port_list(view: View) -> list[dict[str, Any]]:
    """``Ports`` of a list: numbers, and only of what is published or exposed while it runs."""
    if not view.running:
        return []
    known = {each.port for each in _published(view)}
    exposed = [port for port in view.note.config.get("ExposedPorts") or {} if port not in known]
    bound = [_bound(each, address) for each in _published(view) for address in each.addresses]
    return [*bound, *map(_exposed, sorted(exposed))]


def settings(request: Request, view: View) -> dict[str, Any]:
    """The whole object of ``inspect``; the fields beside ``Networks`` repeat the default one, as in Docker."""
    networks = endpoints(request, view)
    first: Mapping[str, Any] = networks.get(BRIDGE, {})
    sandbox = hashlib.sha256(f"sandbox {view.instance.id}".encode()).hexdigest() if view.running else ""
    return {
        "Bridge": "",
        "SandboxID": sandbox,
        "SandboxKey": "",
        "Ports": port_map(view),
        "HairpinMode": False,
        "LinkLocalIPv6Address": "",
        "LinkLocalIPv6PrefixLen": 0,
        "SecondaryIPAddresses": None,
        "SecondaryIPv6Addresses": None,
        **{
            name: first.get(name, default)
            for name, default in (
                ("EndpointID", ""),
                ("Gateway", ""),
                ("GlobalIPv6Address", ""),
                ("GlobalIPv6PrefixLen", 0),
                ("IPAddress", ""),
                ("IPPrefixLen", 0),
                ("IPv6Gateway", ""),
                ("MacAddress", ""),
            )
        },
        "Networks": networks,
    }


def _endpoint(request: Request, view: View, device: Mapping[str, str], facts: Mapping[str, str]) -> dict[str, Any]:
    network = _network(request, device)
    ipv4, ipv6 = (_address(facts, device, key) if view.running else "" for key in ("ipv4", "ipv6"))
    config = network.config if network is not None else {}
    return {
        "IPAMConfig": _fixed(device),
        "Links": list(said_of(device).links) or None,
        "Aliases": _shown_aliases(request, view, device, network) or None,
        "MacAddress": facts.get("hwaddr", "") if view.running else device.get("hwaddr", ""),
        "DriverOpts": dict(said_of(device).options) or None,
        "GwPriority": int(device.get("gateway.priority") or "0"),
        "NetworkID": long_id(network.identity) if network is not None else "",
        "EndpointID": _endpoint_id(view, facts) if view.running else "",
        "Gateway": _gateway(config, "ipv4") if ipv4 else "",
        "IPAddress": ipv4,
        "IPPrefixLen": _prefix(config, "ipv4") if ipv4 else 0,
        "IPv6Gateway": _gateway(config, "ipv6") if ipv6 else "",
        "GlobalIPv6Address": ipv6,
        "GlobalIPv6PrefixLen": _prefix(config, "ipv6") if ipv6 else 0,
        "DNSNames": [*dict.fromkeys((view.instance.name, *_aliases(device), *_own_names(view)))],
    }


def _none(each: Shown) -> dict[str, Any]:
    """What a container has that is on no network of its own."""
    texts = ("MacAddress", "EndpointID", "Gateway", "IPAddress", "IPv6Gateway", "GlobalIPv6Address")
    return {
        **dict.fromkeys(("IPAMConfig", "Links", "Aliases", "DriverOpts", "DNSNames")),
        **dict.fromkeys(texts, ""),
        **dict.fromkeys(("IPPrefixLen", "GlobalIPv6PrefixLen", "GwPriority"), 0),
        "NetworkID": each.id,
    }


def _aliases(device: Mapping[str, str]) -> list[str]:
    return [name.strip() for name in device.get("dns.aliases", "").split(",") if name.strip()]


def _shown_aliases(request: Request, view: View, device: Mapping[str, str], network: Network | None) -> list[str]:
    """As given; older versions find the beginning of the id among them, except on the default network."""
    given = _aliases(device)
    if request.version >= _AS_GIVEN or network is None or shown(request, network).name == BRIDGE:
        return given
    return [*dict.fromkeys((*given, *_own_names(view)))]


def _own_names(view: View) -> tuple[str, ...]:
    """The beginning of its id, and its host name."""
    return tuple(filter(None, (view.id[:_SHORT], view.config.get("isola.hostname"))))


def _name(request: Request, device: Mapping[str, str], key: str) -> str:
    network = _network(request, device)
    return shown(request, network).name if network is not None else device.get("parent") or key


def _endpoint_id(view: View, facts: Mapping[str, str]) -> str:
    return endpoint_id(view.instance.id, facts.get("hwaddr", ""))


def _network(request: Request, device: Mapping[str, str]) -> Network | None:
    try:
        return request.services.networks.get(request.ref(network_name(device), Kind.NETWORK))
    except NotFound:
        return None


def _fixed(device: Mapping[str, str]) -> dict[str, Any] | None:
    found: dict[str, Any] = {
        "IPv4Address": device.get("ipv4.address", ""),
        "IPv6Address": device.get("ipv6.address") or said_of(device).ipv6,
        "LinkLocalIPs": [each for each in device.get("link_local.addresses", "").split(",") if each],
    }
    return {key: value for key, value in found.items() if value and value != _NO_ADDRESS} or None


def _address(facts: Mapping[str, str], device: Mapping[str, str], family: str) -> str:
    found = facts.get(family) or device.get(f"{family}.address", "")
    return "" if found == _NO_ADDRESS else found.partition("/")[0]


def _gateway(config: Mapping[str, str], family: str) -> str:
    address = config.get(f"{family}.address", "")
    return address.partition("/")[0] if "/" in address else ""


def _prefix(config: Mapping[str, str], family: str) -> int:
    address = config.get(f"{family}.address", "")
    return ip_interface(address).network.prefixlen if "/" in address else 0


def _published(view: View) -> list[Published]:
    return list(published(view.devices, view.instance.plugged))


def _bound(each: Published, address: str) -> dict[str, Any]:
    number, _, protocol = each.port.partition("/")
    return {"IP": address, "PrivatePort": int(number), "PublicPort": int(each.host_port), "Type": protocol}


def _exposed(port: str) -> dict[str, Any]:
    number, _, protocol = port.partition("/")
    return {"PrivatePort": int(number), "Type": protocol}
