"""Merging of profiles and the instance's own configuration; validation of devices. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from isola.devices.checks import check, driver_of, without_type
from isola.devices.nics import network_name
from isola.errors import InvalidInput, NotFound, TooLarge
from isola.instances.settings import SETTINGS
from isola.instances.volatile import HELD, ROOT_SIZE
from isola.model.instance import Config, Devices
from isola.model.profile import Profile
from isola.model.units import parse_size

_LARGEST = 1 << 20


def merge(
    profiles: Iterable[Profile], config: Config, devices: Devices
) -> tuple[dict[str, str], dict[str, Mapping[str, str]]]:
    """Later profiles override earlier ones, the instance overrides all; a device is replaced as a whole.

    Empty values, which 0.1 recorded, override nothing. An instance without a network of its own has no NICs.
    """
    merged_config: dict[str, str] = {}
    merged_devices: dict[str, Mapping[str, str]] = {}
    for profile in profiles:
        merged_config |= {key: value for key, value in profile.config.items() if value}
        merged_devices |= profile.devices
    merged_config |= {key: value for key, value in config.items() if value}
    merged_devices |= devices
    if merged_config.get("isola.namespaces.network", "private") != "private":
        merged_devices = {name: each for name, each in merged_devices.items() if each.get("type") != "nic"}
    return merged_config, merged_devices


def unheld(devices: Mapping[str, Mapping[str, str]], volatile: Config) -> dict[str, Mapping[str, str]]:
    """Without those that another version of the instance has."""
    held = held_of(volatile)
    return {name: device for name, device in devices.items() if name not in held}


def held_of(volatile: Config) -> frozenset[str]:
    """Names of devices that it has in its configuration alone."""
    return frozenset(filter(None, volatile.get(HELD, "").split(",")))


def validate(config: Config, devices: Devices) -> None:
    """Validate the configuration of a profile or an instance by itself. Raises InvalidInput, TooLarge, Unsupported."""
    SETTINGS.validate(config)
    check(devices)
    # Records are kept in memory and written as a whole, and free keys such as user.* may be added one by one.
    size = _size(config) + sum(_size(device) + len(name) for name, device in devices.items())
    if size > _LARGEST:
        raise TooLarge(f"The configuration has more than {_LARGEST} bytes", field="config", evidence=f"{size} bytes")


def _size(keys: Config) -> int:
    return sum(len(key) + len(value) for key, value in keys.items())


def require_distinct(profiles: Sequence[str]) -> None:
    """Raise InvalidInput if a profile is named twice, as LXD does."""
    repeated = next((name for at, name in enumerate(profiles) if name in profiles[:at]), None)
    if repeated is not None:
        raise InvalidInput(f"Profile {repeated[:80]!r} is named twice", field="profiles")


def root_pool(devices: Devices) -> str:
    """Pool of the root disk. Raises InvalidInput if there is none."""
    return devices[root_name(devices)]["pool"]


def root_size(devices: Devices) -> int | None:
    """Size limit of the root disk in bytes; None if it has none."""
    size = devices[root_name(devices)].get("size")
    return parse_size(size) if size else None


def with_size(volatile: Config, size: int | None) -> dict[str, str]:
    """``volatile`` with the size limit of the root."""
    kept = {key: value for key, value in volatile.items() if key != ROOT_SIZE}
    return kept if size is None else {**kept, ROOT_SIZE: str(size)}


def root_name(devices: Devices) -> str:
    """The name of the root disk among expanded devices. Raises InvalidInput when there is none."""
    for name, device in devices.items():
        if device.get("type") == "disk" and device.get("path") == "/":
            return name
    raise InvalidInput(
        "The instance has no root disk",
        field="devices",
        remedy="name its storage pool, or give one of its profiles a disk device with a pool and the path /",
    )


def require(devices: Devices, *, network: Callable[[str], object], pool: Callable[[str], object]) -> None:
    """Check that expanded devices name existing resources, and do not conflict inside.

    ``network`` and ``pool`` raise NotFound. Checks that need the host take place when the devices are chosen.
    """
    root_name(devices)
    taken: dict[str, str] = {}
    for name, device in devices.items():
        driver, config = driver_of(device["type"]), without_type(device)
        if (named := driver.pool(config)) is not None:
            with naming(f"devices.{name}.pool"):
                pool(named)
        if (named := driver.network(config)) is not None:
            with naming(f"devices.{name}.network"):
                network(named)
        place = driver.place(name, config)
        if place is not None and place in taken:
            raise InvalidInput(
                f"Devices {taken[place]!r} and {name!r} both take {place}",
                field=f"devices.{name}",
                remedy="change or remove one of them",
            )
        if place is not None:
            taken[place] = name


def networks_of(devices: Devices) -> set[str]:
    """The managed networks that these NICs name, directly or as their parent."""
    nics = (without_type(device) for device in devices.values() if device.get("type") == "nic")
    return {name for nic in nics if (name := network_name(nic))}


@contextmanager
def naming(field: str) -> Iterator[None]:
    """Convert NotFound to InvalidInput with this field: it means a resource that the request names."""
    try:
        yield
    except NotFound as error:
        raise NotFound(error.message, field=field, evidence=error.evidence, remedy=error.remedy) from error
