"""Settings that limit what archives of images and layers may contain."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from isola.host.archive.archives import UnpackLimits
from isola.model.units import parse_size
from isola.settings import Setting, whole

_BYTES, _ENTRIES, _RATIO = "images.limits.bytes", "images.limits.entries", "images.limits.ratio"
ARCHIVE_SETTINGS = (
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
        "Most bytes that a byte of a compressed layer may become, beyond the first GiB.",
        "400",
        live=True,
    ),
)
"""Of the server."""


def limits_of(config: Callable[[], Mapping[str, str]]) -> UnpackLimits:
    """As set at present, or the defaults."""
    found = config()
    bytes_, entries, ratio = (
        found.get(key) or row.default or "0"
        for key, row in zip((_BYTES, _ENTRIES, _RATIO), ARCHIVE_SETTINGS, strict=True)
    )
    return UnpackLimits(parse_size(bytes_), int(entries), int(ratio))
