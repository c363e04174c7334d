"""Hostile images, uploaded as by a client."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import stat
import tarfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
import zstandard
from audit import settled
from daemon import ApiError, Daemon

METADATA = b"architecture: x86_64\ncreation_date: 1700000000\nproperties: {os: Evil, description: hostile}\n"
WITNESS = Path("/var/tmp/isola-hostile-witness")


def image(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    """A unified tarball with a valid root and these members."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for info, data in (plain("metadata.yaml", METADATA), directory("rootfs"), directory("rootfs/dev"), *members):
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def plain(name: str, data: bytes = b"x") -> tuple[tarfile.TarInfo, bytes]:
    return tarfile.TarInfo(name), data


def special(
    name: str, kind: bytes, target: str = "", numbers: tuple[int, int] = (8, 0)
) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    info.devmajor, info.devminor = numbers
    return info, b""


def directory(name: str) -> tuple[tarfile.TarInfo, bytes]:
    info, data = special(name, tarfile.DIRTYPE)
    info.mode = 0o755
    return info, data


def upload(daemon: Daemon, data: bytes) -> str:
    """Send it; returns the fingerprint, or raises ApiError or AssertionError with the daemon's message."""
    headers = {"Content-Type": "application/octet-stream"}
    return str(daemon.run("POST", "/1.0/images", data, headers=headers)["metadata"]["fingerprint"])


def launch_and_look(daemon: Daemon, fingerprint: str) -> dict[str, int]:
    """Create an instance of it; returns the modes of the files in its root on the host."""
    source = {"type": "image", "fingerprint": fingerprint}
    daemon.run("POST", "/1.0/instances", {"name": "evil", "source": source})
    layers = daemon.directory / "pools" / "default" / "layers"
    found = {str(path): os.lstat(path).st_mode for layer in layers.iterdir() for path in (layer, *layer.rglob("*"))}
    daemon.run("DELETE", "/1.0/instances/evil")
    daemon.run("DELETE", f"/1.0/images/{fingerprint}")
    return found


@pytest.mark.parametrize(
    "members",
    [
        [plain("rootfs/../../../../../../../../var/tmp/isola-hostile-witness")],
        [plain("rootfs//var/../../../../../../var/tmp/isola-hostile-witness")],
        [special("rootfs/out", tarfile.SYMTYPE, "/var/tmp"), plain("rootfs/out/isola-hostile-witness")],
        [special("rootfs/out", tarfile.SYMTYPE, "../" * 20 + "var/tmp"), plain("rootfs/out/isola-hostile-witness")],
        [special("rootfs/hard", tarfile.LNKTYPE, "/etc/shadow")],
        [special("rootfs/hard", tarfile.LNKTYPE, "rootfs/../../../../../../../etc/shadow")],
        [plain("/var/tmp/isola-hostile-witness")],
    ],
    ids=["dotdot", "mixed", "absolute-link", "relative-link", "hard-link", "hard-link-dotdot", "absolute"],
)
def test_attempts_to_escape_are_refused_or_contained(
    daemon: Daemon, members: list[tuple[tarfile.TarInfo, bytes]]
) -> None:
    shadow = Path("/etc/shadow").stat()
    try:
        fingerprint = upload(daemon, image(*members))
        launch_and_look(daemon, fingerprint)
    except (AssertionError, ApiError) as error:
        assert "Internal error" not in str(error)
    finally:
        if "evil" in {path.rpartition("/")[2] for path in daemon.get("/1.0/instances")}:
            daemon.run("DELETE", "/1.0/instances/evil")
        for path in daemon.get("/1.0/images"):
            if daemon.get(path)["properties"].get("os") == "Evil":
                daemon.run("DELETE", path)
    assert not WITNESS.exists()
    assert Path("/etc/shadow").stat().st_nlink == shadow.st_nlink
    assert not settled(daemon)


def test_device_nodes_do_not_reach_the_host(daemon: Daemon) -> None:
    nodes = [special("rootfs/dev/disk", tarfile.BLKTYPE), special("rootfs/dev/mem", tarfile.CHRTYPE, numbers=(1, 1))]
    found = launch_and_look(daemon, upload(daemon, image(*nodes)))
    assert found and not [path for path, mode in found.items() if stat.S_ISBLK(mode) or stat.S_ISCHR(mode)]


