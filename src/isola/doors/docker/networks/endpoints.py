"""Containers on networks: nic devices."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv6Address, ip_address

import orjson

from isola.devices.nics import network_name
from isola.devices.values import interface_sysctls, link_local_addresses
from isola.doors.docker.identity import container_id
from isola.doors.docker.networks.links import link_names, with_links
from isola.doors.docker.networks.lookup import HOST, NONE, Shown, shown
from isola.doors.docker.networks.shape import subnet_of
from isola.doors.docker.request import Request
from isola.doors.http.reading import Fields
from isola.errors import Forbidden, InvalidInput
from isola.model.instance import Devices, Instance, InstanceUpdate
from isola.model.reference import Kind

_INTERFACE = "com.docker.network.endpoint.ifname"
_SYSCTLS = "com.docker.network.endpoint.sysctls"
_SAID = "user.docker"
"""Key of what is repeated to clients and has no meaning to the NIC: JSON with options, links and IPv6 address."""
_ALONE = "container cannot be connected to multiple networks with one of the networks in private (none) mode"
_MODE = "isola.namespaces.network"
_PRIORITY = 100
"""Greatest priority of a NIC; greater ones of a request are taken for it."""
_MASK = {"type": "none"}
Config = Mapping[str, str]


def nic_device(each: Shown, endpoint: Fields) -> dict[str, str]:
    """The device of a container on a network, by its ``EndpointConfig``. Raises InvalidInput."""
    assert each.network is not None
    if each.configuration:
        raise Forbidden("cannot create endpoint on configuration-only network")
    addresses, options = endpoint.inside("IPAMConfig"), endpoint.mapping("DriverOpts", empty=True)
    _check_addresses(each.network.config, addresses)
    priority = endpoint.whole("GwPriority", 0, minimum=-(2**63), maximum=2**63 - 1)
    device = {
        "type": "nic",
        "network": each.network.name,
        "name": options.get(_INTERFACE, ""),
        "ipv4.address": addresses.text("IPv4Address", ""),
        "ipv6.address": "" if subnet_of(each.network.config, 6) is None else addresses.text("IPv6Address", ""),
        "link_local.addresses": _link_local(addresses),
        "hwaddr": endpoint.text("MacAddress", "").replace("-", ":").lower(),
        "dns.aliases": ",".join(dict.fromkeys(endpoint.texts("Aliases"))),
        _SAID: _said(options, addresses.text("IPv6Address", ""), endpoint.texts("Links")),
        "sysctls": _parameters(options.get(_SYSCTLS, "")),
        "gateway.priority": str(max(min(priority, _PRIORITY), -_PRIORITY)) if priority else "",
    }
    return {key: value for key, value in device.items() if value}


def _parameters(text: str) -> str:
    """Raises InvalidInput."""
    found = []
    for each in filter(None, text.split(",")):
        fields = each.split(".", 4)
        found.append(".".join("IFNAME" if at == 3 and part == "ifname" else part for at, part in enumerate(fields)))
        try:
            interface_sysctls(found[-1])
        except ValueError:
            raise InvalidInput(
                f"invalid endpoint settings:\nunrecognised network interface sysctl '{each[:200]}'; represent "
                "'net.X.Y.ethN.Z=V' as 'net.X.Y.IFNAME.Z=V', 'X' must be 'ipv4', 'ipv6' or 'mpls'"
            ) from None
    return ",".join(found)


def _link_local(wanted: Fields) -> str:
    """Raises InvalidInput."""
    found = []
    for text in wanted.texts("LinkLocalIPs"):
        try:
            found.append(str(ip_address(text)))
            link_local_addresses(found[-1])
        except ValueError:
            raise InvalidInput(f"invalid endpoint settings:\ninvalid link-local IP address: {text[:80]}") from None
    return ",".join(found)


@dataclass(frozen=True, slots=True)
class Said:
    """What is repeated to clients of an endpoint, as it was given."""

    options: Mapping[str, str] = field(default_factory=dict)
    ipv6: str = ""
    links: tuple[str, ...] = ()


def _said(options: Config, ipv6: str, links: Sequence[str]) -> str:
    given = {"options": dict(options), "ipv6": ipv6, "links": list(links)}
    return orjson.dumps({name: value for name, value in given.items() if value}).decode() if any(given.values()) else ""


def said_of(device: Config) -> Said:
    """Users may have written anything there."""
    try:
        found = orjson.loads(device.get(_SAID) or "{}")
        options = {str(key): str(value) for key, value in found.get("options", {}).items()}
        return Said(options, str(found.get("ipv6", "")), tuple(map(str, found.get("links", ()))))
    except (ValueError, AttributeError, TypeError):
        return Said()


def _check_addresses(config: Config, wanted: Fields) -> None:
    """Raises InvalidInput for addresses that the network cannot have."""
    for version, parse in ((4, IPv4Address), (6, IPv6Address)):
        text, own = wanted.text(f"IPv{version}Address", ""), subnet_of(config, version)
        if not text:
            continue
        try:
            address = parse(text)
        except ValueError:
            raise InvalidInput(f"invalid endpoint settings:\ninvalid IPv{version} address: {text[:80]}") from None
        if own is None and version == 6:
            continue  # as Docker does
        if own is None or address not in own.network:
            raise InvalidInput(
                f"invalid endpoint settings:\nno configured subnet or ip-range contain the IP address {text[:80]}"
            )


def connected(request: Request, each: Shown, endpoint: Fields) -> Callable[[Instance], InstanceUpdate]:
    """Decides the devices with one more. Raises Forbidden if the container is on the network already."""
    if each.name == HOST and each.network is None:
        raise Forbidden("cannot connect container to host network - container must be created in host network mode")
    if each.network is None:
        raise InvalidInput(_ALONE)
    device, links = nic_device(each, endpoint), link_names(request, endpoint.texts("Links"), later=True)

    def decide(instance: Instance) -> InstanceUpdate:
        config, expanded = request.services.instances.expanded(instance)
        if config.get(_MODE) == NONE:
            raise InvalidInput(_ALONE)
        if config.get(_MODE):
            raise Forbidden(
                "container sharing network namespace with another container or host cannot be connected to any other "
                "network"
            )
        if on_network(request, instance, expanded, each):
            raise Forbidden(f"endpoint with name {instance.name} already exists in network {each.name}")
        return _updated(instance, {**instance.devices, free_name(expanded): device}, links)

    return decide


def disconnected(request: Request, each: Shown) -> Callable[[Instance], InstanceUpdate]:
    """Decides the devices without those on a network. Raises Forbidden if there are none."""

    def decide(instance: Instance) -> InstanceUpdate:
        config, expanded = request.services.instances.expanded(instance)
        if each.network is None and each.name == config.get(_MODE):
            return _alone_no_more(request, instance, each)
        names = on_network(request, instance, expanded, each)
        if not names:
            raise Forbidden(f"container {container_id(instance.id)} is not connected to network {each.name}")
        kept = {name: device for name, device in instance.devices.items() if name not in names}
        # What still comes from a profile is masked.
        inherited = request.services.instances.expanded(replace(instance, devices=kept))[1]
        return _updated(instance, {**kept, **{name: _MASK for name in names if name in inherited}})

    return decide


def on_network(request: Request, instance: Instance, devices: Devices, each: Shown) -> list[str]:
    """Names of an instance's NICs on a network."""
    home = request.services.projects.home(instance.project, Kind.NETWORK)
    return [
        name
        for name, device in devices.items()
        if each.network is not None
        and each.network.project == home
        and device.get("type") == "nic"
        and network_name(device) == each.network.name
    ]


