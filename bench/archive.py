"""An archive as ``docker save`` writes it: Debian in layers, and one layer that cannot be compressed."""

import hashlib
import io
import json
import os
import tarfile
from contextlib import ExitStack
from pathlib import Path

IMAGE = "bench/large:1"
_SIZE = 200 << 20
"""Bytes of all layers together, at least."""
_PIECE = 1_500_000
_PLACES = ("usr/lib", "usr/share", "usr/bin", "var")


def write(target: Path, rootfs: Path) -> None:
    """Divide the root file system by directories."""
    layers = _divided(rootfs)
    layers.append(_filled(_SIZE - sum(map(len, layers))))
    ids = [hashlib.sha256(layer).hexdigest() for layer in layers]
    config = {
        "architecture": {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine),
        "os": "linux",
        "config": {"Cmd": ["/bin/true"]},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{id}" for id in ids]},
    }
    described = json.dumps(config).encode()
    name = f"{hashlib.sha256(described).hexdigest()}.json"
    manifest = [{"Config": name, "RepoTags": [IMAGE], "Layers": [f"{id}/layer.tar" for id in ids]}]
    with tarfile.open(target, "w") as archive:
        for id, layer in zip(ids, layers, strict=True):
            _add(archive, f"{id}/layer.tar", layer)
        _add(archive, name, described)
        _add(archive, "manifest.json", json.dumps(manifest).encode())


def _divided(rootfs: Path) -> list[bytes]:
    buffers = [io.BytesIO() for _ in (*_PLACES, "")]
    with ExitStack() as stack:
        archives = [stack.enter_context(tarfile.open(fileobj=buffer, mode="w")) for buffer in buffers]
        source = stack.enter_context(tarfile.open(rootfs))
        for member in source:
            path = member.name.removeprefix("./")
            number = next((n for n, place in enumerate(_PLACES) if path.startswith(place)), len(_PLACES))
            archives[number].addfile(member, source.extractfile(member) if member.isreg() else None)
    return [buffer.getvalue() for buffer in buffers]


def _filled(size: int) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for number in range(max(1, size // _PIECE)):
            _add(archive, f"srv/{number}", os.urandom(_PIECE))
    return buffer.getvalue()


def _add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    archive.addfile(member, io.BytesIO(data))