def test_a_bomb_is_refused_and_leaves_nothing(daemon: Daemon) -> None:
    """Four GiB of zeros in less than a MiB."""

    class Zeros(io.RawIOBase):
        def readable(self) -> bool:
            return True

        def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]
            buffer[:] = bytes(len(buffer))
            return len(buffer)

    packed = io.BytesIO()
    compressor = zstandard.ZstdCompressor(level=1)
    with (
        compressor.stream_writer(packed, closefd=False) as out,
        tarfile.open(fileobj=out, mode="w|") as archive,
    ):
        for info, data in (plain("metadata.yaml", METADATA), directory("rootfs")):
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
        bomb = tarfile.TarInfo("rootfs/zeros")
        bomb.size = 4 * 2**30
        archive.addfile(bomb, Zeros())
    before = daemon.get("/1.0/images")
    with pytest.raises((AssertionError, ApiError)) as caught:
        upload(daemon, packed.getvalue())
    assert "Internal error" not in str(caught.value)
    assert daemon.get("/1.0/images") == before
    assert not settled(daemon)


@pytest.mark.parametrize(
    "data",
    [b"", b"not an archive", b"\x1f\x8b\x08" + os.urandom(2000), image()[:200], image(plain("rootfs/x"))[:-40]],
    ids=["empty", "text", "garbage", "cut", "cut-late"],
)
def test_other_files_are_refused_with_a_reason(daemon: Daemon, data: bytes) -> None:
    with pytest.raises((AssertionError, ApiError)) as caught:
        upload(daemon, data)
    assert "Internal error" not in str(caught.value)
    assert not settled(daemon)


# --- images of OCI and Docker -----------------------------------------------------------------------------------


def saved(layer: bytes, *, lie: bool = False, kind: str = "gzip") -> bytes:
    """An image of one layer as ``docker save`` writes it."""
    diff_id = hashlib.sha256(b"" if lie else layer).hexdigest()
    rootfs = {"type": "layers", "diff_ids": [f"sha256:{diff_id}"]}
    config = json.dumps({"architecture": "amd64", "os": "linux", "config": {"Cmd": ["/x"]}, "rootfs": rootfs}).encode()
    blob = gzip.compress(layer, 9) if kind == "gzip" else zstandard.ZstdCompressor(level=19).compress(layer)
    names = [{"Config": "c.json", "RepoTags": ["hostile:1"], "Layers": ["l/layer.tar"]}]
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        members = {
            "0" * 64 + "/x": b"",
            "l/layer.tar": blob,
            "c.json": config,
            "manifest.json": json.dumps(names).encode(),
        }
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def tree(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for info, data in members:
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def refused(daemon: Daemon, data: bytes) -> str:
    """The reason why no instance is made of an image; nothing is left of either."""
    daemon.run("POST", "/1.0/images", data, headers={"Content-Type": "application/octet-stream"})
    alias = "docker.io/library/hostile:1"
    with pytest.raises((ApiError, AssertionError)) as reason:
        daemon.run("POST", "/1.0/instances", {"name": "evil", "source": {"type": "image", "alias": alias}})
    target = daemon.get(f"/1.0/images/aliases/{quote(alias, safe='')}")["target"]
    daemon.run("DELETE", f"/1.0/images/{target}")
    assert not settled(daemon)
    return str(reason.value)


@pytest.fixture
def small_limits(daemon: Daemon) -> Iterator[None]:
    limits = {"images.limits.bytes": "64MiB", "images.limits.entries": "1000"}
    daemon.request("PATCH", "/1.0", {"config": limits})
    yield
    daemon.request("PATCH", "/1.0", {"config": dict.fromkeys(limits, "")})


@pytest.mark.parametrize("kind", ["gzip", "zstd"])
def test_a_layer_of_zeros_is_refused_at_its_limit(daemon: Daemon, small_limits: None, kind: str) -> None:
    zeros = tree(plain("zeros", bytes(100 << 20)))
    assert "too large when unpacked" in refused(daemon, saved(zeros, kind=kind))


def test_a_layer_of_too_many_files_is_refused(daemon: Daemon, small_limits: None) -> None:
    assert "too many entries" in refused(daemon, saved(tree(*(plain(f"d/{number}") for number in range(2000)))))


def test_a_configuration_that_lies_about_its_layer_is_refused(daemon: Daemon) -> None:
    assert "does not match the image's configuration" in refused(daemon, saved(tree(plain("x")), lie=True))


def test_a_layer_that_leads_out_is_refused(daemon: Daemon) -> None:
    out = tree(special("link", tarfile.SYMTYPE, "/var/tmp"), plain(f"link/{WITNESS.name}"))
    assert "leads out" in refused(daemon, saved(out))
    assert not WITNESS.exists()
