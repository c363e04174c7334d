"""Settings of archives of images and layers: what they may contain, and how those are compressed that are written."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from isola.host.archive.archives import UnpackLimits
from isola.host.disk_images import DiskLimits
from isola.model.units import parse_size
from isola.settings import Setting, one_of, whole

_BYTES, _ENTRIES, _RATIO = "images.limits.bytes", "images.limits.entries", "images.limits.ratio"
_DISK = "images.limits.disk"
_COMPRESSION, _USUAL = "images.compression", "gzip"
_LIMITS = (
    Setting(
        _BYTES,
        parse_size,
        "Most bytes of the files of an image layer, of an uploaded image when unpacked, and of other archives that are "
        "unpacked: contexts of builds, those of `ADD`, and what is copied to containers.",
        "64GiB",
        live=True,
    ),
    Setting(
        _ENTRIES, whole(1, 100_000_000), "Most files of an image layer, and of other archives.", "4000000", live=True
    ),
    Setting(
        _RATIO,
        whole(10, 100_000),
        "Most bytes that a byte of a compressed layer or disk may become, beyond the first GiB.",
        "400",
        live=True,
    ),
)
_DISK_LIMIT = Setting(
    _DISK,
    parse_size,
    "Largest disk of an image for virtual machines, as the machine sees it; `images.limits.bytes` is the limit of the "
    "data on it.",
    "8TiB",
    live=True,
)
ARCHIVE_SETTINGS = (
    *_LIMITS,
    _DISK_LIMIT,
    Setting(
        _COMPRESSION,
        one_of("gzip", "zstd", "none"),
        "How layers of builds and of changes of instances are compressed. zstd makes them smaller by a fifth; Docker"
        " reads it from version 23 on.",
        _USUAL,
        live=True,
    ),
)
"""Of the server."""


def compression_of(config: Mapping[str, str]) -> str:
    """``gzip``, ``zstd`` or ``none``."""
    return config.get(_COMPRESSION) or _USUAL


def limits_of(config: Callable[[], Mapping[str, str]]) -> UnpackLimits:
    """As set at present, or the defaults."""
    found = config()
    bytes_, entries, ratio = (
        found.get(key) or row.default or "0" for key, row in zip((_BYTES, _ENTRIES, _RATIO), _LIMITS, strict=True)
    )
    return UnpackLimits(parse_size(bytes_), int(entries), int(ratio))


def disk_limits_of(config: Mapping[str, str]) -> DiskLimits:
    """The same for disk images."""
    size = config.get(_DISK) or _DISK_LIMIT.default or "0"
    others = limits_of(lambda: config)
    return DiskLimits(parse_size(size), others.bytes, others.ratio)
