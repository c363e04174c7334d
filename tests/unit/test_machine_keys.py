"""Keys and devices that only guests with firmware obey, and keys that none does."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import ClassVar

import pytest
from instance_updates import update

from isola.daemon.build import Drivers
from isola.errors import InvalidInput, IsolaError, Unsupported
from isola.model.instance import InstanceRequest
from isola.model.reference import Ref
from isola.runtimes import Capability, Firmware, Lack, Machine, RootKind, RuntimeCapabilities, plan
from isola.testing.parts import World
from isola.testing.vm import FakeVm

VM = Ref.default("vm1")


class FakeUefi(FakeVm):
    """With the root of a container, for want of another."""

    capabilities: ClassVar[RuntimeCapabilities] = RuntimeCapabilities(
        isolations=frozenset({"vm"}),
        shares_kernel=False,
        root=RootKind.SHARED,
        machine=Machine(1 << 30),
        lacks={Capability.DEVICES: Lack("It has devices of its own")},
    )


@pytest.fixture
async def world() -> AsyncIterator[World]:
    found = World(more=Drivers({"uefi": FakeUefi}))
    await found.start()
    await found.import_image()
    yield found
    found.forget()


async def _make(world: World, *, start: bool = True, **wanted: object) -> None:
    request = InstanceRequest(name="vm1", image="tiny", isolation="vm", start=start, **wanted)  # type: ignore[arg-type]
    await world.finish(world.parts.services.instances.create(request))


def _firmware(world: World) -> Firmware | None:
    runtime = world.parts.services.runtimes.find("uefi")
    assert isinstance(runtime, FakeUefi)
    (instance,) = runtime.instances.values()
    assert plan.decode(plan.encode(instance.spec)) == instance.spec
    return instance.spec.firmware


@pytest.mark.parametrize(
    ("wanted", "firmware"),
    [
        ({}, Firmware()),
        ({"config": {"security.secureboot": "false"}}, Firmware(secure_boot=False)),
        (
            {"config": {"security.secureboot": "false", "security.csm": "true"}},
            Firmware(secure_boot=False, bios=True),
        ),
        ({"devices": {"vtpm": {"type": "tpm", "path": "/dev/tpm0"}}}, Firmware(tpm=True)),
    ],
)
async def test_the_firmware_of_a_machine(world: World, wanted: dict[str, object], firmware: Firmware) -> None:
    await _make(world, **wanted)  # type: ignore[arg-type]
    assert _firmware(world) == firmware


async def test_a_container_has_none(world: World) -> None:
    await world.create("web1", start=True)
    assert world.on_host("web1").spec.firmware is None
    await world.create("web2", config={"security.secureboot": "false"})  # as in a profile for all
    with pytest.raises(Unsupported, match=r"no firmware.*isolation 'vm' can do this"):
        await world.create("web3", config={"security.secureboot": "true"})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("agent.nic_config", "true"),
        ("limits.memory.hugepages", "true"),
        ("boot.debug_edk2", "true"),
        ("raw.qemu", "-device e1000"),
        ("raw.qemu.conf", "[device]"),
    ],
)
async def test_what_is_not_offered_says_why(world: World, key: str, value: str) -> None:
    with pytest.raises(InvalidInput, match="because") as caught:
        await _make(world, config={key: value})
    assert caught.value.field == f"config.{key}"
    await _make(world, start=False, config={key: "" if key.startswith("raw.") else "false"})


async def test_a_bios_has_no_secure_boot(world: World) -> None:
    with pytest.raises(InvalidInput, match=r"no secure boot.*set security\.secureboot=false") as caught:
        await _make(world, config={"security.csm": "true"})
    assert caught.value.field == "config.security.csm"
    await _make(world, start=False, config={"security.csm": "true", "security.secureboot": "false"})
    with pytest.raises(InvalidInput, match="no secure boot"):
        await update(world, "vm1", config={"security.csm": "true"})
    with pytest.raises(Unsupported, match=r"no firmware.*isolation 'vm' can do this"):
        await world.create("web1", config={"security.csm": "true", "security.secureboot": "false"})


async def test_an_image_says_that_it_does_not_start_with_secure_boot(world: World) -> None:
    await world.import_image("unsigned", **{"requirements.secureboot": "False"})
    request = InstanceRequest(name="vm1", image="unsigned", isolation="vm")
    await world.finish(world.parts.services.instances.create(request))
    with pytest.raises(InvalidInput, match=r"cannot start with secure boot.*set security\.secureboot=false") as caught:
        await world.finish(world.parts.services.instances.start(VM))
    assert caught.value.field == "config.security.secureboot"
    await update(world, "vm1", config={"security.secureboot": "false"})
    await world.finish(world.parts.services.instances.start(VM))
    await world.create("web1", image="unsigned", start=True)


async def test_a_tpm_is_there_from_the_start_and_alone(world: World) -> None:
    with pytest.raises(IsolaError):
        await _make(world, devices={"one": {"type": "tpm"}, "two": {"type": "tpm"}})
    await _make(world)
    instances = world.parts.services.instances
    with pytest.raises(Unsupported, match="stop the instance first"):
        await update(world, "vm1", devices={"vtpm": {"type": "tpm"}})
    await world.finish(instances.stop(VM, force=True))
    await update(world, "vm1", devices={"vtpm": {"type": "tpm"}})
    await world.finish(instances.start(VM))
    assert _firmware(world) == Firmware(tpm=True)
    await update(world, "vm1", devices={})
    assert instances.get(VM).plugged.keys() == {"eth0", "root"}


async def test_nics_have_an_order_for_the_firmware(world: World) -> None:
    nic = {"type": "nic", "network": "isolabr0", "boot.priority": "10"}
    await _make(world, devices={"eth0": nic})
    runtime = world.parts.services.runtimes.find("uefi")
    assert isinstance(runtime, FakeUefi)
    assert [each.boot for instance in runtime.instances.values() for each in instance.nics] == [10]


@pytest.mark.parametrize(
    "device", [{"type": "tpm"}, {"type": "nic", "network": "isolabr0", "boot.priority": "10"}], ids=["tpm", "nic"]
)
async def test_a_container_has_no_tpm_and_no_boot_order(world: World, device: dict[str, str]) -> None:
    with pytest.raises(Unsupported, match=r"no firmware.*isolation 'vm' can do this"):
        await world.create("web1", devices={"eth0": device})


async def test_addresses_are_not_asked_for_where_that_is_off(world: World) -> None:
    await _make(world)
    runtime, instances = world.parts.services.runtimes.find("uefi"), world.parts.services.instances
    assert isinstance(runtime, FakeUefi)

    async def shown() -> list[str]:
        return [each.name for each in (await instances.state(instances.get(VM))).network]

    assert await shown() == ["lo", "eth0"]
    await update(world, "vm1", config={"security.agent.metrics": "false"})
    assert await shown() == []
