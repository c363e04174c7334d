"""Block devices of the host."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from isola.devices.node import NodeDevice, table


class BlockDevice(NodeDevice):
    """A block device; a kernel lets no user namespace mount what is on it."""

    character = False
    example: ClassVar[Mapping[str, str]] = {"path": "/dev/loop0", "major": "7", "minor": "0"}
    settings = table("unix-block", "/dev/sdb")


DRIVER = BlockDevice
