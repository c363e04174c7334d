"""Command lines of the server of a guest's files (virtiofsd). Pure."""

from __future__ import annotations

from pathlib import Path

from isola.host.hypervisor_job import SHARED, Server
from isola.runtimes.qemu.engines import Engines
from isola.runtimes.qemu.record import FILES


def file_server(found: Engines, directory: Path, *, forgiving: bool = False) -> Server:
    """It serves its own root, with the ids and the mounts that it sees.

    ``forgiving``: a guest that continues gets errors for files that are gone, also where they are in its caches alone,
    and is not refused. virtiofsd has that since it saves states.
    """
    more = ("--migration-on-error=guest-error",) if forgiving else ()
    return Server(FILES, str(directory), (*found.virtiofsd, *_options(found), *more), "files", powerful=True)


def _options(found: Engines) -> tuple[str, ...]:
    if found.old_virtiofsd:
        options = (f"source={SHARED}", "sandbox=chroot", "announce_submounts", "xattr", "log_level=warn")
        return (f"--fd=@{FILES}@", "--rlimit-nofile=0", *(arg for option in options for arg in ("-o", option)))
    return (
        f"--fd=@{FILES}@", f"--shared-dir={SHARED}", "--sandbox=chroot", "--announce-submounts", "--xattr",
        "--log-level=warn", "--rlimit-nofile=0", "--inode-file-handles=never",
    )  # fmt: skip


def firmware(found: Engines) -> tuple[str, ...]:
    """Where QEMU finds its own."""
    return tuple(arg for place in found.data for arg in ("-L", str(place)))
