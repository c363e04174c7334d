"""The command line of QEMU."""

from __future__ import annotations

import dataclasses
import itertools
import re
from pathlib import Path

import pytest

from isola.runtimes.qemu import machine
from isola.runtimes.qemu.machine import Machine, Nic

MACHINE = Machine(
    id="3f2a91c07b6d5e48",
    kernel=Path("/kit/vmlinuz"),
    initramfs=Path("/kit/initramfs"),
    accelerator="tcg",
    memory=512 << 20,
    cpus=2,
    clock=2_600_000,
)
NICS = (Nic("is00000001", "0a:69:73:00:00:01", "nic0"), Nic("is00000002", "0a:69:73:00:00:02", "nic1"))


def values(argv: list[str], option: str) -> list[str]:
    return [value for name, value in itertools.pairwise(argv) if name == option]


def test_it_has_only_what_it_is_given() -> None:
    argv = machine.arguments(MACHINE)
    assert {"-nodefaults", "-no-user-config"} <= set(argv)
    (sandbox,) = values(argv, "-sandbox")
    assert set(sandbox.split(",")) == {
        "on", "obsolete=deny", "elevateprivileges=deny", "spawn=deny", "resourcecontrol=deny",
    }  # fmt: skip
    assert values(argv, "-m") == ["size=512M"] and values(argv, "-smp") == ["cpus=2,maxcpus=2"]
    assert "size=512M,share=on" in values(argv, "-object")[0]
    kinds = {device.split(",")[0] for device in values(argv, "-device")}
    assert kinds == {
        "virtio-serial-pci", "virtserialport", "vhost-user-fs-pci", "virtio-rng-pci", "virtio-balloon-pci",
        "pcie-root-port",
    }  # fmt: skip


@pytest.mark.parametrize(("memory", "translated"), [(128, 32), (256, 64), (8192, 96)])
def test_translated_code_has_a_bounded_part_of_the_memory(memory: int, translated: int) -> None:
    argv = machine.arguments(dataclasses.replace(MACHINE, memory=memory << 20))
    assert values(argv, "-accel") == [f"tcg,thread=multi,tb-size={translated}"]


def test_it_has_room_to_grow_without_having_more() -> None:
    argv = machine.arguments(dataclasses.replace(MACHINE, most_memory=2 << 30, most_cpus=8))
    assert values(argv, "-m") == ["size=512M,maxmem=3072M"] and values(argv, "-smp") == ["cpus=2,maxcpus=8"]
    assert "size=1536M" in values(argv, "-object")[1] and "reserve=off" in values(argv, "-object")[1]
    (added,) = (device for device in values(argv, "-device") if device.startswith("virtio-mem-pci"))
    assert "requested-size=0" in added


@pytest.mark.parametrize("terminal", [True, False])
def test_every_character_device_is_used_and_no_descriptor_is_opened_by_path(terminal: bool) -> None:
    argv = machine.arguments(dataclasses.replace(MACHINE, nics=NICS, terminal=terminal))
    ids = [re.search(r"id=(\w+)", value) for value in values(argv, "-chardev")]
    text = " ".join(argv)
    for found in ids:
        assert found is not None and re.search(rf"chardev[=:]{found[1]}\b", text)
    assert not re.search(r"path=(?!/dev/fdset/)", text)
    wanted = {"control", "agent", "files", "nic0", "nic1", "output"} | (set() if terminal else {"errors"})
    assert set(re.findall(r"@(\w+)@", text)) == wanted
    ports = {"agent", "status"} | ({"console"} if terminal else {"stdin", "stdout", "stderr"})
    assert set(re.findall(r"name=org\.isola\.(\w+)", text)) == ports


def test_nics_are_in_slots_from_which_they_can_be_removed() -> None:
    argv = machine.arguments(dataclasses.replace(MACHINE, nics=NICS))
    devices = values(argv, "-device")
    slots = [device for device in devices if device.startswith("pcie-root-port")]
    assert len(slots) == len(NICS) + machine.HOT_PLUG_PORTS
    assert len(set(slots)) == len(slots)
    nics = [device for device in devices if device.startswith("virtio-net-pci")]
    assert [re.findall(r"bus=(\w+)", nic) for nic in nics] == [["port0"], ["port1"]]
    assert [re.findall(r"mac=([0-9a-f:]+)", nic) for nic in nics] == [[nic.mac] for nic in NICS]
    assert [value.split(",")[1] for value in values(argv, "-netdev")] == ["id=tap-is00000001", "id=tap-is00000002"]


def test_an_emulated_processor_is_told_its_frequency() -> None:
    assert "tsc_early_khz=2600000 lpj=10400000" in machine.kernel_arguments(MACHINE)
    assert "tsc" not in machine.kernel_arguments(dataclasses.replace(MACHINE, accelerator="kvm"))
    assert "tsc" not in machine.kernel_arguments(dataclasses.replace(MACHINE, clock=0))
    assert "net.ifnames=0" in machine.kernel_arguments(MACHINE), "udev keeps the names of links"
    assert "no_timer_check" in machine.kernel_arguments(MACHINE), "late ticks are no broken timer"
    argv = machine.arguments(dataclasses.replace(MACHINE, accelerator="kvm"))
    assert (values(argv, "-accel"), values(argv, "-cpu")) == (["kvm"], ["host"])


@pytest.mark.parametrize("link", ["is00000001", "tap,script=/evil", "0start", "ü"])
def test_no_name_of_a_link_ends_an_option(link: str) -> None:
    assert re.fullmatch(r"[A-Za-z0-9._-]+", machine.name_of(link), re.ASCII)
    assert "," not in str(machine.nic_properties(link, "0a:69:73:00:00:01")["netdev"])


def test_a_trial_needs_no_descriptors() -> None:
    assert "@" not in " ".join(machine.trial(MACHINE))
