"""What a saved virtual machine and the one that continues from it must have in common."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import pytest

from isola.errors import Unsupported, WrongState
from isola.model.disk import Disk
from isola.model.limits import Limits
from isola.runtimes import Firmware, Root, RootKind, RunSpec, TapNic
from isola.runtimes.qemu import saving, vm_machine, vm_saving
from isola.runtimes.qemu.layout import VmLayout
from isola.runtimes.qemu.machine import Nic
from isola.runtimes.qemu.qmp import Qmp
from isola.runtimes.qemu.saving import Shape, State
from isola.runtimes.qemu.shares import Shares
from isola.runtimes.qemu.vm_machine import Drive, Machine
from isola.runtimes.qemu.vm_saving import Continued, More, SavedDisk
from isola.testing.host import fake_host

MIB = 1 << 20
SHAPE = Shape("tcg", "", 512 * MIB, 1, 6, terminal=True)
NICS = (TapNic("is1", "0a:69:73:00:00:01", "eth0"),)
STATE = State("10.0.13", SHAPE, [(3, NICS[0].mac)])
ROOT, DATA = Disk("root", Path("/pool/one/root.qcow2")), Disk("data", Path("/pool/data/volume.raw"))
SAVED = (SavedDisk("root", "virtio-scsi", 0, False, False, ""), SavedDisk("data", "virtio-scsi", 4, False, False, ""))
MORE = More(1024 * MIB, 0, 2, 4, secure=False, tpm=True, bios=False, agent=True, disks=SAVED, shares=())
SPEC = RunSpec(
    id="one",
    hostname="one",
    root=Root(Path("/pool/one"), RootKind.DISKS),
    command=(),
    disks=(DATA, Disk("new", Path("/new")), ROOT),
    nics=NICS,
    limits=Limits(memory=768 * MIB),
    firmware=Firmware(secure_boot=False, tpm=True),
)


def today(**more: object) -> Shape:
    return dataclasses.replace(SHAPE, memory=768 * MIB, cpus=4, **more)  # type: ignore[arg-type]


def test_a_machine_continues_as_it_was_saved_and_the_rest_follows() -> None:
    vm_saving.require_fit(STATE, MORE, today(), SPEC, "10.0.14")
    spec = vm_saving.spec_of(SPEC, STATE, MORE)
    assert [disk.name for disk in spec.disks] == ["root", "data"] and spec.limits.memory == 512 * MIB
    described = Machine(
        id="one",
        accelerator="tcg",
        memory=512 * MIB,
        most_memory=512 * MIB,
        cpus=1,
        most_cpus=1,
        code=Path("/code"),
        secure=False,
        drives=tuple(Drive(disk.name, "raw", f"disk-{disk.name}") for disk in spec.disks),
        nics=(Nic("is1", NICS[0].mac.upper(), "nic0"), Nic("is2", "0a:69:73:00:00:02", "nic1")),
    )
    made = vm_saving.continued(described, Continued(STATE, MORE, Path("/images"), SPEC))
    assert (made.memory, vm_machine.added_memory(made), made.cpus, made.most_cpus) == (512 * MIB, 1024 * MIB, 2, 4)
    assert [(nic.link, nic.slot) for nic in made.nics] == [("is1", 3)]
    argv = vm_machine.arguments(made)
    text = " ".join(argv)
    assert "-incoming defer" in text and "-S" in argv and text.count("pcie-root-port") == 6
    assert "tag=isola,event_idx=off" not in text, "it was saved by an earlier version"
    assert "vhost-user-fs-pci,chardev=files,tag=isola,event_idx=off" in vm_machine.arguments(described)
    devices = [json.loads(each) for each in argv if each.startswith('{"driver": "scsi-')]
    assert [(each["serial"], each["scsi-id"]) for each in devices] == [("root", 0), ("data", 4)]


@pytest.mark.parametrize(
    ("spec", "shape", "said"),
    [
        ({}, {"memory": 2048 * MIB}, "limits.memory was 512MiB"),
        ({}, {"cpus": 5}, "limits.cpu was 1"),
        ({}, {"slots": 1, "accelerator": "kvm"}, "kvm"),
        ({"firmware": Firmware(secure_boot=True, tpm=True)}, {}, "security.secureboot was false"),
        ({"firmware": Firmware(secure_boot=False)}, {}, "a TPM was true"),
        ({"firmware": Firmware(secure_boot=False, tpm=True, bios=True)}, {}, "security.csm was false"),
        ({"disks": (ROOT,)}, {}, "it had a disk 'data'"),
        ({"disks": (ROOT, dataclasses.replace(DATA, read_only=True))}, {}, "'data' was written to"),
        ({"disks": (ROOT, dataclasses.replace(DATA, bus="virtio-blk"))}, {}, "'data' had io.bus virtio-scsi"),
        ({"nics": ()}, {}, "a NIC had the address 0a:69:73:00:00:01"),
    ],
)
def test_what_cannot_follow_is_refused_with_the_way_out(
    spec: Mapping[str, object], shape: Mapping[str, object], said: str
) -> None:
    with pytest.raises(WrongState) as refused:
        vm_saving.require_fit(
            STATE,
            MORE,
            dataclasses.replace(today(), **shape),  # type: ignore[arg-type]
            dataclasses.replace(SPEC, **spec),  # type: ignore[arg-type]
            "10.0.14",
        )
    assert said in f"{refused.value.message} {refused.value.evidence}"
    assert "without its state" in refused.value.remedy


def test_emulated_machines_with_secure_boot_get_no_cpus() -> None:
    spec = dataclasses.replace(SPEC, firmware=Firmware(secure_boot=True, tpm=True))
    secure = dataclasses.replace(MORE, secure=True)
    vm_saving.require_fit(STATE, secure, dataclasses.replace(today(), cpus=2), spec, "10.0.14")
    with pytest.raises(WrongState, match="changed"):
        vm_saving.require_fit(STATE, secure, dataclasses.replace(today(), cpus=3), spec, "10.0.14")


def test_a_snapshot_needs_all_that_the_guest_can_write_to() -> None:
    vm_saving.require_own_disks(SPEC, (ROOT, dataclasses.replace(DATA, read_only=True)))
    vm_saving.require_own_disks(SPEC, (ROOT, dataclasses.replace(DATA, cdrom=True)))
    with pytest.raises(Unsupported, match="'data'") as refused:
        vm_saving.require_own_disks(SPEC, (ROOT, DATA))
    assert "detach" in refused.value.remedy
    with pytest.raises(Unsupported, match="nvme"):
        vm_saving.require_known_buses((ROOT, dataclasses.replace(DATA, bus="nvme")))


class Control:
    """QEMU's control socket, of a machine with two CPUs of four, and memory that was added."""

    async def execute(self, command: str, arguments: Mapping[str, Any] | None = None) -> Any:
        devices = [{"qdev_id": "port5", "pci_bridge": {"devices": [{"qdev_id": vm_machine.device_of("data")}]}}]
        return {
            "query-memory-devices": [{"data": {"id": "added", "max-size": 1024 * MIB, "size": 64 * MIB}}],
            "query-hotpluggable-cpus": [{"qom-path": "/a"}, {"qom-path": "/b"}, {}, {}],
            "query-pci": [{"devices": devices}],
            "qom-get": 7,
        }[command]


