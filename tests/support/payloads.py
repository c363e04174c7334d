"""What the guests of a driver run in the contract suite of all walls."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import kernels
from runtime_bench import Bench
from uefi_disk import SIZE, make_disk

from isola.model.disk import IMAGE_DISK, ROOT_DISK, Disk, DiskFormat
from isola.model.kernel import Kernel
from isola.model.limits import Limits
from isola.runtimes import Firmware, Root, RootKind


@dataclass(frozen=True)
class Payload:
    """One root with a program in it."""

    root: Root
    says: bytes = b"booted"
    """Its log contains that as soon as it is up."""
    more: Mapping[str, object] = field(default_factory=dict)
    """Fields of the spec that differ from those of a busybox system."""


Made = Callable[[Bench], AbstractAsyncContextManager[Payload]]


@asynccontextmanager
async def _busybox(bench: Bench) -> AsyncIterator[Payload]:
    yield Payload(Root(bench.root, bench.kind.capabilities.root))


@asynccontextmanager
async def _disk(bench: Bench) -> AsyncIterator[Payload]:
    root = bench.directory / "disks"
    root.mkdir(mode=0o711, exist_ok=True)
    image, own = make_disk(root / IMAGE_DISK), root / ROOT_DISK
    await bench.host.processes.run(["qemu-img", "create", "-q", "-f", "qcow2", str(own), str(SIZE)], timeout=30)
    disk = Disk("root", own, DiskFormat.QCOW2, image)
    given = {"disks": (disk,), "firmware": Firmware(secure_boot=False), "limits": Limits(memory=256 << 20, vcpus=1)}
    yield Payload(Root(root, RootKind.DISKS), more=given)


@asynccontextmanager
async def _unikernel(bench: Bench) -> AsyncIterator[Payload]:
    """A tiny kernel, which echoes what it is told."""
    with tempfile.TemporaryDirectory(prefix="isola-kernel-") as place:
        kernels.place(Path(place, "kernel"))
        yield Payload(Root(Path(place)), kernels.READY, {"kernel": Kernel("/kernel"), "command": ("hello",)})


PAYLOADS: dict[str, Made] = {"qemu_unikernel": _unikernel, "qemu_vm": _disk}
"""By driver; all others whose root is a directory of the host run busybox."""


def payload(bench: Bench) -> AbstractAsyncContextManager[Payload]:
    """That of its driver."""
    if bench.param not in PAYLOADS and bench.kind.capabilities.root in (RootKind.DIRECTORY, RootKind.SHARED):
        return _busybox(bench)
    assert bench.param in PAYLOADS, f"the driver {bench.param} has no payload: add one to tests/support/payloads.py"
    return PAYLOADS[bench.param](bench)
