"""Files in the layers of an image of a daemon."""

from __future__ import annotations

import io
import json
import tarfile

import zstandard
from daemon import Daemon


def files_of(daemon: Daemon, alias: str) -> dict[str, bytes]:
    """All regular files, by their paths."""
    target = daemon.get(f"/1.0/images/aliases/{alias.replace('/', '%2F')}")["target"]
    found: dict[str, bytes] = {}
    for layer in json.loads(_blob(daemon, target))["layers"]:
        data = _blob(daemon, layer["digest"].removeprefix("sha256:"))
        if layer["mediaType"].endswith("zstd"):
            data = zstandard.ZstdDecompressor().decompressobj().decompress(data)
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:
            for each in archive:
                _apply(archive, each, found)
    return found


def _apply(archive: tarfile.TarFile, member: tarfile.TarInfo, found: dict[str, bytes]) -> None:
    directory, _, name = f"/{member.name.strip('./') if member.name.startswith('./') else member.name}".rpartition("/")
    if name.startswith(".wh."):
        found.pop(f"{directory}/{name[4:]}", None)
    elif member.isreg() and (content := archive.extractfile(member)) is not None:
        found[f"{directory}/{name}"] = content.read()


def _blob(daemon: Daemon, digest: str) -> bytes:
    return (daemon.directory / "images" / "blobs" / "sha256" / digest).read_bytes()
