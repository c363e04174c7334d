"""An application image around Debian's static busybox."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

from daemon import Daemon

_APPLETS = (
    "sh",
    "cat",
    "echo",
    "httpd",
    "ls",
    "mkdir",
    "nc",
    "sleep",
    "touch",
    "true",
    "false",
    "wget",
    "hostname",
    "id",
    "env",
)


def application_root() -> bytes:
    """Its root file system as a compressed tar archive."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        _add(archive, "bin/busybox", content=Path("/bin/busybox").read_bytes())
        for name in _APPLETS:
            _add(archive, f"bin/{name}", link="busybox")
        for name in (".dockerenv", "dev", "etc", "proc", "sys", "tmp", "run", "srv"):
            _add(archive, name)
        _add(archive, "etc/passwd", content=b"root:x:0:0::/:/bin/sh\nwww:x:33:33::/srv:/bin/sh\n")
    return buffer.getvalue()


def import_application(daemon: Daemon, alias: str) -> str:
    """Import it under an alias; returns its fingerprint."""
    headers = {"Content-Type": "application/octet-stream"}
    made = daemon.run("POST", "/1.0/images", application_root(), headers=headers)
    fingerprint = str(made["metadata"]["fingerprint"])
    daemon.run("POST", "/1.0/images/aliases", {"name": alias, "target": fingerprint})
    return fingerprint


def _add(archive: tarfile.TarFile, name: str, *, content: bytes = b"", link: str = "") -> None:
    info = tarfile.TarInfo(name)
    info.mode, info.size = 0o755, len(content)
    if link:
        info.type, info.linkname = tarfile.SYMTYPE, link
    elif not content and name != ".dockerenv":
        info.type = tarfile.DIRTYPE
    archive.addfile(info, io.BytesIO(content))
