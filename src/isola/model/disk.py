"""Disks of guests with a kernel and block devices of their own, and the files of a volume that contain them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path

IMAGE_DISK = "disk.raw"
"""In an image's layer: its disk, raw and sparse, which is only read."""
ROOT_DISK = "root.qcow2"
"""In the root volume of an instance: what differs from the image's disk, or all of its disk if that is missing.

Its header names no backing file: the one below is given when it is opened.
"""
VOLUME_DISK = "volume.raw"
"""In a custom volume of content type ``block`` or ``iso``."""
ROOT_SIZE = 10 << 30
"""Bytes of a root disk without ``size``, unless its image needs more."""


class DiskFormat(Enum):
    """How a file contains a disk; always named, never guessed from its content."""

    RAW = "raw"
    QCOW2 = "qcow2"
    VMDK = "vmdk"


@dataclass(frozen=True, slots=True)
class Disk:
    """A disk of a guest with block devices of its own."""

    name: str
    """The name of the instance's device."""
    path: Path
    """A file or block device of the host."""
    format: DiskFormat = DiskFormat.RAW
    backing: Path | None = None
    """The raw disk below it, which is only read."""
    read_only: bool = False
    cdrom: bool = False
    """A disc in a drive, not a disk."""
    boot: int = 0
    """The firmware tries the highest first; 0: after all others."""
    bus: str = ""
    """As in ``io.bus``; empty: the runtime's choice."""
