"""The system of the image source ``busybox`` as files to import: with and without DHCP, unified or split."""

from __future__ import annotations

import gzip
import json
import platform
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from isola.images.busybox_recipe import CREATED, add, add_root

_BUSYBOX = Path("/bin/busybox")


def tiny_image(
    directory: Path, name: str = "tiny", *, dhcp: bool = False, properties: Mapping[str, str] | None = None
) -> Path:
    """Write ``<directory>/<name>.tar.gz``, a unified LXD image around Debian's static busybox, and return its path.

    With ``dhcp`` it requests an address on eth0. Its stop signal is SIGPWR; ``reboot`` inside requests a restart.
    """
    target = directory / f"{name}.tar.gz"
    with _archive(target) as archive:
        add(archive, "metadata.yaml", _metadata(name, properties or {}))
        _add_root(archive, "rootfs/", dhcp)
    return target


def tiny_split_image(
    directory: Path, name: str = "tiny", *, dhcp: bool = False, properties: Mapping[str, str] | None = None
) -> tuple[Path, Path]:
    """The same as a split image: paths of the metadata tarball and the root file system tarball."""
    metadata, root = directory / f"meta-{name}.tar.gz", directory / f"{name}.root.tar.gz"
    with _archive(metadata) as archive:
        add(archive, "metadata.yaml", _metadata(name, properties or {}))
    with _archive(root) as archive:
        _add_root(archive, "", dhcp)
    return metadata, root


@contextmanager
def _archive(target: Path) -> Iterator[tarfile.TarFile]:
    with (
        gzip.GzipFile(target, "wb", compresslevel=1, mtime=0) as compressed,
        tarfile.open(fileobj=compressed, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        yield archive


def _metadata(name: str, properties: Mapping[str, str]) -> bytes:
    described = {"os": "Busybox", "release": "tiny", "description": f"Busybox {name}", **properties}
    return json.dumps(
        {"architecture": platform.machine(), "creation_date": int(CREATED.timestamp()), "properties": described}
    ).encode()


def _add_root(archive: tarfile.TarFile, prefix: str, dhcp: bool) -> None:
    add_root(archive, _BUSYBOX.read_bytes(), prefix, release="Busybox tiny", dhcp=dhcp)
