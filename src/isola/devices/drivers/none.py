"""No device: removes a device of the same name that a profile defines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from isola.devices.driver import DeviceDriver
from isola.settings import Settings


class NoDevice(DeviceDriver):
    """Has no effect at any stage."""

    example: ClassVar[Mapping[str, str]] = {}
    settings = Settings("none")


DRIVER = NoDevice
