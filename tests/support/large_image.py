"""An image whose transfer takes a while."""

from __future__ import annotations

import gzip
import io
import os
import tarfile
from pathlib import Path

from isola.testing.images import tiny_image

SIZE = 24 << 20


def large_image(scratch: Path) -> Path:
    """Write a unified LXD image with ``SIZE`` bytes that cannot be compressed."""
    path = scratch / "large.tar"
    path.write_bytes(gzip.decompress(tiny_image(scratch).read_bytes()))
    with tarfile.open(path, "a") as archive:
        member = tarfile.TarInfo("rootfs/data")
        member.size = SIZE
        archive.addfile(member, io.BytesIO(os.urandom(SIZE)))
    return path
