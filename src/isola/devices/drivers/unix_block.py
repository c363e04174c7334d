"""Block devices of the host."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from isola.devices.node import NodeDevice, table


class BlockDevice(NodeDevice):
    """A block device; the kernel does not let user namespaces mount its file system."""

    character = False
    example: ClassVar[Mapping[str, str]] = {"path": "/dev/loop0", "major": "7", "minor": "0"}
    settings = table("unix-block", "/dev/sdb")


DRIVER = BlockDevice
