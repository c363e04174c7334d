"""Whether guests boot on a host, found out once for each boot of it."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from isola.host import Host
from isola.runtimes.qemu import engines, kit, machine
from isola.runtimes.qemu.probing import probe
from isola.testing.host import fake_host
from isola.testing.processes import Call, FakeProcesses
from isola.testing.system import FakeSystem

QEMU = Path("/usr/bin/qemu-system-x86_64")


class Qemu:
    """Boots a kernel with these accelerators."""

    def __init__(self, *works: str) -> None:
        self.works = works
        self.tried: list[str] = []
        self.versions = 0

    async def __call__(self, call: Call) -> int:
        if "--version" in call.argv:
            self.versions += 1
            call.out(b"QEMU emulator version 10.0.2\n")
            return 0
        choice = call.argv[call.argv.index("-accel") + 1].split(",")[0]
        self.tried.append(choice)
        call.out(machine.TRIAL_SAYS + b"\n" if choice in self.works else b"failed to set MSR 0x10a\n")
        return 0 if choice in self.works else 1


Program = Callable[[Call], Awaitable[int]]


@pytest.fixture
def supplied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A kit and engines that are there."""
    for name in ("vmlinuz", "initramfs", "agent"):
        (tmp_path / name).write_bytes(b"content")
    checksum = hashlib.sha256(b"content").hexdigest()
    record = {
        "release": "6.1",
        "version": "1",
        "stamp": "s1",
        "checksums": dict.fromkeys(("vmlinuz", "initramfs", "agent"), checksum),
    }
    (tmp_path / "kit.json").write_text(json.dumps(record))
    (tmp_path / "engines.json").write_text("{}")
    monkeypatch.setenv(kit.VARIABLE, str(tmp_path))
    monkeypatch.setenv(engines.VARIABLE, str(tmp_path))
    return tmp_path


def host_with(qemu: Qemu, *, kvm: bool, boot: str = "b1") -> Host:
    host = fake_host(system=FakeSystem(programs={"conmon": Path("/usr/bin/conmon")}))
    assert isinstance(host.processes, FakeProcesses)
    host.processes.programs["loader"] = qemu
    return host


async def with_device(host: Host) -> Host:
    await host.files.make_directory(Path("/dev"))
    await host.files.write(Path("/dev/kvm"), b"")
    return host


async def test_kvm_is_used_where_it_boots_a_guest(supplied: Path) -> None:
    qemu = Qemu("kvm", "tcg")
    found = await probe(await with_device(host_with(qemu, kvm=True)))
    assert (found.available, found.warnings) == (True, ()) and "KVM" in found.version
    assert qemu.tried == ["kvm"]


async def test_a_device_that_boots_none_is_not_believed(supplied: Path) -> None:
    qemu = Qemu("tcg")
    host = await with_device(host_with(qemu, kvm=True))
    found = await probe(host)
    assert found.available and found.emulated and "TCG" in found.version and "emulated" in found.warnings[0]
    assert qemu.tried == ["kvm", "tcg"]
    await probe(host)
    assert qemu.tried == ["kvm", "tcg"], "the result is kept"


async def test_without_the_device_guests_are_emulated(supplied: Path) -> None:
    qemu = Qemu("kvm", "tcg")
    assert (await probe(host_with(qemu, kvm=False))).available
    assert qemu.tried == ["tcg"]


async def test_a_kernel_that_does_not_boot_is_told_with_what_it_said(supplied: Path) -> None:
    qemu = Qemu()
    host = host_with(qemu, kvm=False)
    found = await probe(host)
    assert not found.available and "MSR 0x10a" in found.reason and found.remedy
    await probe(host)
    assert qemu.tried == ["tcg", "tcg"], "a failure is tried again"


async def test_drivers_that_are_probed_at_once_ask_once(supplied: Path) -> None:
    qemu = Qemu("tcg")
    host = host_with(qemu, kvm=False)
    first, *others = await asyncio.gather(probe(host), probe(host), probe(host, server=False))
    assert first.available and others == [first, first]
    assert (qemu.tried, qemu.versions) == (["tcg"], 2), "of QEMU and of virtiofsd"
    await probe(host)
    assert qemu.versions == 4, "they may have been renewed"


async def test_a_probe_that_is_given_up_does_not_end_the_others(supplied: Path) -> None:
    host = host_with(Qemu("tcg"), kvm=False)
    given_up, goes_on = (asyncio.ensure_future(probe(host)) for _ in range(2))
    await asyncio.sleep(0)
    given_up.cancel()
    assert (await goes_on).available
    assert given_up.cancelled()


async def test_a_damaged_result_is_not_used(supplied: Path) -> None:
    qemu = Qemu("tcg")
    host = host_with(qemu, kvm=False)
    await probe(host)
    for name in await host.files.names(Path("/run/isola-guests")):
        await host.files.write(Path("/run/isola-guests") / name, b'{"accelerator": "none"}')
    assert (await probe(host)).available
    assert qemu.tried == ["tcg", "tcg"]


async def test_without_a_kernel_for_guests_it_says_how_to_make_one(
    supplied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(kit.VARIABLE, str(supplied / "none"))
    found = await probe(host_with(Qemu("tcg"), kvm=False))
    assert not found.available and "install/guest" in found.remedy
