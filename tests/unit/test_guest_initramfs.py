"""The first file system of guests: bytes of the archive, order of the drivers, the same bytes from the same input."""

from __future__ import annotations

import lzma
import stat
from pathlib import Path

import pytest

from isola.runtimes.qemu import initramfs
from isola.runtimes.qemu.initramfs import Entry, Module, archive, needs, order


def members(data: bytes) -> dict[str, tuple[list[int], bytes]]:
    """What a cpio archive of the kind "newc" contains: 13 numbers and the content, by name."""
    found: dict[str, tuple[list[int], bytes]] = {}
    at = 0
    while True:
        assert data[at : at + 6] == b"070701"
        fields = [int(data[at + 6 + 8 * i : at + 14 + 8 * i], 16) for i in range(13)]
        name = data[at + 110 : at + 110 + fields[11] - 1].decode()
        at += -(-(110 + fields[11]) // 4) * 4
        if name == "TRAILER!!!":
            assert at == len(data)
            return found
        found[name] = fields, data[at : at + fields[6]]
        at += -(-fields[6] // 4) * 4


def test_a_file_has_the_bytes_that_the_kernel_documents() -> None:
    data = archive([Entry("init", stat.S_IFREG | 0o755, b"hello")])
    fields = (
        "00000001 000081ed 00000000 00000000 00000001 00000000 00000005 00000000 00000000 00000000 00000000 00000005"
    )
    head = b"070701" + fields.replace(" ", "").encode() + b"00000000" + b"init\0"
    assert data.startswith(head + b"\0" + b"hello\0\0\0" + b"070701")
    assert len(data) % 4 == 0


def test_entries_are_sorted_numbered_and_without_times() -> None:
    entries = [
        Entry("lib/modules", stat.S_IFDIR | 0o755),
        Entry("dev/console", stat.S_IFCHR | 0o600, device=(5, 1)),
        Entry("lib", stat.S_IFDIR | 0o755),
        Entry("dev", stat.S_IFDIR | 0o755),
    ]
    found = members(archive(entries))
    assert list(found) == ["dev", "dev/console", "lib", "lib/modules"]
    assert [fields[0] for fields, _ in found.values()] == [1, 2, 3, 4]
    assert {fields[5] for fields, _ in found.values()} == {0}
    assert found["dev/console"][0][9:11] == [5, 1]
    assert archive(entries) == archive(reversed(entries))


def module(name: str, *wanted: str) -> Module:
    return Module(name, name.encode(), wanted)


MODULES = {
    each.name: each
    for each in (
        module("virtio"),
        module("virtio_ring"),
        module("virtio_net", "net_failover", "virtio", "virtio_ring"),
        module("net_failover", "failover"),
        module("failover"),
        module("unused", "virtio"),
    )
}


def test_each_driver_comes_after_what_it_needs_and_once() -> None:
    listed = order(["virtio_net", "virtio"], MODULES)
    assert listed == ("failover", "net_failover", "virtio", "virtio_ring", "virtio_net")


def test_what_is_built_into_the_kernel_is_not_listed() -> None:
    assert order(["ext4", "virtio"], MODULES) == ("virtio",)


def test_a_cycle_ends() -> None:
    looped = {"a": module("a", "b"), "b": module("b", "a")}
    assert set(order(["a"], looped)) == {"a", "b"}


def test_needs_are_read_from_the_module_itself() -> None:
    content = b"\x7fELF...\0license=GPL\0softdep=pre: crc32c\0depends=virtio,virtio-ring\0name=x\0"
    assert needs(content) == ("crc32c", "virtio", "virtio_ring")
    assert needs(b"\0depends=\0") == ()


@pytest.fixture
def kernel(tmp_path: Path) -> Path:
    """A directory of drivers, one with a name as files have it, one compressed as in later releases."""
    drivers = tmp_path / "6.1.0/kernel/drivers"
    drivers.mkdir(parents=True)
    (drivers / "virtio-rng.ko").write_bytes(b"\0depends=virtio\0")
    (drivers / "virtio.ko.xz").write_bytes(lzma.compress(b"\0depends=\0plain"))
    (drivers / "other.ko").write_bytes(b"\0depends=\0")
    return tmp_path / "6.1.0"


def written(kernel: Path, tmp_path: Path, name: str) -> bytes:
    (tmp_path / "agent").write_bytes(b"agent")
    initramfs.write(kernel, tmp_path / "agent", tmp_path / name)
    return (tmp_path / name).read_bytes()


def test_the_archive_has_the_agent_and_wanted_drivers_uncompressed(kernel: Path, tmp_path: Path) -> None:
    found = members(written(kernel, tmp_path, "initramfs"))
    assert found["init"][1] == b"agent"
    assert found["init"][0][1] == stat.S_IFREG | 0o755
    assert found["lib/modules/order"][1] == b"virtio.ko\nvirtio_rng.ko\n"
    assert found["lib/modules/virtio.ko"][1] == b"\0depends=\0plain"
    assert "lib/modules/other.ko" not in found
    assert found["lib/modules/order.vsock"][1] == b""


def test_the_same_input_gives_the_same_bytes(kernel: Path, tmp_path: Path) -> None:
    first = written(kernel, tmp_path, "first")
    for path in kernel.rglob("*.ko*"):
        path.touch()
    assert written(kernel, tmp_path, "second") == first
