"""``NetworkSettings``: the networks and published ports of a container."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from ipaddress import ip_interface
from typing import Any

from isola.doors.docker.containers.ports import Published, published
from isola.doors.docker.containers.view import View
from isola.doors.docker.identity import long_id
from isola.doors.docker.request import Request
from isola.errors import NotFound
from isola.model.network import Network
from isola.model.reference import Kind

_NO_ADDRESS = "none"


def endpoints(request: Request, view: View) -> dict[str, dict[str, Any]]:
    """``Networks``: by the network's name, what the container has there."""
    return {
        name: _endpoint(request, view, device, view.instance.plugged[key].facts if key in view.instance.plugged else {})
        for key, device in sorted(view.devices.items())
        if device.get("type") == "nic" and (name := device.get("network") or device.get("parent") or key)
    }


def port_map(view: View) -> dict[str, list[dict[str, str]] | None]:
    """``Ports``: published ports with their bindings, and exposed ones without; empty while it does not run."""
    if not view.running:
        return {}
    found: dict[str, list[dict[str, str]] | None] = dict.fromkeys(view.note.config.get("ExposedPorts") or {})
    return found | bindings(view)


def bindings(view: View) -> dict[str, list[dict[str, str]]]:
    """``PortBindings``, by the present devices."""
    found: dict[str, list[dict[str, str]]] = {}
    for each in published(view.devices):
        found.setdefault(each.port, []).append({"HostIp": each.host_ip, "HostPort": each.host_port})
    return found


def port_list(view: View) -> list[dict[str, Any]]:
    """``Ports`` of a list: numbers, and only of what is published or exposed while it runs."""
    if not view.running:
        return []
    each_published = list(published(view.devices))
    known = {each.port for each in each_published}
    exposed = [port for port in view.note.config.get("ExposedPorts") or {} if port not in known]
    return [*map(_published, each_published), *map(_exposed, sorted(exposed))]


def settings(request: Request, view: View) -> dict[str, Any]:
    """The whole object of ``inspect``; the fields beside ``Networks`` repeat the first network, as in Docker."""
    networks = endpoints(request, view)
    first: Mapping[str, Any] = next(iter(networks.values()), {})
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
        "Links": None,
        "Aliases": None,
        "MacAddress": facts.get("hwaddr", "") if view.running else "",
        "DriverOpts": None,
        "GwPriority": 0,
        "NetworkID": long_id(network.identity) if network is not None else "",
        "EndpointID": _endpoint_id(view, facts) if view.running else "",
        "Gateway": _gateway(config, "ipv4") if ipv4 else "",
        "IPAddress": ipv4,
        "IPPrefixLen": _prefix(config, "ipv4") if ipv4 else 0,
        "IPv6Gateway": _gateway(config, "ipv6") if ipv6 else "",
        "GlobalIPv6Address": ipv6,
        "GlobalIPv6PrefixLen": _prefix(config, "ipv6") if ipv6 else 0,
        "DNSNames": None,
    }


def _endpoint_id(view: View, facts: Mapping[str, str]) -> str:
    return hashlib.sha256(f"endpoint {view.instance.id} {facts.get('hwaddr', '')}".encode()).hexdigest()


def _network(request: Request, device: Mapping[str, str]) -> Network | None:
    try:
        return request.services.networks.get(request.ref(device.get("network", ""), Kind.NETWORK))
    except NotFound:
        return None


def _fixed(device: Mapping[str, str]) -> dict[str, str] | None:
    found = {"IPv4Address": device.get("ipv4.address", ""), "IPv6Address": device.get("ipv6.address", "")}
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


def _published(each: Published) -> dict[str, Any]:
    number, _, protocol = each.port.partition("/")
    return {"IP": each.host_ip, "PrivatePort": int(number), "PublicPort": int(each.host_port), "Type": protocol}


def _exposed(port: str) -> dict[str, Any]:
    number, _, protocol = port.partition("/")
    return {"PrivatePort": int(number), "Type": protocol}
