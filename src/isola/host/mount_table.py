"""Which file systems with an instance's files are accessed: an allow list.

The type of a mount is taken from ``mountinfo``, the mount of an open file from ``statx`` without synchronization:
neither accesses the file system. ``fstatfs`` would, and does not return if a FUSE server hangs.
"""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass

from isola.errors import Unsupported
from isola.host import kernel

_STORES = frozenset({
    "bcachefs", "btrfs", "erofs", "exfat", "ext2", "ext3", "ext4", "f2fs", "iso9660", "overlay", "ramfs", "squashfs",
    "tmpfs", "udf", "vfat", "xfs", "zfs",
})  # fmt: skip
"""Local file systems of the kernel that store data: files are read and written."""
_VIEWS = frozenset({
    "binfmt_misc", "bpf", "cgroup", "cgroup2", "configfs", "debugfs", "devpts", "devtmpfs", "efivarfs", "fusectl",
    "hugetlbfs", "mqueue", "proc", "pstore", "securityfs", "selinuxfs", "sysfs", "tracefs",
})  # fmt: skip
"""Their content depends on the caller's privileges, and the daemon is the host's root: they are only listed.

All others are not accessed: FUSE, NFS, 9P and similar depend on a program or another host.
"""
_MAGIC = {
    0xEF53: "ext4", 0x58465342: "xfs", 0x9123683E: "btrfs", 0x794C7630: "overlay", 0x01021994: "tmpfs",
    0x2FC12FC1: "zfs", 0xF2F52010: "f2fs",
}  # fmt: skip
_MOST = 4 << 20
"""Maximum bytes of a table that are read: an instance can create many mounts."""


@dataclass(frozen=True, slots=True)
class Mount:
    """A mount with an open file on it, so its id is not reused meanwhile."""

    number: int
    kind: str

    @property
    def keeps_files(self) -> bool:
        """Whether files here are read and written."""
        return self.kind in _STORES

    def require_entry(self, path: str) -> None:
        """Raises Unsupported if the file system is not accessed."""
        if self.kind not in _STORES | _VIEWS:
            raise Unsupported(
                f"{path!r} lies on {self.kind}, which is not accessed from outside",
                remedy="read and write it by a command inside",
            )

    def require_store(self, path: str) -> None:
        """Raises Unsupported if files are not read and written."""
        self.require_entry(path)
        if not self.keeps_files:
            raise Unsupported(
                f"{path!r} lies on {self.kind}, an interface of the kernel",
                remedy="read and write it by a command inside",
            )


class MountTable:
    """The mounts that a process sees, by an open descriptor of its ``mountinfo``."""

    def __init__(self, descriptor: int, root: int, *, trusted: bool) -> None:
        """``trusted``: the administrator chose the mount of ``root``, so any file system is accessed."""
        self._descriptor = descriptor
        self._reading = threading.Lock()
        """All threads share the file position."""
        number = kernel.mount_of(root)
        self.root = Mount(number, "overlay" if trusted else self._kind(number) or _hidden(root))

    def mount(self, found: int, above: Mount) -> Mount:
        """The mount of an open file; ``above`` is that of the directory in which it was found, still open."""
        number = kernel.mount_of(found)
        for known in (above, self.root):
            if number == known.number:
                return known
        return Mount(number, self._kind(number) or "a mount that is gone")

    def _kind(self, number: int) -> str:
        """Read again each time: the id of a mount that was removed may have been reused."""
        wanted = b"%d " % number
        for line in self._read().split(b"\n"):  # and at nothing else: a mount point may contain a carriage return
            if line.startswith(wanted):
                return line.partition(b" - ")[2].split(b" ", 1)[0].decode(errors="replace")
        return ""

    def _read(self) -> bytes:
        blocks, size = [], 0
        with self._reading:
            os.lseek(self._descriptor, 0, os.SEEK_SET)
            while size < _MOST and (block := os.read(self._descriptor, 1 << 16)):
                blocks.append(block)
                size += len(block)
        text = b"".join(blocks)
        return text[: text.rfind(b"\n") + 1]


def _hidden(root: int) -> str:
    """If the root is not a mount point, as after ``chroot``, the table does not contain its mount."""
    return _MAGIC.get(kernel.file_system_type(root) & 0xFFFFFFFF, "an unknown file system")
