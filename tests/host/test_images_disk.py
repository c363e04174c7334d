"""The disk of a virtual machine, written around a small root and looked at by the programs of others."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from fat_reader import read

from isola.errors import StorageFull
from isola.events import Events
from isola.host import kernel
from isola.host.linux import linux_host
from isola.images.debian_build import Content, DebianBuild
from isola.images.debian_recipe import Recipe
from isola.images.disk_recipe import BOOT_FILES, Layout
from isola.operations import Operation, Operations

MADE = datetime(2026, 11, 22, tzinfo=UTC)
LAYOUT = Layout("a test")
CONTENT = Content(Recipe("bookworm", "amd64", format="directory"), {}, "", MADE)


@pytest.fixture
def place() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="isola-disk-") as directory:
        yield Path(directory)


@pytest.fixture
def tree(place: Path) -> Path:
    root = place / "root"
    for path in BOOT_FILES:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(path.encode() * 1000)
    (root / "etc").mkdir()
    (root / "etc/machine-id").touch()
    (root / "etc/shadow").write_text("root:*")
    (root / "etc/shadow").chmod(0o640)
    (root / "vmlinuz").symlink_to("boot/vmlinuz-1")
    return root


async def written(place: Path, tree: Path) -> Path:
    host = linux_host()
    operations = Operations(Events(host.clock.now), now=host.clock.now, new_id=host.clock.uuid)
    found: list[Path] = []

    async def work(op: Operation) -> None:
        found.append(await DebianBuild(host, op, CONTENT, place).write_disk(LAYOUT, tree))

    await operations.finish(operations.start("Write", work))
    await operations.close()
    return found[0]


def said(*argv: str | Path) -> str:
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout


async def test_the_disk_has_a_system_partition_and_a_sound_root(place: Path, tree: Path) -> None:
    disk = await written(place, tree)
    assert disk.stat().st_blocks * 512 < disk.stat().st_size // 4
    kinds = said("blkid", "-p", "-o", "export", disk)
    assert "PTTYPE=gpt" in kinds and f"PTUUID={LAYOUT.id('disk')}" in kinds
    root = said("blkid", "-p", "-o", "export", "-O", str(LAYOUT.root_offset), disk)
    assert "TYPE=ext4" in root and f"UUID={LAYOUT.root}" in root
    said("e2fsck", "-fn", f"{disk}?offset={LAYOUT.root_offset}")
    listed = said("debugfs", "-R", "ls -l /etc", f"{disk}?offset={LAYOUT.root_offset}")
    assert "100640" in listed and "machine-id" in listed
    with disk.open("rb") as file:
        file.seek(1 << 20)
        found = read(file.read(64 << 20))
    assert found["EFI/BOOT/BOOTX64.EFI"] == b"usr/lib/shim/shimx64.efi.signed" * 1000
    assert str(LAYOUT.root).encode() in found["EFI/debian/grub.cfg"]


async def test_what_starts_the_machine_is_the_same_each_time(place: Path, tree: Path) -> None:
    """The file system of the root also has the times at which its files were made."""

    def beginning(disk: Path) -> bytes:
        with disk.open("rb") as file:
            return file.read(LAYOUT.root_offset)

    assert beginning(await written(place, tree)) == beginning(await written(place, tree))


@pytest.mark.parametrize("room", [4 << 20, 40 << 20], ids=["for nothing", "not for the root"])
async def test_a_full_disk_is_told(place: Path, tree: Path, room: int) -> None:
    (tree / "large").write_bytes(os.urandom(room))
    small, mounts = place / "small", linux_host().mounts
    small.mkdir()
    kernel.mount("tmpfs", small, "tmpfs", f"size={room}")
    try:
        with pytest.raises(StorageFull):
            await written(small, tree)
    finally:
        await mounts.unmount(small)


def test_the_root_grows_and_boots_by_its_identifier() -> None:
    files = LAYOUT.files()
    assert f"UUID={LAYOUT.root} / ext4" in files["etc/fstab"] and "x-systemd.growfs" in files["etc/fstab"]
    assert "Type=root" in files["etc/repart.d/50-isola-root.conf"]
    assert "serial-getty@ttyS0.service" in files["etc/udev/rules.d/91-isola-console.rules"]
    assert f"root=UUID={LAYOUT.root}" in files["boot/grub/grub.cfg"]
    assert "console=ttyS0" in files["boot/grub/grub.cfg"]
    assert "etc/systemd/system/isola-agent.service" in files