def free_name(devices: Devices) -> str:
    """A name for one more NIC that is neither a device's nor an interface's: ``eth2``."""
    taken = {*devices, *(device.get("name", "") for device in devices.values())}
    return next(name for number in range(len(taken) + 1) if (name := f"eth{number}") not in taken)


def networks_of(request: Request, devices: Devices) -> list[str]:
    """Names by which clients know the networks of expanded devices."""
    found = []
    for _, device in sorted(devices.items()):
        name = network_name(device) if device.get("type") == "nic" else ""
        network = request.services.networks.find(request.ref(name, Kind.NETWORK)) if name else None
        if network is not None:
            found.append(shown(request, network).name)
    return found


def _alone_no_more(request: Request, instance: Instance, each: Shown) -> InstanceUpdate:
    """From the network ``none``: on no network, until it is connected to one."""
    if each.name == HOST:
        raise Forbidden("container cannot be disconnected from host network or connected to host network")
    freed = replace(instance, config={key: value for key, value in instance.config.items() if key != _MODE})
    expanded = request.services.instances.expanded(freed)[1]
    nics = {name: _MASK for name, device in expanded.items() if device.get("type") == "nic"}
    return _updated(freed, {**instance.devices, **nics})


def _updated(instance: Instance, devices: Devices, links: Sequence[str] = ()) -> InstanceUpdate:
    return InstanceUpdate(
        config=with_links(instance.config, links),
        devices=devices,
        profiles=instance.profiles,
        description=instance.description,
        ephemeral=instance.ephemeral,
        architecture=instance.architecture,
    )
