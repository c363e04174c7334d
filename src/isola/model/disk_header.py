"""What the first bytes of a disk image say, read strictly and before any program reads them. Pure."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from isola.errors import InvalidInput, UnsafeArchive, Unsupported
from isola.model.disk import DiskFormat

HEAD = 0x8800
"""How many of the first bytes are looked at."""
_QCOW2, _VMDK, _DESCRIPTOR = b"QFI\xfb", b"KDMV", b"# Disk DescriptorFile"
_ISO, _ISO_AT = b"CD001", 0x8001
_BOOT_SECTOR, _GPT = b"\x55\xaa", b"EFI PART"
_DIRTY, _CORRUPT, _DATA_FILE, _COMPRESSION, _SUBCLUSTERS = 1, 2, 4, 8, 16
_KNOWN = _DIRTY | _COMPRESSION | _SUBCLUSTERS
_SECTOR = 512
_LARGEST = 1 << 62
_OTHERS = {
    b"QED\0": "QED", b"conectix": "VHD", b"vhdxfile": "VHDX", b"<<< Oracle VM VirtualBox": "VDI", b"<<< QEMU": "VDI",
    b"LUKS\xba\xbe": "LUKS", b"COWD": "VMDK 3", b"OOOO": "QCOW", b"WithoutFreeSpace": "Parallels",
}  # fmt: skip
REMEDY = "convert it to a complete qcow2 or raw file: qemu-img convert -O qcow2 IMAGE disk.qcow2"


@dataclass(frozen=True, slots=True)
class Header:
    """What a file is."""

    format: DiskFormat
    size: int
    """Bytes of the disk in it."""
    disc: bool = False
    """A file system of a CD or DVD; it may be a disk as well."""


def is_disk(head: bytes) -> bool:
    """Whether a file that begins so is meant to be a disk image, also one that is refused."""
    return head.startswith((_QCOW2, _VMDK, _DESCRIPTOR, *_OTHERS)) or is_iso(head) or _boots(head)


def is_iso(head: bytes) -> bool:
    """Whether it is the file system of a CD."""
    return head[_ISO_AT : _ISO_AT + len(_ISO)] == _ISO


def read_header(head: bytes, size: int) -> Header:
    """Of a file with this size in bytes. Raises InvalidInput, UnsafeArchive (it needs other files), Unsupported."""
    if head.startswith(_QCOW2):
        return Header(DiskFormat.QCOW2, _qcow2(head))
    if head.startswith(_VMDK):
        return Header(DiskFormat.VMDK, _vmdk(head))
    if head.startswith(_DESCRIPTOR):
        raise UnsafeArchive("The disk image is a list of other files", evidence="a VMDK descriptor", remedy=REMEDY)
    for magic, name in _OTHERS.items():
        if head.startswith(magic):
            raise Unsupported(f"Disk images of the format {name} cannot be read", remedy=REMEDY)
    if size <= 0 or size % _SECTOR:
        raise InvalidInput("The disk image is not a whole number of sectors", evidence=f"{size} bytes", remedy=REMEDY)
    return Header(DiskFormat.RAW, size, is_iso(head))


def _boots(head: bytes) -> bool:
    """A boot sector or a partition table."""
    return head[510:512] == _BOOT_SECTOR or head[_SECTOR : _SECTOR + len(_GPT)] == _GPT


def _qcow2(head: bytes) -> int:
    if len(head) < 104:
        raise _damaged("it ends in its header")
    (version, backing, _, bits, size, encryption) = struct.unpack_from(">IQIIQI", head, 4)
    if version not in (2, 3):
        raise _damaged(f"version {version}")
    if backing:
        raise UnsafeArchive("The disk image is based on another file", evidence="it has a backing file", remedy=REMEDY)
    if encryption:
        raise Unsupported("Encrypted disk images cannot be read", evidence=f"method {encryption}", remedy=REMEDY)
    features = struct.unpack_from(">Q", head, 72)[0] if version == 3 else 0
    if features & _DATA_FILE:
        raise UnsafeArchive("The disk image keeps its data in another file", evidence="a data file", remedy=REMEDY)
    if features & ~_KNOWN:
        what = "it is marked as corrupt" if features & _CORRUPT else f"features {features:#x}"
        raise _damaged(what)
    if not 9 <= bits <= 21:
        raise _damaged(f"clusters of 2^{bits} bytes")
    return _checked(size)


def _vmdk(head: bytes) -> int:
    if len(head) < _SECTOR:
        raise _damaged("it ends in its header")
    version, _, capacity = struct.unpack_from("<IIQ", head, 4)
    if version not in (1, 2, 3) or not capacity:
        raise UnsafeArchive("The disk image keeps its data in other files", evidence="a VMDK without content")
    return _checked(min(capacity, _LARGEST) * _SECTOR)


def _checked(size: int) -> int:
    if not 0 < size < _LARGEST or size % _SECTOR:
        raise _damaged(f"a disk of {size} bytes")
    return int(size)


def _damaged(evidence: str) -> InvalidInput:
    return InvalidInput("The disk image is damaged", evidence=evidence, remedy="send it again")
