"""A network as JSON."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import datetime
from ipaddress import IPv4Interface, IPv6Interface, ip_interface
from typing import Any

from isola.doors.docker.identity import container_id
from isola.doors.docker.networks.lookup import CONFIGURATION, Shown, default_network, shown_name
from isola.doors.docker.networks.notes import NetworkNote, labels_of, note_of
from isola.doors.docker.request import Request
from isola.doors.docker.times import rfc3339
from isola.model.instance import Instance, Status
from isola.model.network import Network, Nic
from isola.model.reference import Ref

_RUNNING = (Status.RUNNING, Status.FROZEN, Status.STARTING, Status.STOPPING)
_MTU, _NAME = "com.docker.network.driver.mtu", "com.docker.network.bridge.name"


def network_json(request: Request, each: Shown, *, containers: bool) -> dict[str, Any]:
    """As inspected; ``containers`` are those that run on it."""
    network = each.network
    config = network.config if network is not None else {}
    return {
        "Name": each.name,
        "Id": each.id,
        "Created": rfc3339(_created_at(request, network)),
        "Scope": "local",
        "Driver": each.driver,
        "EnableIPv4": network is None or _speaks(network, 4),
        "EnableIPv6": network is not None and _speaks(network, 6),
        "IPAM": {"Driver": "default", "Options": _ipam_options(network), "Config": _pools(network)},
        "Internal": network is not None and config.get("ipv4.routing") == "false",
        "Attachable": network is not None and note_of(network).attachable,
        "Ingress": False,
        "ConfigFrom": {"Network": _configuration(request, network)},
        "ConfigOnly": each.configuration,
        "Containers": _containers(request, network) if containers and network is not None else {},
        "Options": options_of(request, network) if network is not None else {},
        "Labels": labels_of(network) if network is not None else {},
    }


def _speaks(network: Network, version: int) -> bool:
    if network.driver == CONFIGURATION:
        return note_of(network).ipv4 if version == 4 else note_of(network).ipv6
    return subnet_of(network.config, version) is not None


def _configuration(request: Request, network: Network | None) -> str:
    """The name, as clients know it, of the one that a network was created from."""
    if network is None or not network.configuration:
        return ""
    found = request.services.networks.find(Ref(network.project, network.configuration))
    return shown_name(found) if found is not None else network.configuration


def _created_at(request: Request, network: Network | None) -> datetime | None:
    """Of the host's network and of none, which are always there: the beginning of the default one."""
    found = default_network(request) if network is None else network
    return found.created_at if found is not None else None


def subnet_of(config: Mapping[str, str], version: int) -> IPv4Interface | IPv6Interface | None:
    """The network's own address with its subnet; None if it does not speak this protocol."""
    address = config.get(f"ipv{version}.address", "")
    return ip_interface(address) if "/" in address else None


def options_of(request: Request, network: Network) -> dict[str, str]:
    """Those that were given; of others those that clients look for."""
    note = note_of(network)
    if note.ours:
        return dict(note.options)
    if parent := network.config.get("parent"):
        return {"parent": parent}
    link = request.services.networks.driver(network.ref).link(network)
    return {_NAME: link or "", _MTU: network.config.get("bridge.mtu") or "1500"}


def endpoint_id(instance_id: str, mac: str) -> str:
    """64 digits, the same as long as the container is on the network."""
    return hashlib.sha256(f"endpoint {instance_id} {mac}".encode()).hexdigest()


def running_on(request: Request, network: Network) -> list[tuple[Instance, Nic]]:
    """Containers that run, with their NICs on a network: those of projects that the caller may use."""
    services, caller = request.services, request.caller
    nics = {nic.instance_id: nic for nic in services.networks.nics(network.ref)}
    here = [each for each in services.instances if nics and each.id in nics and caller.may_use(each.project)]
    return [(each, nics[each.id]) for each in here if services.instances.status(each) in _RUNNING]


def _containers(request: Request, network: Network) -> dict[str, dict[str, str]]:
    def with_prefix(address: str | None, version: int) -> str:
        own = subnet_of(network.config, version)
        return f"{address}/{own.network.prefixlen}" if address and own is not None else ""

    return {
        container_id(instance.id): {
            "Name": instance.name,
            "EndpointID": endpoint_id(instance.id, nic.mac),
            "MacAddress": nic.mac,
            "IPv4Address": with_prefix(nic.ipv4, 4),
            "IPv6Address": with_prefix(nic.ipv6, 6),
        }
        for instance, nic in running_on(request, network)
    }


def _ipam_options(network: Network | None) -> dict[str, str] | None:
    note = note_of(network) if network is not None else NetworkNote()
    return None if note.ipam_options is None else dict(note.ipam_options)


def _pools(network: Network | None) -> list[dict[str, object]] | None:
    if network is None:
        return None
    if network.driver == CONFIGURATION:
        return [dict(pool) for pool in note_of(network).pools]
    found: list[dict[str, object]] = []
    for version in (4, 6):
        own = subnet_of(network.config, version)
        if own is not None:
            given = (pool for pool in note_of(network).pools if (":" in str(pool.get("Subnet", ""))) == (version == 6))
            extra = {key: value for key, value in next(given, {}).items() if key in ("IPRange", "AuxiliaryAddresses")}
            found.append({"Subnet": str(own.network), **extra, "Gateway": str(own.ip)})
    return found
