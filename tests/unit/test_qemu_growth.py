"""CPUs of a running virtual machine, with a fake of QEMU's control socket."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any, cast

import pytest

from isola.errors import HostFailure, Unsupported
from isola.model.limits import Limits
from isola.runtimes.qemu.growth import Growth
from isola.runtimes.qemu.session import Session
from isola.runtimes.spec import Firmware
from isola.testing.host import fake_host


class Machine:
    """Two slots for CPUs."""

    def __init__(self, cpus: int, *, kvm: bool) -> None:
        self.kvm = kvm
        self.cpus = [number < cpus for number in range(2)]
        self.removed: list[str] = []

    async def execute(self, command: str, arguments: Mapping[str, Any] | None = None) -> Any:
        if command == "query-hotpluggable-cpus":
            return [
                {"type": "cpu", "props": {"core-id": number}} | ({"qom-path": f"/machine/{number}"} if there else {})
                for number, there in enumerate(self.cpus)
            ]
        if command == "device_add":
            assert arguments is not None
            self.cpus[arguments["core-id"]] = True
        if command == "device_del":
            assert arguments is not None
            self.removed.append(arguments["id"])
        return {"query-kvm": {"enabled": self.kvm}, "query-balloon": {"actual": 256 << 20}}.get(command, [])


def growth(machine: Machine, *, secure: bool, firmware: bool = True) -> Growth:
    async def removal(name: str, seconds: float) -> bool:
        return True

    spec = SimpleNamespace(limits=Limits(memory=256 << 20), firmware=Firmware(secure_boot=secure))
    session = SimpleNamespace(spec=spec, qmp=machine, expect_removal=lambda name: None, removal=removal)
    return Growth(fake_host(), cast(Session, session), firmware=firmware)


def limits(*cpus: int) -> Limits:
    return Limits(cpus=cpus, memory=256 << 20)


async def test_a_cpu_is_added() -> None:
    machine = Machine(1, kvm=False)
    grown = growth(machine, secure=False)
    await grown.check(limits(0, 1))
    await grown.resize(limits(0, 1))
    assert machine.cpus == [True, True]


async def test_emulated_machines_with_secure_boot_would_hang() -> None:
    with pytest.raises(Unsupported, match="secure boot"):
        await growth(Machine(1, kvm=False), secure=True).check(limits(0, 1))
    await growth(Machine(1, kvm=True), secure=True).check(limits(0, 1))
    await growth(Machine(2, kvm=False), secure=True).check(limits(0, 1))
    await growth(Machine(1, kvm=False), secure=True, firmware=False).check(limits(0, 1))


async def test_machines_of_earlier_versions_have_no_slots() -> None:
    class Old(Machine):
        async def execute(self, command: str, arguments: Mapping[str, Any] | None = None) -> Any:
            raise HostFailure("The hypervisor has refused", evidence="not enabled")

    assert not await growth(Old(1, kvm=False), secure=False).possible()
    assert await growth(Machine(1, kvm=False), secure=False).possible()
    assert await growth(Machine(2, kvm=False), secure=False).plugged() == 2


@pytest.mark.parametrize("kvm", [True, False])
async def test_emulated_machines_keep_their_cpus(kvm: bool) -> None:
    machine = Machine(2, kvm=kvm)
    await growth(machine, secure=False).resize(limits(0))
    assert bool(machine.removed) is kvm
