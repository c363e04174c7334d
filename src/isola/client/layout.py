"""Directories of OCI's image layout, sent as one archive."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_PIECE = 262144
_BLOCK = 512


def is_layout(path: str) -> bool:
    """Whether it is such a directory."""
    return os.path.exists(os.path.join(path, "oci-layout"))


def pieces_of(path: str) -> Iterator[bytes]:
    """A tar archive of its documents and blobs; other files are left out."""
    yield _header("blobs", 0, directory=True)  # by its first member an archive of images is recognized
    for name in _files(path):
        with open(os.path.join(path, name), "rb") as file:
            size = os.fstat(file.fileno()).st_size
            yield _header(name, size)
            left = size
            while left and (piece := file.read(min(_PIECE, left))):
                left -= len(piece)
                yield piece
            yield bytes(left + -size % _BLOCK)
    yield bytes(2 * _BLOCK)


def _files(path: str) -> list[str]:
    blobs = os.path.join("blobs", "sha256")
    found = [os.path.join(blobs, name) for name in sorted(os.listdir(os.path.join(path, blobs)))]
    return [*found, "index.json", "oci-layout"]


def _header(name: str, size: int, *, directory: bool = False) -> bytes:
    import tarfile

    info = tarfile.TarInfo(name)
    info.size = size
    if directory:
        info.type = tarfile.DIRTYPE
    return info.tobuf(tarfile.PAX_FORMAT)
