"""Builds tar archives, valid and hostile ones."""

import bz2
import gzip
import lzma
import tarfile
from collections.abc import Iterable
from typing import Literal

import zstandard

MTIME = 1_600_000_000


def member(name: str, content: bytes = b"", **facts: object) -> tuple[tarfile.TarInfo, bytes]:
    """A member; ``facts`` are attributes of TarInfo."""
    info = tarfile.TarInfo(name)
    info.size, info.mode, info.mtime = len(content), 0o644, MTIME
    for key, value in facts.items():
        setattr(info, key, value)
    return info, content


def directory(name: str, **facts: object) -> tuple[tarfile.TarInfo, bytes]:
    return member(name, b"", **{"type": tarfile.DIRTYPE, "mode": 0o755, **facts})


def symlink(name: str, target: str, **facts: object) -> tuple[tarfile.TarInfo, bytes]:
    return member(name, b"", **{"type": tarfile.SYMTYPE, "linkname": target, **facts})


def hard_link(name: str, target: str) -> tuple[tarfile.TarInfo, bytes]:
    return member(name, type=tarfile.LNKTYPE, linkname=target)


def device(name: str, *, kind: bytes = tarfile.CHRTYPE) -> tuple[tarfile.TarInfo, bytes]:
    return member(name, type=kind, devmajor=1, devminor=3)


def tar(*members: tuple[tarfile.TarInfo, bytes], format: Literal[0, 1, 2] = tarfile.PAX_FORMAT) -> bytes:
    """An archive of these members, in this order, without checks."""
    return b"".join(pieces(members, format)) + bytes(1024)


def pieces(members: Iterable[tuple[tarfile.TarInfo, bytes]], format: Literal[0, 1, 2]) -> Iterable[bytes]:
    for info, content in members:
        yield info.tobuf(format, "utf-8", "surrogateescape") + content + bytes(-len(content) % 512)


def packed(data: bytes, kind: str) -> bytes:
    """Compressed."""
    if kind == "gzip":
        return gzip.compress(data)
    if kind == "bzip2":
        return bz2.compress(data)
    if kind == "xz":
        return lzma.compress(data)
    return zstandard.ZstdCompressor().compress(data) if kind == "zstd" else data


def raw_header(name: bytes = b"f", size: bytes = b"00000000000", kind: bytes = b"0", **fields: bytes) -> bytes:
    """A raw header with a correct checksum; ``fields`` are ``uid``, ``mtime``, ``link``, ..."""
    places = {"mode": 100, "uid": 108, "gid": 116, "mtime": 136, "link": 157, "magic": 257, "sparse": 386, "tail": 482}
    header = bytearray(512)
    header[100:124] = b"0000644\0" + b"0000000\0" + b"0000000\0"
    header[136:147] = b"00000000000"
    header[257:265] = b"ustar\x0000"
    for place, value in ((0, name), (124, size), (156, kind), *((places[key], value) for key, value in fields.items())):
        header[place : place + len(value)] = value
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header)
