"""What makes a Debian system one that boots as a virtual machine: packages, files, and the layout of its disk. Pure.

Firmware starts shim, which Microsoft has signed, then Debian's signed grub and kernel: so secure boot works. The root
is the last partition, and grows with the disk at each boot.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from isola.host.media.fat import fat
from isola.host.media.gpt import ALIGNMENT, ESP, ROOTS, Guid, Partition, guid_of, partition_table
from isola.host.media.pieces import Piece, all_moved, rounded
from isola.model import agent_service

ARCHITECTURE = "x86_64"
"""The only one with a layout; others have firmware and boot programs of other names."""
PACKAGES = (
    "linux-image-cloud-amd64", "grub-efi-amd64", "grub-efi-amd64-signed", "shim-signed", "e2fsprogs",
    "systemd-timesyncd", "zstd",
)  # fmt: skip
_REPART = "systemd-repart"
_SHARED_PACKAGE = frozenset({"bookworm"})
"""Releases in which the package ``systemd`` has that program."""
_ESP_SIZE = 64 << 20
_SPARE, _LEAST, _STEP = 384 << 20, 1536 << 20, 256 << 20
# An emulated timer may fail the kernel's check of its wiring on a busy host, which ends the boot.
_KERNEL = "root=UUID={root} ro console=tty0 console=ttyS0 net.ifnames=0 no_timer_check"
_BOOT_FILES = {
    "usr/lib/shim/shimx64.efi.signed": "EFI/BOOT/BOOTX64.EFI",
    "usr/lib/shim/mmx64.efi.signed": "EFI/BOOT/mmx64.efi",
    "usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed": "EFI/BOOT/grubx64.efi",
}
BOOT_FILES = tuple(_BOOT_FILES)
"""Paths in the root of what the EFI system partition has."""


def packages(suite: str) -> tuple[str, ...]:
    return PACKAGES if suite in _SHARED_PACKAGE else (*PACKAGES, _REPART)


@dataclass(frozen=True, slots=True)
class Layout:
    """The disk of an image; identifiers follow from ``seed``, so the same image has the same ones."""

    seed: str

    def id(self, name: str) -> Guid:
        return guid_of(f"isola {self.seed} {name}")

    @property
    def root(self) -> Guid:
        """Of the root's file system."""
        return self.id("root file system")

    @property
    def esp_serial(self) -> int:
        """Of the file system of the EFI system partition."""
        return self.id("system partition's file system").int & 0xFFFFFFFF

    @property
    def root_offset(self) -> int:
        return ALIGNMENT + _ESP_SIZE

    def size(self, used: int) -> int:
        """Of a disk for a root with so many bytes."""
        return rounded(max(_LEAST, used + used // 8 + _SPARE), _STEP)

    def root_size(self, size: int) -> int:
        return size - self.root_offset - ALIGNMENT

    def files(self) -> Mapping[str, str]:
        """Path -> text, of the root."""
        serial = f"{self.esp_serial >> 16:04X}-{self.esp_serial & 0xFFFF:04X}"
        kernel = _KERNEL.format(root=self.root)
        added = kernel.partition(" ro ")[2]
        return {
            **agent_service.FILES,
            "etc/fstab": f"""\
UUID={self.root} / ext4 errors=remount-ro,x-systemd.growfs 0 1
UUID={serial} /boot/efi vfat umask=0077,noauto,x-systemd.automount,x-systemd.idle-timeout=1min 0 0
""",
            # On a slow machine systemd may have given up waiting for the port when it appears.
            "etc/udev/rules.d/91-isola-console.rules": """\
SUBSYSTEM=="tty", KERNEL=="ttyS0", ENV{SYSTEMD_WANTS}+="serial-getty@ttyS0.service"
""",
            "etc/repart.d/50-isola-root.conf": "# Grows with the disk.\n[Partition]\nType=root\n",
            "etc/default/grub.d/50-isola.cfg": f"""\
GRUB_TIMEOUT=0
GRUB_CMDLINE_LINUX_DEFAULT=quiet
GRUB_CMDLINE_LINUX="{added}"
GRUB_TERMINAL=console
GRUB_DISABLE_OS_PROBER=true
""",
            # Until the first update of the kernel, which has grub write its own.
            "boot/grub/grub.cfg": f"""\
linux /vmlinuz {kernel} quiet
initrd /initrd.img
boot
""",
        }

    def setup(self) -> str:
        """Commands of the setup script, with the root in ``$root``."""
        return """\
mkdir -p "$root/boot/efi"
chroot "$root" systemctl enable -q systemd-timesyncd.service fstrim.timer
echo "grub-efi-amd64 grub2/force_efi_extra_removable boolean true" | chroot "$root" debconf-set-selections
rm -f "$root"/boot/*.dpkg-bak "$root"/boot/*.new "$root"/vmlinuz.old "$root"/initrd.img.old
"""

    def pieces(self, size: int, boot: Mapping[str, bytes], modified: datetime) -> tuple[Piece, ...]:
        """All of the disk but the root's file system. ``boot``: the contents of ``BOOT_FILES``."""
        system = fat(
            "ESP",
            {_BOOT_FILES[path]: data for path, data in boot.items()} | {"EFI/debian/grub.cfg": self._stub().encode()},
            size=_ESP_SIZE,
            serial=self.esp_serial,
            modified=modified,
        )
        partitions = (
            Partition(ESP, self.id("system partition"), "ESP", ALIGNMENT, _ESP_SIZE),
            Partition(ROOTS[ARCHITECTURE], self.id("root"), "root", self.root_offset, self.root_size(size)),
        )
        table = partition_table(self.id("disk"), partitions, size)
        return (*table.pieces, *all_moved(system.pieces, ALIGNMENT))

    def _stub(self) -> str:
        """What grub reads first, beside itself."""
        return f"search.fs_uuid {self.root} root\nset prefix=($root)/boot/grub\nconfigfile $prefix/grub.cfg\n"

    def make_root(self, disk: str, tree: str, size: int) -> list[str]:
        """argv that writes the file system of the root into the file ``disk``."""
        options = f"offset={self.root_offset},hash_seed={self.id('directories')},nodiscard"
        return [
            "mkfs.ext4", "-q", "-F", "-L", "root", "-U", str(self.root), "-d", tree,
            "-E", f"{options},lazy_itable_init=1,lazy_journal_init=1",
            "-m", "1", disk, f"{self.root_size(size) >> 10}k",
        ]  # fmt: skip
