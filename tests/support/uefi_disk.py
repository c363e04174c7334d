"""A disk from which firmware boots a small system: a kernel, with busybox and the agent in its memory."""

from __future__ import annotations

import stat
import subprocess
from collections.abc import Sequence
from pathlib import Path

from isola.host.media.fat import fat
from isola.runtimes.qemu import kit
from isola.runtimes.qemu.initramfs import Entry, archive

SIZE = 48 << 20
_STUB = Path("/usr/lib/systemd/boot/efi/linuxx64.efi.stub")
"""Joins a kernel, its command line and its first file system to one program for firmware (systemd-boot-efi)."""
INIT = """\
#!/bin/busybox sh
export PATH=/bin
/bin/busybox --install -s /bin
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev
mkdir -p /dev/pts /sbin /etc /root; mount -t devpts devpts /dev/pts
ln -s /bin/busybox /sbin/poweroff
for module in $(cat /lib/modules/order /lib/modules/order.scsi); do insmod /lib/modules/$module 2>/dev/null; done
echo online > /sys/devices/system/memory/auto_online_blocks
hostname host-one
mkdir -p /tmp
echo root:x:0:0::/root:/bin/sh > /etc/passwd
setsid agent --service &
until ls -l /proc/$!/fd | grep -q vport; do sleep 0.1; done
{more}
echo "booted $(hostname) $(cat /sys/block/sda/size)"
trap 'reboot -f' HUP
while true; do
    if read -t 0.5 line; then echo "typed $line"; fi
done <>/dev/ttyS0
"""


def make_disk(path: Path, *, more: str = "") -> Path:
    """The disk at this path, whose system executes ``more`` before it says that it has booted."""
    supplied = kit.find()
    own = [
        Entry("init", stat.S_IFREG | 0o755, INIT.replace("{more}", more).encode()),
        Entry("bin", stat.S_IFDIR | 0o755),
        Entry("bin/busybox", stat.S_IFREG | 0o755, Path("/bin/busybox").read_bytes()),
        Entry("bin/agent", stat.S_IFREG | 0o755, supplied.agent.read_bytes()),
    ]
    sections = [
        (".osrel", b"ID=payload\n", 0x20000),
        (".cmdline", b"console=ttyS0 quiet panic=-1", 0x30000),
        (".linux", supplied.packed_kernel.read_bytes(), 0x2000000),
        (".initrd", supplied.initramfs.read_bytes() + archive(own), 0x4000000),
    ]
    disk = fat("PAYLOAD", {"EFI/BOOT/BOOTX64.EFI": _joined(path.parent, sections)}, size=SIZE)
    with path.open("wb") as file:
        file.truncate(SIZE)
        for piece in disk.pieces:
            file.seek(piece.offset)
            file.write(piece.data)
    return path


def _joined(directory: Path, sections: Sequence[tuple[str, bytes, int]]) -> bytes:
    options: list[str] = []
    for name, data, address in sections:
        (directory / f"section{name}").write_bytes(data)
        options += ["--add-section", f"{name}={directory}/section{name}"]
        options += ["--change-section-vma", f"{name}={address:#x}"]
    subprocess.run(["objcopy", *options, str(_STUB), str(directory / "joined.efi")], check=True)
    for name, _, _ in sections:
        (directory / f"section{name}").unlink()
    return (directory / "joined.efi").read_bytes()
