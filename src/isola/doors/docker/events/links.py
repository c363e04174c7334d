"""Networks and volumes of a container, for the messages about its connections to them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from isola.devices.nics import network_name
from isola.devices.volume_sources import volume_name
from isola.doors import Services
from isola.doors.docker.identity import long_id
from isola.doors.docker.networks.notes import note_of
from isola.errors import NotFound
from isola.model.instance import Config, Devices, Instance
from isola.model.network import Network
from isola.model.reference import Kind, Ref


@dataclass(frozen=True, slots=True)
class Link:
    """A network that a container is on, or a volume that it mounts."""

    type: str
    id: str
    begin: Mapping[str, str]
    """Attributes of the message about the beginning, besides the container."""
    end: Mapping[str, str]


def links_of(services: Services, instance: Instance, config: Config, devices: Devices) -> tuple[Link, ...]:
    """As long as it runs."""
    alone = config.get("isola.namespaces.network", "private") != "private"
    nics = () if alone else tuple(_networks(services, instance.project, devices))
    return (*_volumes(devices), *nics)


def _networks(services: Services, project: str, devices: Devices) -> Iterator[Link]:
    home = services.projects.home(project, Kind.NETWORK)
    default = _default(services, project)
    for _, device in sorted(devices.items()):
        if device.get("type") != "nic" or not (name := network_name(device)):
            continue
        network = services.networks.find(Ref(home, name))
        if network is not None:
            shown = {"name": "bridge" if name == default else _name(network), "type": network.driver}
            yield Link("network", long_id(network.identity), shown, shown)


def _name(network: Network) -> str:
    return note_of(network).name or network.name


def _default(services: Services, project: str) -> str:
    try:
        profile = services.profiles.get(Ref(services.projects.home(project, Kind.PROFILE), "default"))
    except NotFound:
        return ""
    nics = (network_name(device) for _, device in sorted(profile.devices.items()) if device.get("type") == "nic")
    return next((name for name in nics if name), "")


def _volumes(devices: Devices) -> Iterator[Link]:
    for device in devices.values():
        path = device.get("path", "")
        if device.get("type") == "disk" and device.get("pool") and device.get("source") and path != "/":
            read_only = device.get("readonly") == "true"
            begin = {
                "destination": path,
                "driver": "local",
                "propagation": "",
                "read/write": str(not read_only).lower(),
            }
            yield Link("volume", volume_name(device), begin, {"driver": "local"})
