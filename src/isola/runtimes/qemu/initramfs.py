"""``python initramfs.py MODULES AGENT OUTPUT`` writes the first file system of guests: agent and drivers.

MODULES is a kernel's directory ``lib/modules/RELEASE``, AGENT a static program. The archive is a function of their
bytes alone: entries are sorted, times are 0, inode numbers count up, the owner is root. It is not compressed: the
kernel would spend more time on unpacking than the host spends on reading it.

Layout: ``/init`` is the agent, ``/lib/modules/*.ko`` the drivers, ``/lib/modules/order`` names those that are always
loaded, one a line, each after what it needs, and ``/lib/modules/order.NAME`` those of a group on demand.

Depends on nothing else in the package, so that the installation runs it with the interpreter of the system.
"""

from __future__ import annotations

import lzma
import re
import stat
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

ALWAYS = (
    "virtio_mmio",
    "virtio_pci",
    "virtio_console",
    "virtio_blk",
    "virtio_net",
    "virtio_rng",
    "virtiofs",
    "overlay",
    "virtio_balloon",
    "virtio_mem",
    "isofs",
)
"""Drivers of a guest's root, network, disks, memory, entropy and channel to its agent; they load in 0.2 s."""
GROUPS = {
    "vsock": ("vmw_vsock_virtio_transport",),
    "erofs": ("erofs",),
    "squashfs": ("squashfs",),
    "scsi": ("virtio_scsi", "sd_mod", "sr_mod"),
}
"""Drivers that a guest loads when its plan names the group."""

_DIRECTORIES = ("dev", "lib", "lib/modules", "proc", "root", "run", "sys", "tmp")
_SUFFIXES = (".ko", ".ko.xz")
_WORD = 4


@dataclass(frozen=True, slots=True)
class Entry:
    """A file, directory (no content) or character device of the archive; ``device`` is its major and minor number."""

    path: str
    mode: int
    content: bytes = b""
    device: tuple[int, int] = (0, 0)


def archive(entries: Iterable[Entry]) -> bytes:
    """The entries as a cpio archive of the "newc" kind, sorted by path: directories before their content."""
    ordered = sorted(entries, key=lambda entry: entry.path.split("/"))
    return b"".join(_member(number, entry) for number, entry in enumerate([*ordered, Entry("TRAILER!!!", 0)], start=1))


def _member(inode: int, entry: Entry) -> bytes:
    name = entry.path.encode() + b"\0"
    links = 2 if stat.S_ISDIR(entry.mode) else 1
    # inode, mode, uid, gid, links, mtime, size, device of the file system (2), device (2), size of the name, checksum
    fields = (inode, entry.mode, 0, 0, links, 0, len(entry.content), 0, 0, *entry.device, len(name), 0)
    head = b"070701" + b"".join(b"%08x" % field for field in fields) + name
    return _padded(head) + _padded(entry.content)


def _padded(data: bytes) -> bytes:
    return data + b"\0" * (-len(data) % _WORD)


@dataclass(frozen=True, slots=True)
class Module:
    """A driver of the kernel, with the names of those that have to be loaded before it."""

    name: str
    content: bytes
    needs: tuple[str, ...]


def order(wanted: Iterable[str], modules: Mapping[str, Module]) -> tuple[str, ...]:
    """The wanted modules and all that they need, each after what it needs; without those that ``modules`` lacks.

    A kernel has no file of what is built into it.
    """
    visited: set[str] = set()
    listed: list[str] = []

    def visit(name: str) -> None:
        if name not in modules or name in visited:
            return
        visited.add(name)
        for need in modules[name].needs:
            visit(need)
        listed.append(name)

    for name in wanted:
        visit(name)
    return tuple(listed)


def entries(agent: bytes, modules: Mapping[str, Module]) -> Iterator[Entry]:
    """What the archive contains; ``modules`` may have more modules than are wanted."""
    yield Entry("init", stat.S_IFREG | 0o755, agent)
    for directory in _DIRECTORIES:
        yield Entry(directory, stat.S_IFDIR | 0o755)
    # The kernel opens the console for /init before that can mount anything.
    yield Entry("dev/console", stat.S_IFCHR | 0o600, device=(5, 1))
    yield Entry("dev/null", stat.S_IFCHR | 0o666, device=(1, 3))
    lists = {"order": order(ALWAYS, modules)}
    lists |= {f"order.{group}": order(names, modules) for group, names in GROUPS.items()}
    for name, listed in lists.items():
        yield Entry(f"lib/modules/{name}", stat.S_IFREG | 0o644, "".join(f"{each}.ko\n" for each in listed).encode())
    for each in {name for listed in lists.values() for name in listed}:
        yield Entry(f"lib/modules/{each}.ko", stat.S_IFREG | 0o644, modules[each].content)


def read_modules(directory: Path, wanted: Iterable[str]) -> dict[str, Module]:
    """The wanted modules and all that they need, from a kernel's directory ``lib/modules/RELEASE``."""
    files = {_name(path.name): path for path in (directory / "kernel").rglob("*.ko*") if path.name.endswith(_SUFFIXES)}
    found: dict[str, Module] = {}
    waiting = list(wanted)
    while waiting:
        name = waiting.pop()
        if name in found or name not in files:
            continue
        content = files[name].read_bytes()
        if files[name].name.endswith(".xz"):
            content = lzma.decompress(content)
        found[name] = Module(name, content, needs(content))
        waiting.extend(found[name].needs)
    return found


def needs(content: bytes) -> tuple[str, ...]:
    """What a module says in its section ``.modinfo`` that it needs; first what its symbols do not tell."""
    soft = [text.decode() for line in re.findall(rb"\0softdep=pre:([^\0]*)\0", content) for text in line.split()]
    hard = [
        text.decode() for line in re.findall(rb"\0depends=([^\0]*)\0", content) for text in line.split(b",") if text
    ]
    return tuple(dict.fromkeys(_name(name) for name in [*soft, *hard] if name != "post:"))


def _name(file: str) -> str:
    """The kernel takes both signs for the same."""
    return file.split(".", 1)[0].replace("-", "_")


def write(modules: Path, agent: Path, output: Path) -> None:
    """Make the archive from a kernel's directory and the agent."""
    wanted = [*ALWAYS, *(name for names in GROUPS.values() for name in names)]
    output.write_bytes(archive(entries(agent.read_bytes(), read_modules(modules, wanted))))


if __name__ == "__main__":
    write(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]))
