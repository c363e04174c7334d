"""Dockerfiles, what is in their contexts, and images as the recorded cases describe them."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import subprocess
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import zstandard
from daemon import Daemon

from isola.builds.state import DEFAULT_PATH
from isola.model.ignore import read_ignore_file

Json = dict[str, Any]
OLD = 1234567890
"""Time of all files of contexts."""
_OLD = frozenset((OLD, 1000000000, 978307200, 1104635045))
_KINDS = {tarfile.DIRTYPE: "d", tarfile.SYMTYPE: "l", tarfile.FIFOTYPE: "p", tarfile.LNKTYPE: "h"}
_LONGEST = 200


def busybox_root() -> bytes:
    """A root with all programs of Debian's static busybox, as an archive."""
    names = subprocess.run(["/bin/busybox", "--list"], check=True, capture_output=True, text=True).stdout.split()
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name in ("bin", "dev", "etc", "proc", "sys", "run", "srv", "home", "root"):
            _add(archive, name, tarfile.DIRTYPE, 0o755)
        _add(archive, "tmp", tarfile.DIRTYPE, 0o1777)
        _add(archive, "bin/busybox", tarfile.REGTYPE, 0o755, Path("/bin/busybox").read_bytes())
        for name in names:
            if name != "busybox":
                _add(archive, f"bin/{name}", tarfile.SYMTYPE, 0o777, link="busybox")
        users = b"root:x:0:0::/root:/bin/sh\nwww:x:33:33::/srv:/bin/sh\n"
        _add(archive, "etc/passwd", tarfile.REGTYPE, 0o644, users)
        _add(archive, "etc/group", tarfile.REGTYPE, 0o644, b"root:x:0:\nwww:x:33:\n")
    return buffer.getvalue()


def context_of(case: Json) -> bytes:
    """What a client sends: the Dockerfile, and files as texts, base64, or a kind with its values, unless ignored."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        _add(archive, "Dockerfile", tarfile.REGTYPE, 0o644, _content(case["dockerfile"]))
        files = case.get("files", {})
        ignored = read_ignore_file(_content(files.get(".dockerignore", "")))
        for name, value in files.items():
            if ignored.excludes(name):
                continue
            kind, *rest = value if isinstance(value, list) else ["mode", 0o644, value]
            if kind == "mode":
                _add(archive, name, tarfile.REGTYPE, rest[0], _content(rest[1]))
            elif kind == "dir":
                _add(archive, name, tarfile.DIRTYPE, rest[0])
            elif kind == "fifo":
                _add(archive, name, tarfile.FIFOTYPE, 0o644)
            else:
                _add(archive, name, {"link": tarfile.SYMTYPE, "hard": tarfile.LNKTYPE}[kind], 0o777, link=rest[0])
    return buffer.getvalue()


def query_of(arguments: Sequence[str]) -> Mapping[str, str]:
    """Of ``POST /build``, from the options of the command line."""
    found: dict[str, str] = {}
    pairs: dict[str, dict[str, str]] = {"--build-arg": {}, "--label": {}}
    for name, value in zip(arguments[::2], arguments[1::2], strict=True):
        if name == "--target":
            found["target"] = value
        else:
            key, _, text = value.partition("=")
            pairs[name][key] = text
    return found | {"buildargs": json.dumps(pairs["--build-arg"]), "labels": json.dumps(pairs["--label"])}


def image_of(daemon: Daemon, digest: str) -> Json:
    """Files beside those of the base, configuration and history, as they are recorded."""
    manifest = json.loads(_blob(daemon, digest))
    config = json.loads(_blob(daemon, manifest["config"]["digest"]))
    files: dict[str, str] = {}
    for layer in manifest["layers"]:
        with tarfile.open(fileobj=io.BytesIO(_unpacked(_blob(daemon, layer["digest"])))) as archive:
            _apply(archive, files)
    history = [("" if each.get("empty_layer") else "+ ") + each["created_by"] for each in config["history"][1:]]
    run = {name: value for name, value in config["config"].items() if value} | {"author": config.get("author", "")}
    return {"files_made": files, "config": run, "history": history}


def plain(image: Json, base: Json) -> Json:
    """Without what the base has, and what is in every image."""
    files = {name: text for name, text in image["files_made"].items() if base["files_made"].get(name) != text}
    files = {name: text for name, text in files.items() if not (text.startswith("d") and name in base["files_made"])}
    common = {"author": "", "WorkingDir": "/", "Cmd": ["/bin/sh"], "Env": [f"PATH={DEFAULT_PATH}"]}
    config = {name: value for name, value in image["config"].items() if common.get(name) != value}
    return image | {"files_made": files, "config": config}


def _content(value: object) -> bytes:
    return base64.b64decode(value["base64"]) if isinstance(value, dict) else str(value).encode()


def _add(archive: tarfile.TarFile, name: str, kind: bytes, mode: int, content: bytes = b"", *, link: str = "") -> None:
    info = tarfile.TarInfo(name)
    info.type, info.mode, info.size, info.mtime, info.linkname = kind, mode, len(content), OLD, link
    archive.addfile(info, io.BytesIO(content))


def _apply(archive: tarfile.TarFile, files: dict[str, str]) -> None:
    """One layer over those before it."""
    for member in archive:
        path = f"/{member.name}"
        directory, _, name = path.rpartition("/")
        if name.startswith(".wh."):
            gone = directory if name == ".wh..wh..opq" else f"{directory}/{name[4:]}"
            for each in [one for one in files if one == gone or one.startswith(f"{gone}/")]:
                if each != gone or name != ".wh..wh..opq":
                    del files[each]
        else:
            same = files.get(f"/{member.linkname}", "") if member.islnk() else ""
            files[path] = f"{same} 'same as /{member.linkname}'" if same else " ".join(_facts(archive, member))


def _facts(archive: tarfile.TarFile, member: tarfile.TarInfo) -> Iterator[str]:
    yield f"{_KINDS.get(member.type, 'f')} {member.mode:o} {member.uid}:{member.gid}"
    if member.issym():
        yield repr(member.linkname)
    elif member.isreg() and (file := archive.extractfile(member)) is not None:
        content = file.read()
        short = len(content) < _LONGEST
        yield repr(content.decode("latin-1") if short else hashlib.sha256(content).hexdigest()[:12])
        if member.mtime in _OLD:
            yield "'old'"


def _unpacked(data: bytes) -> bytes:
    if data.startswith(b"\x1f\x8b"):
        return gzip.decompress(data)
    if data.startswith(b"\x28\xb5\x2f\xfd"):
        return zstandard.ZstdDecompressor().decompressobj().decompress(data)
    return data


def _blob(daemon: Daemon, digest: str) -> bytes:
    return (daemon.directory / "images" / "blobs" / "sha256" / digest.removeprefix("sha256:")).read_bytes()
