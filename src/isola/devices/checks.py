"""Validation of the configuration of devices, without access to the host. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from isola import registry
from isola.devices.driver import DeviceDriver
from isola.errors import InvalidInput, Unsupported
from isola.model.names import plain_name
from isola.settings import Settings

Config = Mapping[str, str]
_KIND = "devices"
MOST_DEVICES = 256
"""Maximum for one instance or profile."""


@cache
def kinds() -> tuple[str, ...]:
    """All types of devices, as the API writes them: ``unix-char``."""
    return tuple(name.replace("_", "-") for name in registry.names(_KIND))


def driver_of(kind: str, field: str = "type") -> type[DeviceDriver]:
    """The driver of a type of device. Raises Unsupported, with ``field``."""
    if kind not in kinds():
        raise Unsupported(
            f"Devices of type {kind[:40]!r} are not supported", field=field, remedy=f"use {', '.join(kinds())}"
        )
    found: type[DeviceDriver] = registry.load(_KIND, kind.replace("-", "_"))
    return found


def settings_of(kind: str) -> Settings:
    """The keys of a type of device, without ``type`` itself."""
    return driver_of(kind).settings


def check(devices: Mapping[str, Config]) -> None:
    """Raises InvalidInput, Unsupported, with the invalid field, such as ``devices.eth0.mtu``."""
    if len(devices) > MOST_DEVICES:
        raise InvalidInput(f"More than {MOST_DEVICES} devices", field="devices", remedy="remove some")
    for name, device in devices.items():
        plain_name(name, "devices")
        check_one(name, device)


def check_one(name: str, device: Config) -> None:
    """The same for one device."""
    where = f"devices.{name}"
    for key, value in device.items():
        if not isinstance(key, str) or not isinstance(value, str) or "\0" in key + value:
            raise InvalidInput("Device keys and values must be strings without NUL", field=where)
    kind = device.get("type")
    if not kind:
        raise InvalidInput(f"Device {name!r} has no type", field=f"{where}.type", remedy=f"use {', '.join(kinds())}")
    driver = driver_of(kind, f"{where}.type")
    config = without_type(device)
    driver.settings.validate(config, where=where)
    driver.check(where, config)


def without_type(device: Config) -> dict[str, str]:
    """The keys that its driver reads: those that are set, without ``type``."""
    return {key: value for key, value in device.items() if key != "type" and value}
