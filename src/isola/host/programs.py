"""Where programs are, and which Debian package brings one that is missing."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

# Services often start with a PATH that lacks the directories of the tools we need.
_SYSTEM_DIRECTORIES = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")

_PACKAGES = {
    "btrfs": "btrfs-progs",
    "busybox": "busybox-static",
    "dnsmasq": "dnsmasq-base",
    "ip": "iproute2",
    "lsns": "util-linux",
    "mkfs.ext4": "e2fsprogs",
    "modprobe": "kmod",
    "newuidmap": "uidmap",
    "nft": "nftables",
    "nsenter": "util-linux",
    "qemu-storage-daemon": "qemu-utils",
    "qemu-system-x86_64": "qemu-system-x86",
    "sysctl": "procps",
    "unshare": "util-linux",
}


def find_program(name: str) -> Path | None:
    """The program of this name on PATH or in the system's directories; a path with a slash is taken as it is."""
    directories = [part for part in os.environ.get("PATH", "").split(":") if part]
    found = shutil.which(name, path=":".join([*directories, *_SYSTEM_DIRECTORIES]))
    return Path(found) if found else None


def remedy_for(program: str) -> str:
    """What to do when a program is missing."""
    name = os.path.basename(program)
    return f"Install it: apt-get install {_PACKAGES.get(name, name)}"
