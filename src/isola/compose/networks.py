"""Networks and ports of a service -> devices. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_network
from typing import Any

from isola.compose.application import Application
from isola.errors import InvalidInput

Tree = dict[str, Any]
Devices = dict[str, dict[str, str]]
_ANY, _ALL = "0.0.0.0", "::"
"""Of the service; of the host, IPv4 included."""
_LABEL = "user.com.docker.compose."


def nics(application: Application, name: str, links: Sequence[str]) -> Devices:
    """A NIC for each network, the first of them the way out; ``links`` are those of profiles, which go."""
    service = application.services[name]
    if service.get("network_mode") == "bridge":
        return {}
    attachments = _attachments(service)
    found: Devices = {link: {"type": "none"} for link in links}
    for at, (key, given) in enumerate(attachments):
        attachment = given or {}
        device = {
            "type": "nic",
            "network": application.networks[key]["name"],
            "name": attachment.get("interface_name") or f"eth{at}",
            "dns.aliases": ",".join(
                dict.fromkeys((name, *attachment.get("aliases", ()), *_links(application, name, key)))
            ),
        }
        for theirs, ours in (
            ("ipv4_address", "ipv4.address"),
            ("ipv6_address", "ipv6.address"),
            ("mac_address", "hwaddr"),
        ):
            if attachment.get(theirs):
                device[ours] = attachment[theirs]
        if attachment.get("link_local_ips"):
            device["link_local.addresses"] = ",".join(attachment["link_local_ips"])
        if not at and service.get("mac_address"):
            device.setdefault("hwaddr", service["mac_address"])
        found[f"eth{at}"] = device
    return found


def _links(application: Application, name: str, network: str) -> list[str]:
    """Names that other services on the network call it by: ``links: ["db:database"]``."""
    found = []
    for other in application.services.values():
        if network in (other.get("networks") or {}):
            for link in other.get("links", ()):
                target, _, alias = link.partition(":")
                if target == name and alias:
                    found.append(alias)
    return found


def ports(service: Tree, where: str) -> Devices:
    """A proxy for each published port; without a published one the daemon chooses it."""
    found: Devices = {}
    for port in service.get("ports", ()):
        protocol = port.get("protocol", "tcp")
        address = port.get("host_ip") or _ALL
        host = f"[{address}]" if ":" in address else address
        published = port.get("published") or "0"
        device = {
            "type": "proxy",
            "listen": f"{protocol}:{host}:{published}",
            "connect": f"{protocol}:{'[::]' if ':' in address and address != _ALL else _ANY}:{port['target']}",
            "nat": "true",
        }
        name = f"port-{published}-{port['target']}-{protocol}"
        if device not in found.values():
            found[name if name not in found else f"{name}-{len(found)}"] = device  # it may have several addresses
    return found


def _attachments(service: Tree) -> list[tuple[str, Tree | None]]:
    """Those that it is on, the way out first; none if its network is another's."""
    found = list((service.get("networks") or {}).items())
    return sorted(found, key=lambda item: -(item[1] or {}).get("gw_priority", 0))


def network_config(application: Application, key: str) -> dict[str, str]:
    """The configuration of a network to be created. Raises InvalidInput for drivers other than ``bridge``."""
    network = application.networks[key]
    where = f"networks.{key}"
    if network.get("driver", "bridge") not in ("bridge", "default"):
        raise InvalidInput(f"{where}.driver {network['driver'][:40]!r} is not supported", field=f"{where}.driver")
    found = {f"user.{name}": value or "" for name, value in network.get("labels", {}).items()}
    found |= {f"{_LABEL}project": application.name, f"{_LABEL}network": key}
    for block in network.get("ipam", {}).get("config", ()):
        found |= _subnet(block, f"{where}.ipam")
    if network.get("internal"):
        found |= {"ipv4.nat": "false", "ipv4.routing": "false", "ipv6.nat": "false", "ipv6.routing": "false"}
    for family in ("ipv4", "ipv6"):
        if network.get(f"enable_{family}") is False:
            found.setdefault(f"{family}.address", "none")
    if mtu := network.get("driver_opts", {}).get("com.docker.network.driver.mtu"):
        found["bridge.mtu"] = mtu
    return found


def _subnet(block: Tree, where: str) -> dict[str, str]:
    try:
        subnet = ip_network(block["subnet"])
    except (KeyError, ValueError):
        raise InvalidInput(f"{where} needs a subnet such as 192.0.2.0/24", field=where) from None
    gateway = block.get("gateway") or str(next(subnet.hosts()))
    family = f"ipv{subnet.version}"
    found = {f"{family}.address": f"{gateway}/{subnet.prefixlen}", f"{family}.nat": "true"}
    if block.get("ip_range"):
        hosts = ip_network(block["ip_range"], strict=False)
        found[f"{family}.dhcp.ranges"] = f"{hosts[0]}-{hosts[-1]}"
    return found
