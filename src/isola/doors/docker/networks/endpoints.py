"""Containers on networks: nic devices."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from isola.devices.nics import network_name
from isola.doors.docker.networks.lookup import HOST, NONE, Shown, shown
from isola.doors.docker.request import Request
from isola.doors.http.reading import Fields
from isola.errors import Forbidden, InvalidInput, Unsupported
from isola.model.instance import Devices, Instance, InstanceUpdate
from isola.model.reference import Kind

_INTERFACE = "com.docker.network.endpoint.ifname"
_PRIORITY = 100
"""Greatest priority of a NIC; greater ones of a request are taken for it."""
_MASK = {"type": "none"}
Config = Mapping[str, str]


def nic_device(each: Shown, endpoint: Fields) -> dict[str, str]:
    """The device of a container on a network, by its ``EndpointConfig``. Raises InvalidInput, Unsupported."""
    assert each.network is not None
    addresses, options = endpoint.inside("IPAMConfig"), endpoint.mapping("DriverOpts")
    if endpoint.texts("Links"):
        raise Unsupported("Links are not offered: containers on a network find each other by name", field="Links")
    if addresses.texts("LinkLocalIPs"):
        raise Unsupported("Link-local addresses are not offered", field="LinkLocalIPs")
    if unknown := sorted(set(options) - {_INTERFACE}):
        raise Unsupported(f"The option {unknown[0][:80]!r} is not offered", field="DriverOpts")
    priority = endpoint.whole("GwPriority", 0, minimum=-(2**63), maximum=2**63 - 1)
    device = {
        "type": "nic",
        "network": each.network.name,
        "name": options.get(_INTERFACE, ""),
        "ipv4.address": addresses.text("IPv4Address", ""),
        "ipv6.address": addresses.text("IPv6Address", ""),
        "hwaddr": endpoint.text("MacAddress", "").replace("-", ":").lower(),
        "dns.aliases": ",".join(dict.fromkeys(endpoint.texts("Aliases"))),
        "gateway.priority": str(max(min(priority, _PRIORITY), -_PRIORITY)) if priority else "",
    }
    return {key: value for key, value in device.items() if value}


def connected(request: Request, each: Shown, endpoint: Fields) -> Callable[[Instance], InstanceUpdate]:
    """Decides the devices with one more. Raises Forbidden if the container is on the network already."""
    refuse_other_namespaces(each)
    device = nic_device(each, endpoint)

    def decide(instance: Instance) -> InstanceUpdate:
        expanded = request.services.instances.expanded(instance)[1]
        if on_network(request, instance, expanded, each):
            raise Forbidden(f"endpoint with name {instance.name} already exists in network {each.name}")
        return _updated(instance, {**instance.devices, free_name(expanded): device})

    return decide


def disconnected(request: Request, each: Shown) -> Callable[[Instance], InstanceUpdate]:
    """Decides the devices without those on a network. Raises Forbidden if there are none."""
    refuse_other_namespaces(each)

    def decide(instance: Instance) -> InstanceUpdate:
        expanded = request.services.instances.expanded(instance)[1]
        names = on_network(request, instance, expanded, each)
        if not names:
            raise Forbidden(f"container {instance.name} is not connected to network {each.name}")
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


def refuse_other_namespaces(each: Shown) -> None:
    """Raises Forbidden, InvalidInput for the host's network and none."""
    if each.name == HOST and each.network is None:
        raise Forbidden("container cannot be disconnected from host network or connected to host network")
    if each.name == NONE and each.network is None:
        raise InvalidInput(
            "container cannot be connected to multiple networks with one of the networks in private (none) mode"
        )


def _updated(instance: Instance, devices: Devices) -> InstanceUpdate:
    return InstanceUpdate(
        config=instance.config,
        devices=devices,
        profiles=instance.profiles,
        description=instance.description,
        ephemeral=instance.ephemeral,
        architecture=instance.architecture,
    )
