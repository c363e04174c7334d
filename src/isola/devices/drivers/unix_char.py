"""Character devices of the host."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from isola.devices.node import NodeDevice, table


class CharacterDevice(NodeDevice):
    character = True
    example: ClassVar[Mapping[str, str]] = {"source": "/dev/null", "path": "/dev/also-null"}
    settings = table("unix-char", "/dev/ttyUSB0")


DRIVER = CharacterDevice
