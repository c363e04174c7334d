"""Disks in slots: their part of QEMU's command line."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest

from isola.errors import Unsupported
from isola.model.disk import Disk
from isola.runtimes.qemu import slot_disks
from isola.runtimes.qemu.vm_machine import Drive, device_of, name_of_device

DRIVES = (
    Drive("data, 1", "raw", "disk0"),
    Drive("over", "qcow2", "disk1", backing="base1"),
    Drive("disc", "raw", "disk2", read_only=True, cdrom=True),
)


def values(argv: list[str], option: str) -> list[str]:
    return [value for name, value in itertools.pairwise(argv) if name == option]


def test_each_has_a_slot_from_which_it_can_be_removed() -> None:
    argv = slot_disks.cold(DRIVES, 2)
    devices = [json.loads(device) for device in values(argv, "-device")]
    assert [device["bus"] for device in devices] == ["port2", "port3", "port4"]
    assert [name_of_device(device["id"]) for device in devices] == [drive.name for drive in DRIVES]
    assert {device["driver"] for device in devices} == {"virtio-blk-pci"}
    assert len(slot_disks.properties(Drive("n" * 60, "raw", ""))["serial"]) == 20  # type: ignore[arg-type]


def test_each_reads_its_own_descriptors_and_nothing_by_path() -> None:
    argv = slot_disks.cold(DRIVES, 0)
    lent = [dict(part.split("=", 1) for part in value.split(",", 2)) for value in values(argv, "-add-fd")]
    assert [each["fd"] for each in lent] == ["@disk0@", "@disk1@", "@base1@", "@disk2@"]
    assert len({each["set"] for each in lent}) == len(lent) and min(int(each["set"]) for each in lent) > 2
    nodes = {node["node-name"]: node for node in map(json.loads, values(argv, "-blockdev"))}
    files = [node["filename"] for node in nodes.values() if "filename" in node]
    assert sorted(files) == sorted(f"/dev/fdset/{each['set']}" for each in lent)
    last = json.loads(values(argv, "-device")[-1])
    assert last["id"] == device_of("disc") and nodes[last["drive"]]["read-only"]


def test_other_buses_are_refused() -> None:
    slot_disks.require_bus(Disk("one", Path("/one"), bus="virtio-blk"))
    with pytest.raises(Unsupported, match="nvme") as refused:
        slot_disks.require_bus(Disk("one", Path("/one"), bus="nvme"))
    assert refused.value.field == "devices.one.io.bus"