async def test_what_is_described_is_read_again_and_a_changed_disk_is_noticed() -> None:
    host, images, file = fake_host(), Path("/images"), Path(__file__)
    disks = (ROOT, Disk("data", file, bus="virtio-blk"))
    await host.files.make_directory(images)
    await host.files.make_directory(file.parent)
    await host.files.write(file, b"content")
    found = await vm_saving.described(host, cast(Qmp, Control()), SPEC, disks, ("/run/shares", "/srv"), agent=True)
    await host.files.write(images / saving.MEMORY, b"memory")
    await host.files.write(images / saving.STATE, json.dumps(dataclasses.asdict(STATE) | dict(found)).encode())
    with pytest.raises(WrongState, match="not complete"):
        await vm_saving.read(host, images)
    await host.files.write(images / vm_saving.SEED, b"seed")
    _, more = await vm_saving.read(host, images)
    assert (more.most_memory, more.added, more.cpus, more.most_cpus) == (1024 * MIB, 64 * MIB, 2, 4)
    assert [(disk.bus, disk.place, bool(disk.stamp)) for disk in more.disks] == [
        ("virtio-scsi", 7, False),
        ("virtio-blk", 5, True),
    ]
    spec = dataclasses.replace(SPEC, disks=disks)
    await vm_saving.require_unchanged(host, more, spec)
    await host.files.write(file, b"other content")
    with pytest.raises(WrongState, match="disk 'data' was changed"):
        await vm_saving.require_unchanged(host, more, spec)


@pytest.mark.parametrize("text", ["[]", '{"vm": {}}', '{"vm": {"disks": [{}], "shares": []}}', '{"vm": {"disks": 1}}'])
async def test_what_is_incomplete_is_no_state(text: str) -> None:
    host, images = fake_host(), Path("/images")
    await host.files.make_directory(images)
    for name in (saving.MEMORY, vm_saving.SEED):
        await host.files.write(images / name, b"there")
    found = json.loads(text)
    whole = dataclasses.asdict(STATE) | found if isinstance(found, dict) else found
    await host.files.write(images / saving.STATE, json.dumps(whole).encode())
    with pytest.raises(WrongState, match="not complete"):
        await vm_saving.read(host, images)


async def test_directories_that_are_mounted_already_are_not_mounted_again_and_missing_ones_are_known() -> None:
    host, layout = fake_host(), VmLayout("one", Path("/run/one"), Path("/logs/one"))
    await host.files.make_directory(layout.run.parent, layout.run)
    shares = Shares(host, layout, SPEC)
    assert await shares.there() == ()
    await shares.begin(("/run/isola/shares", "/mnt/one", "/mnt/two"))
    await shares.add(11, "/mnt/one", None)
    assert shares.missing() == ("/mnt/two",)
    await shares.add(12, "/mnt/new", None)
    assert await shares.there() == ("/mnt/one", "/run/isola/shares")


async def test_disks_that_were_added_are_known_to_the_next_daemon() -> None:
    host, place = fake_host(), Path("/run/disks.json")
    await host.files.make_directory(place.parent)
    assert await vm_saving.read_disks(host, place) == {}
    added = {"a, b": Disk("a, b", Path("/a"), read_only=True, bus="nvme")}
    await vm_saving.write_disks(host, place, added)
    assert await vm_saving.read_disks(host, place) == added
