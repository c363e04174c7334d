"""Finds programs, and the Debian packages of missing ones."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

# Services often run with a PATH without these directories, where most of the required tools are.
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


_known: dict[tuple[str, str], Path] = {}


def find_program(name: str) -> Path | None:
    """The program of this name on PATH or in the system's directories; a path with a slash is taken as it is."""
    path = os.environ.get("PATH", "")
    # Called for every program that is started, so the last result is used as long as it is executable.
    if (known := _known.get((name, path))) is not None and os.access(known, os.X_OK):
        return known
    directories = [part for part in path.split(":") if part]
    found = shutil.which(name, path=":".join([*directories, *_SYSTEM_DIRECTORIES]))
    if found is None:
        return None
    _known[name, path] = Path(found)
    return _known[name, path]


def remedy_for(program: str) -> str:
    """What to do when a program is missing."""
    name = os.path.basename(program)
    return f"Install it: apt-get install {_PACKAGES.get(name, name)}"
