"""The command line of QEMU for virtual machines with firmware and disks."""

from __future__ import annotations

import dataclasses
import itertools
import json
import re
from pathlib import Path
from typing import Any

import pytest

from isola.model.disk import Disk
from isola.runtimes import TapNic
from isola.runtimes.qemu import vm_machine
from isola.runtimes.qemu.boot_order import boot_order
from isola.runtimes.qemu.machine import HOT_PLUG_PORTS, Nic
from isola.runtimes.qemu.vm_machine import Drive, Machine

MIB = 1 << 20
ROOT = Drive("root", "qcow2", "disk0", backing="base0", order=1)
DISC = Drive("install, now", "raw", "disk1", read_only=True, cdrom=True)
MACHINE = Machine(
    id="3f2a91c07b6d5e48",
    accelerator="tcg",
    memory=512 * MIB,
    most_memory=4096 * MIB,
    cpus=1,
    most_cpus=4,
    code=Path("/usr/share/OVMF/OVMF_CODE_4M.ms.fd"),
    secure=True,
    drives=(ROOT, DISC),
    nics=(Nic("is00000001", "0a:69:73:00:00:01", "nic0"),),
    tpm=True,
)


def values(argv: list[str], option: str) -> list[str]:
    return [value for name, value in itertools.pairwise(argv) if name == option]


def nodes(argv: list[str]) -> dict[str, dict[str, Any]]:
    found = map(json.loads, values(argv, "-blockdev"))
    return {node["node-name"]: node for node in found}


def test_all_files_are_descriptors_and_no_format_is_guessed() -> None:
    argv = vm_machine.arguments(MACHINE)
    found = nodes(argv)
    files = {name: node["filename"] for name, node in found.items() if "filename" in node}
    assert files.pop("code") == "/usr/share/OVMF/OVMF_CODE_4M.ms.fd"
    assert all(re.fullmatch(r"/dev/fdset/\d+", path) for path in files.values())
    sets = [value.split(",")[0] for value in values(argv, "-add-fd")]
    assert len(sets) == len(set(sets)) and {path.split("/")[-1] for path in files.values()} <= {
        each.removeprefix("set=") for each in sets
    }
    assert {node["driver"] for node in found.values()} == {"file", "raw", "qcow2"}
    assert not re.search(r"path=(?!/dev/fdset/)", " ".join(argv))
    wanted = {"control", "agent", "files", "nic0", "output", "tpm-wire", "variables", "disk0", "base0", "disk1", "seed"}
    assert set(re.findall(r"@([\w-]+)@", " ".join(argv))) == wanted


def test_what_is_below_a_disk_is_said_and_only_read() -> None:
    found = nodes(vm_machine.arguments(MACHINE))
    root = found[vm_machine.node_of("root")]
    assert found[root["backing"]]["read-only"] and found[f"{root['backing']}-file"]["read-only"]
    assert not root["read-only"]
    alone = vm_machine.nodes(dataclasses.replace(ROOT, backing=""), "/dev/fdset/1")
    assert alone[-1]["backing"] is None, "a name in the disk's header is never followed"


def test_names_of_disks_end_no_option_and_are_read_again() -> None:
    for name in ("root", "install, now", "ü" * 64, "id=x,driver=evil"):
        assert re.fullmatch(r"[a-z][a-z0-9-]{1,26}", vm_machine.node_of(name), re.ASCII)
        assert re.fullmatch(r"[a-z][a-z0-9-]+", vm_machine.device_of(name), re.ASCII)
        assert vm_machine.name_of_device(vm_machine.device_of(name)) == name
    for other in ("nic-is00000001", "port0", "disk-of-zz", "disk-of-ff"):
        assert vm_machine.name_of_device(other) is None
    devices = [json.loads(each) for each in values(vm_machine.arguments(MACHINE), "-device") if each.startswith("{")]
    assert [(each["driver"], each["serial"], each.get("bootindex")) for each in devices] == [
        ("scsi-hd", "root", 1),
        ("scsi-cd", "install, now", None),
    ]


def test_a_bios_needs_no_flash() -> None:
    argv = vm_machine.arguments(dataclasses.replace(MACHINE, code=None, secure=False))
    assert not {"code", "variables"} & nodes(argv).keys() and "pflash" not in " ".join(argv)
    assert "smm=off" in " ".join(argv) and "@variables@" not in " ".join(argv)


