"""A small disk for a test: a file system on a loop device, for power failures and full disks."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MIB = 1 << 20


def file_systems() -> list[str]:
    """File systems that can be created on this machine."""
    return [kind for kind in ("ext4", "btrfs") if shutil.which(f"mkfs.{kind}", path="/usr/sbin:/sbin:/usr/bin:/bin")]


class Disk:
    """A mounted file system. ``image`` contains only data that was written back, as after a power failure."""

    def __init__(self, image: Path, mount: Path) -> None:
        self.image = image
        self.mount = mount

    @contextmanager
    def after_power_failure(self) -> Iterator[Path]:
        """The state after a power failure at this moment: a copy of the device, mounted elsewhere."""
        with tempfile.TemporaryDirectory(prefix="isola-copy-", dir="/var/tmp") as directory:
            copy = Path(directory) / "image"
            _run("cp", "--sparse=always", str(self.image), str(copy))
            with _mounted(copy, Path(directory) / "mount") as mount:
                yield mount


@contextmanager
def disk(
    kind: str = "ext4", *, size: int = 96 * MIB, options: tuple[str, ...] = (), mount_options: str = "defaults"
) -> Iterator[Disk]:
    """A new disk, removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="isola-disk-", dir="/var/tmp") as directory:
        Path(directory).chmod(0o711)  # instances must be able to search it
        image = Path(directory) / "image"
        with image.open("wb") as file:
            file.truncate(size)
        _run(f"mkfs.{kind}", "-q", *options, str(image))
        with _mounted(image, Path(directory) / "mount", mount_options) as mount:
            yield Disk(image, mount)


@contextmanager
def _mounted(image: Path, mount: Path, options: str = "defaults") -> Iterator[Path]:
    # Direct I/O: unwritten data of the file system is not in the page cache of the file below.
    device = _run("losetup", "--find", "--show", "--direct-io=on", str(image)).strip()
    try:
        mount.mkdir(mode=0o755)
        _run("mount", "-o", options, device, str(mount))
        try:
            mount.chmod(0o755)
            yield mount
        finally:
            _run("umount", str(mount))
    finally:
        _run("losetup", "--detach", device)


def _run(*argv: str) -> str:
    done = subprocess.run(argv, check=False, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(argv)}: {done.stderr}"
    return done.stdout
