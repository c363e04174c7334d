"""Plain QEMU with the machines of microVMs and unikernels: no daemon, no confinement, no agent."""

import os
import shutil
import stat
import subprocess
import tarfile
from collections.abc import Iterator

from bench import machines
from bench.shell import Trouble, run
from bench.subject import Subject
from isola.host.linux import linux_host
from isola.runtimes.qemu import engines, kit, probing
from isola.runtimes.qemu.file_server import firmware
from isola.runtimes.qemu.initramfs import Entry, archive
from isola.runtimes.qemu.machine import Machine, trial

_READY = "wall-is-ready"
_INIT = f"#!/bin/busybox sh\n/bin/busybox mount -t devtmpfs none /dev\necho {_READY}\nexec /bin/busybox sh\n"


_DIRECT = (
    "-nodefaults", "-no-reboot", "-display", "none", "-vga", "none", "-machine", "q35,graphics=off",
    "-accel", "tcg,thread=multi,tb-size=32", "-cpu", "max", "-smp", "1", "-m", "128M", "-serial", "stdio",
)  # fmt: skip
"""The same machine as that of a unikernel; a virtual CPU more would cost memory."""


class Qemu(Subject):
    """Its root is its initramfs, so it is not asked to write to a disk."""

    title = "qemu"

    def start(self) -> None:
        """Write the initramfs."""
        self._guests: dict[str, subprocess.Popen[bytes]] = {}
        host = linux_host()
        self._kit, found = kit.find(), engines.find(host)
        initramfs = self.directory / "initramfs"
        initramfs.write_bytes(archive(self._entries()))
        # Guests are emulated here as there: what KVM is worth is not a matter of what starts QEMU.
        machine = Machine("bench", self._kit.kernel, initramfs, "tcg", 512 << 20, clock=probing.clock(host))
        self._argv = [*found.qemu, *firmware(found), *trial(machine), "-initrd", str(initramfs)]
        self._program = list(found.qemu)
        self._unikernel = machines.write("unikernel", self.directory / "unikernel")
        self._direct = [*found.qemu, *firmware(found), *_DIRECT, "-kernel", str(self._unikernel), "-append", "hello"]

    def _entries(self) -> Iterator[Entry]:
        with tarfile.open(self.images.rootfs("tiny")) as tar:
            member = next(each for each in tar if each.name.lstrip("./") == "bin/busybox")
            content = tar.extractfile(member)
            assert content is not None
            busybox = content.read()
        for name in ("bin", "dev"):
            yield Entry(name, stat.S_IFDIR | 0o755)
        yield Entry("bin/busybox", stat.S_IFREG | 0o755, busybox)
        yield Entry("dev/console", stat.S_IFCHR | 0o600, device=(5, 1))
        yield Entry("init", stat.S_IFREG | 0o755, _INIT.encode())

    def version(self) -> str:
        """As it says itself."""
        return run([*self._program, "--version"]).splitlines()[0]

    def make_wall(self, wall: str, name: str) -> None:
        """Nothing is needed."""

    def start_microvm(self, name: str) -> None:
        """Until its first program has written a line."""
        self._start(name, self._argv, _READY)

    def start_unikernel(self, name: str) -> None:
        """Until it has written one."""
        self._start(name, self._direct, machines.SAYS["unikernel"])

    def _start(self, name: str, argv: list[str], says: str) -> None:
        guest = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self._guests[name] = guest
        _until(guest, says)

    def inside(self, name: str, *argv: str) -> str:
        """By the console."""
        guest = self._guests[name]
        assert guest.stdin is not None
        guest.stdin.write(f"{' '.join(argv)}; echo end-$((1+1))\n".encode())
        guest.stdin.flush()
        return _until(guest, "end-2")

    def end_wall(self, name: str) -> None:
        """At once."""
        if (guest := self._guests.pop(name, None)) is not None:
            guest.kill()
            guest.wait()

    def stop(self) -> None:
        """All of them."""
        for name in list(self._guests):
            self.end_wall(name)
        shutil.rmtree(self.directory, ignore_errors=True)


def _until(guest: "subprocess.Popen[bytes]", text: str) -> str:
    assert guest.stdout is not None
    seen = b""
    while text.encode() not in seen:
        block = os.read(guest.stdout.fileno(), 65536)
        if not block:
            raise Trouble(f"the guest ended: {seen[-500:]!r}")
        seen += block
    return seen.decode(errors="replace")


SUBJECT = Qemu