def test_protected_variables_need_the_mode_of_the_processor_that_protects_them() -> None:
    secure = " ".join(vm_machine.arguments(MACHINE))
    assert "smm=on" in secure and "cfi.pflash01,property=secure,value=on" in secure
    plain = " ".join(vm_machine.arguments(dataclasses.replace(MACHINE, secure=False)))
    assert "smm=off" in plain and "property=secure" not in plain


def test_it_can_grow() -> None:
    argv = vm_machine.arguments(MACHINE)
    assert values(argv, "-smp") == ["cpus=1,maxcpus=4"]
    assert vm_machine.added_memory(MACHINE) == 3584 * MIB
    assert any("id=added-ram,size=3584M" in each for each in values(argv, "-object"))
    assert sum(each.startswith("pcie-root-port") for each in values(argv, "-device")) == HOT_PLUG_PORTS + 1
    fixed = vm_machine.arguments(dataclasses.replace(MACHINE, most_memory=MACHINE.memory))
    assert values(fixed, "-m") == ["512M"] and "virtio-mem-pci" not in " ".join(fixed)


@pytest.mark.parametrize(
    ("without", "option"),
    [(dataclasses.replace(MACHINE, spice=False), "-spice"), (dataclasses.replace(MACHINE, tpm=False), "-tpmdev")],
)
def test_what_is_not_wanted_is_not_there(without: Machine, option: str) -> None:
    assert option in vm_machine.arguments(MACHINE)
    assert option not in vm_machine.arguments(without)


def test_nothing_listens_for_viewers() -> None:
    argv = vm_machine.arguments(MACHINE)
    assert values(argv, "-vnc") == ["none"]
    assert not re.search(r"port|addr|unix", values(argv, "-spice")[0])


def test_each_instance_has_an_id_of_its_own_that_stays() -> None:
    (first,) = values(vm_machine.arguments(MACHINE), "-uuid")
    (other,) = values(vm_machine.arguments(dataclasses.replace(MACHINE, id="0" * 16)), "-uuid")
    assert re.fullmatch(r"[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}", first) and first != other
    assert values(vm_machine.arguments(MACHINE), "-uuid") == [first]


def test_the_highest_priority_boots_first_and_nics_only_if_they_have_one() -> None:
    root, disc = Disk("root", Path("/root")), Disk("iso", Path("/iso"), boot=10)
    nic = TapNic("is1", "0a:69:73:00:00:01", "eth0")
    assert boot_order((root, disc)) == {"iso": 1, "root": 2}
    assert boot_order((root, dataclasses.replace(disc, boot=0)), (nic,)) == {"root": 1, "iso": 2}
    assert boot_order((root, disc), (dataclasses.replace(nic, boot=5),)) == {"iso": 1, "is1": 2, "root": 3}


def test_the_seed_is_only_read_not_booted_from_and_none_of_the_disks() -> None:
    argv = vm_machine.arguments(MACHINE)
    assert nodes(argv)["seed-file"]["read-only"] and nodes(argv)["seed"]["driver"] == "raw"
    (device,) = (value for value in values(argv, "-device") if "serial=isola-seed" in value)
    assert "bootindex" not in device and vm_machine.name_of_device("seed") is None


def test_disks_are_on_the_bus_that_is_asked_for() -> None:
    blk, nvme = Drive("data", "raw", "disk2", bus="virtio-blk"), Drive("fast, one", "raw", "disk3", bus="nvme")
    wanted = dataclasses.replace(MACHINE, drives=(nvme, ROOT, blk, dataclasses.replace(DISC, bus="virtio-scsi")))
    devices = [json.loads(each) for each in values(vm_machine.arguments(wanted), "-device") if each.startswith("{")]
    assert [(each["driver"], each["bus"]) for each in devices] == [
        ("nvme", "port1"),
        ("scsi-hd", vm_machine.BUS),
        ("virtio-blk-pci", "port2"),
        ("scsi-cd", vm_machine.BUS),
    ]
    assert wanted.ports == HOT_PLUG_PORTS + 3, "the NIC, and each disk with a slot of its own"


def test_no_device_depends_on_the_cpus_that_can_change() -> None:
    def devices(machine: Machine) -> list[str]:
        return values(vm_machine.arguments(machine), "-device")

    assert devices(MACHINE) == devices(dataclasses.replace(MACHINE, cpus=3))
    assert "num_queues=4" in " ".join(devices(MACHINE))
