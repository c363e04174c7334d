"""Metadata for a root file system without any (``docker export``, ``mmdebstrap``), derived from its contents."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime

from isola.errors import InvalidInput
from isola.host.archive.archives import RepackReport
from isola.images.architecture import architecture, debian_architecture
from isola.images.metadata import Metadata
from isola.images.system import WANTED

_RELEASE = ("etc/os-release", "usr/lib/os-release")
_PACKAGES = "var/lib/dpkg/status"
_PROGRAMS = (
    "usr/bin/dash", "usr/bin/bash", "usr/bin/busybox", "usr/bin/env", "usr/bin/sh", "usr/bin/coreutils", "usr/bin/ls",
    "bin/dash", "bin/bash", "bin/busybox", "bin/sh", "bin/ls", "usr/lib/systemd/systemd", "lib/systemd/systemd",
    "usr/sbin/init", "sbin/init", "sbin/apk",
)  # fmt: skip
HEADS = (*_RELEASE, _PACKAGES, *_PROGRAMS)
"""Files whose first bytes are examined."""
_TOP = frozenset(
    ("bin", "boot", "dev", "etc", "home", "lib", "opt", "proc", "root", "run", "sbin", "sys", "usr", "var")
)
_MIN_TOP = 3
_MACHINES = {3: "i686", 21: "ppc64le", 22: "s390x", 40: "armv7l", 62: "x86_64", 183: "aarch64", 243: "riscv64"}
_LINE = re.compile(r"([A-Z_]+)=([\"']?)([\w .+:~-]{1,100})\2", re.ASCII)
_LATEST = 2**32


def describe(report: RepackReport, properties: Mapping[str, str]) -> Metadata:
    """The metadata; ``properties`` of the upload override it. Raises InvalidInput."""
    if len(_TOP.intersection(report.top)) < _MIN_TOP:
        raise InvalidInput(
            "The archive has no metadata.yaml, and does not look like a root file system",
            evidence=f"at its top: {', '.join(report.top[:8])[:200]}",
            field="files",
            remedy="send an LXD image (metadata.yaml and rootfs/), or a root file system with etc and usr at its top",
        )
    machine = architecture(properties.get("architecture") or _machine(report.heads))
    made = datetime.fromtimestamp(min(report.newest, _LATEST), UTC)
    release = _release(report.heads)
    guessed = {
        "os": release.get("ID", "linux").capitalize(),
        "release": release.get("VERSION_CODENAME") or release.get("VERSION_ID", "unknown"),
        "version": release.get("VERSION_ID", ""),
        "variant": "default",
        "architecture": debian_architecture(machine),
        "serial": made.strftime("%Y%m%d"),
        **_kind(report.found),
        **properties,
    }
    guessed = {key: value for key, value in guessed.items() if value}
    name = " ".join((guessed["os"], guessed["release"], guessed["architecture"]))
    return Metadata(machine, made, None, {"description": f"{name} ({guessed['serial']})", **guessed})


def _kind(found: Mapping[str, str]) -> dict[str, str]:
    """``system`` for a root with an init, else ``application``, which runs a single program."""
    return {} if any(path in found for path in WANTED) else {"isola.type": "application", "isola.command": "/bin/sh"}


def _release(heads: Mapping[str, bytes]) -> dict[str, str]:
    for path in _RELEASE:
        if path in heads:
            lines = heads[path].decode("utf-8", "replace").splitlines()
            return {match[1]: match[3] for line in lines if (match := _LINE.fullmatch(line))}
    return {}


def _machine(heads: Mapping[str, bytes]) -> str:
    for path in _PROGRAMS:
        head = heads.get(path, b"")
        if head.startswith(b"\x7fELF") and len(head) >= 20:
            number = int.from_bytes(head[18:20], "big" if head[5] == 2 else "little")
            if number in _MACHINES:
                return _MACHINES[number]
    for line in heads.get(_PACKAGES, b"").splitlines():
        key, _, value = line.partition(b": ")
        if key == b"Architecture" and value != b"all":
            return value.decode("ascii", "replace")
    raise InvalidInput(
        "The architecture of the root file system is unknown",
        field="properties.architecture",
        remedy="give it with the upload, as the property architecture (x86_64, aarch64, ...)",
    )
