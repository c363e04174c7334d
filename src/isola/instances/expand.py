"""Profiles and the instance's own words merged; checks of devices. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager

from isola.errors import InvalidInput, NotFound, Unsupported
from isola.instances.settings import SETTINGS
from isola.model.instance import Config, Devices
from isola.model.names import plain_name
from isola.model.profile import Profile

_NIC_KEYS = frozenset({"type", "name", "network", "nictype", "parent", "hwaddr", "ipv4.address", "ipv6.address", "mtu"})
_DISK_KEYS = frozenset({"type", "path", "pool"})


def merge(
    profiles: Iterable[Profile], config: Config, devices: Devices
) -> tuple[dict[str, str], dict[str, Mapping[str, str]]]:
    """Later profiles win over earlier ones, the instance over all; a device is replaced whole.

    An empty value wins over nothing: 0.1 recorded such values.
    """
    merged_config: dict[str, str] = {}
    merged_devices: dict[str, Mapping[str, str]] = {}
    for profile in profiles:
        merged_config |= {key: value for key, value in profile.config.items() if value}
        merged_devices |= profile.devices
    merged_config |= {key: value for key, value in config.items() if value}
    merged_devices |= devices
    return merged_config, merged_devices


def validate(config: Config, devices: Devices) -> None:
    """Check the words of a profile or an instance on their own. Raises InvalidInput, Unsupported."""
    SETTINGS.validate(config)
    for name, device in devices.items():
        plain_name(name, "devices")
        _check_device(name, device)


def nic_devices(devices: Devices) -> dict[str, Mapping[str, str]]:
    """The NICs among expanded devices, by device name."""
    return {name: device for name, device in sorted(devices.items()) if device.get("type") == "nic"}


def root_pool(devices: Devices) -> str:
    """Pool of the root disk. Raises InvalidInput when there is none."""
    return devices[_root(devices)]["pool"]


def _root(devices: Devices) -> str:
    for name, device in devices.items():
        if device.get("type") == "disk" and device.get("path") == "/":
            return name
    raise InvalidInput(
        "The instance has no root disk",
        field="devices",
        remedy="add a device {type: disk, path: /, pool: default} or use the profile 'default'",
    )


def require(devices: Devices, *, network: Callable[[str], object], pool: Callable[[str], object]) -> None:
    """Check that what expanded devices name exists; ``network`` and ``pool`` raise NotFound."""
    root = _root(devices)
    with naming(f"devices.{root}.pool"):
        pool(devices[root]["pool"])
    interfaces: set[str] = set()
    for name, device in nic_devices(devices).items():
        with naming(f"devices.{name}.network"):
            network(network_of(device))
        interface = device.get("name", name)
        if interface in interfaces:
            raise InvalidInput(f"Two NICs are called {interface!r} inside", field=f"devices.{name}.name")
        interfaces.add(interface)


@contextmanager
def naming(field: str) -> Iterator[None]:
    """What is not found within is named by this field: the thing the request is about is there."""
    try:
        yield
    except NotFound as error:
        raise NotFound(error.message, field=field, evidence=error.evidence, remedy=error.remedy) from error


def network_of(device: Mapping[str, str]) -> str:
    """The managed network a NIC device names, in either of the API's spellings."""
    return device.get("network") or device["parent"]


def _check_device(name: str, device: Mapping[str, str]) -> None:
    where = f"devices.{name}"
    for key, value in device.items():
        if not isinstance(key, str) or not isinstance(value, str) or "\0" in key + value:
            raise InvalidInput("Device keys and values must be texts without NUL", field=where)
    kind = device.get("type")
    if kind is None:
        raise InvalidInput(f"Device {name!r} has no type", field=f"{where}.type", remedy="use nic, disk or none")
    if kind == "none":
        return
    if kind not in ("nic", "disk"):
        raise Unsupported(
            f"Devices of type {kind[:40]!r} are not offered", field=f"{where}.type", remedy="use nic or disk"
        )
    known = _NIC_KEYS if kind == "nic" else _DISK_KEYS
    if kind == "disk" and device.get("size"):
        raise Unsupported(
            "The size of a root disk cannot be limited",
            evidence="pools of the overlay driver have no quotas",
            field=f"{where}.size",
            remedy="leave it out, and put the pool on a file system of its own: that bounds all that lie in it",
        )
    for key in device:
        if key not in known:
            raise InvalidInput(
                f"Unknown key {key!r} of a {kind}",
                field=f"{where}.{key}",
                remedy=f"known keys: {', '.join(sorted(known))}",
            )
    if kind == "nic":
        _check_nic(where, device)
    elif device.get("path") != "/" or not device.get("pool"):
        raise Unsupported("Only a root disk is offered", field=where, remedy="use {type: disk, path: /, pool: NAME}")


def _check_nic(where: str, device: Mapping[str, str]) -> None:
    import ipaddress
    import re

    if device.get("nictype", "bridged") != "bridged":
        raise Unsupported("Only bridged NICs are offered", field=f"{where}.nictype", remedy="use nictype bridged")
    if not (device.get("network") or device.get("parent")):
        raise InvalidInput("A NIC needs a network", field=f"{where}.network", remedy="name a managed network")
    name = device.get("name", "eth0")
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9._-]{0,14}", name, re.ASCII) or name == "lo":
        raise InvalidInput(f"Invalid interface name {name[:40]!r}", field=f"{where}.name", remedy="use eth0, eth1, ...")
    mac = device.get("hwaddr", "")
    if mac and not re.fullmatch(r"[0-9a-fA-F][02468aceACE](:[0-9a-fA-F]{2}){5}", mac, re.ASCII):
        raise InvalidInput(
            "Invalid MAC address", field=f"{where}.hwaddr", remedy="a unicast address like 10:66:6a:1:2:3"
        )
    if device.get("mtu"):
        try:
            if not 1280 <= int(device["mtu"]) <= 65535:
                raise ValueError
        except ValueError:
            raise InvalidInput("Invalid MTU", field=f"{where}.mtu", remedy="use 1280 to 65535") from None
    for key, version in (("ipv4.address", 4), ("ipv6.address", 6)):
        value = device.get(key)
        try:
            if value and value != "none" and ipaddress.ip_address(value).version != version:
                raise ValueError
        except ValueError:
            raise InvalidInput(f"Invalid IPv{version} address", field=f"{where}.{key}") from None
