"""Linux as a unikernel: the kernel of the guests' kit, with busybox's web server as its only program.

Its page ``/well`` is there until it was asked for ten times.
"""

from __future__ import annotations

import stat
import struct
from collections.abc import Iterator
from pathlib import Path

from isola.host.linux import linux_host
from isola.runtimes.qemu import kit, probing
from isola.runtimes.qemu.initramfs import Entry, archive

_LAST = "virtio_net.ko"
_TIMES = 10
_INIT = """#!/bin/busybox sh
/bin/busybox mount -t proc none /proc
{modules}
for word in $(/bin/busybox cat /proc/cmdline); do case $word in web=*) at=${{word#web=}} ;; esac; done
/bin/busybox ip link set eth0 up
/bin/busybox ip addr add $at dev eth0
echo "serves at $at"
/bin/busybox httpd -f -vv -p 80 -h /www 2>&1 | while read -r line; do
    case $line in *url:*) asked=x$asked ;; esac
    [ "$asked" != "{times}" ] || /bin/busybox rm -f /www/well
done
"""


def arguments() -> str:
    """Of the kernel: its address, and what it cannot measure in an emulated machine."""
    clock = probing.clock(linux_host())
    busy = f"no_timer_check tsc_early_khz={clock} lpj={clock * 4}"
    return f"console=ttyS0 quiet panic=-1 net.ifnames=0 {busy} web={{address}}/{{prefix}}"


def web_server(place: Path) -> tuple[Path, Path]:
    """The kernel, and its initial file system, written into ``place``."""
    found, initrd = kit.find(), place / "initrd"
    initrd.write_bytes(archive(_entries(found.initramfs.read_bytes())))
    return found.kernel, initrd


def _entries(kit_archive: bytes) -> Iterator[Entry]:
    files = dict(_members(kit_archive))
    order = files["lib/modules/order"].decode().split()
    loaded = [f"lib/modules/{name}" for name in order[: order.index(_LAST) + 1]]
    for name in ("bin", "dev", "lib", "lib/modules", "proc", "www"):
        yield Entry(name, stat.S_IFDIR | 0o755)
    yield Entry("bin/busybox", stat.S_IFREG | 0o755, Path("/bin/busybox").read_bytes())
    yield Entry("dev/console", stat.S_IFCHR | 0o600, device=(5, 1))
    init = _INIT.format(modules="\n".join(f"/bin/busybox insmod /{path}" for path in loaded), times="x" * _TIMES)
    yield Entry("init", stat.S_IFREG | 0o755, init.encode())
    yield Entry("www/well", stat.S_IFREG | 0o644, b"well\n")
    for path in loaded:
        yield Entry(path, stat.S_IFREG | 0o644, files[path])


def _members(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Names and content of what an archive of the kit contains."""
    at = 0
    while True:
        size, length = (int(data[at + start : at + start + 8], 16) for start in (54, 94))
        name = struct.unpack_from(f"{length - 1}s", data, at + 110)[0].decode()
        at += -(-(110 + length) // 4) * 4
        if name == "TRAILER!!!":
            return
        yield name, data[at : at + size]
        at += -(-size // 4) * 4
