"""The contract of ``System``; the real one is compared with other programs."""

import ctypes
import os
import platform
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from isola.host.system import LinuxSystem, System
from isola.testing.system import FakeSystem


@pytest.fixture(params=["fake", "linux"])
def system(request: pytest.FixtureRequest) -> System:
    return FakeSystem(programs={"sh": Path("/bin/sh")}) if request.param == "fake" else LinuxSystem()


def test_kernel_is_linux_on_some_machine(system: System) -> None:
    kernel = system.kernel()
    assert kernel.name == "Linux"
    assert all((kernel.release, kernel.version, kernel.architecture, kernel.hostname))


def test_capabilities_have_their_long_names(system: System) -> None:
    assert system.capabilities()
    assert all(re.fullmatch(r"CAP_[A-Z_]+", name) for name in system.capabilities())


def test_each_cpu_is_described(system: System) -> None:
    cpus = system.cpus()
    assert cpus
    assert len({cpu["id"] for cpu in cpus}) == len(cpus)
    for cpu in cpus:
        assert {"id", "core", "socket", "numa_node", "model", "vendor", "frequency"} == set(cpu)
        assert all(isinstance(cpu[key], int) for key in ("id", "core", "socket", "numa_node", "frequency"))


def test_memory_is_in_bytes(system: System) -> None:
    memory = system.memory()
    assert 64 << 20 < memory["MemTotal"] == system.memory_total < 1 << 50
    assert 0 <= memory["MemFree"] <= memory["MemTotal"]
    assert {"MemAvailable", "SwapTotal", "SwapFree", "Buffers", "Cached"} <= set(memory)


def test_release_names_the_distribution(system: System) -> None:
    assert system.os_release()["ID"]


def test_programs_are_found_or_not(system: System) -> None:
    found = system.find_program("sh")
    assert found is not None and found.name == "sh"
    assert system.find_program("no-such-program-here") is None


def test_file_systems(system: System) -> None:
    assert "tmpfs" in system.file_systems()


def test_identities_have_their_shape(system: System) -> None:
    assert re.fullmatch(r"[0-9a-f]{32}", system.machine_id())
    assert re.fullmatch(r"[0-9a-f-]{36}", system.boot_id())
    assert system.boot_id() == system.boot_id()
    assert system.pid() > 0


def test_some_files_are_open_and_more_may_be(system: System) -> None:
    opened, limit = system.open_files()
    assert 0 < opened < limit


def test_devices_are_sorted_by_kind(system: System) -> None:
    assert set(system.devices()) == {"network", "storage", "gpu", "usb", "pci", "system"}


# From here on: the real one compared with other sources.


def test_bounding_set_is_that_of_this_process() -> None:
    found = re.search(r"CapBnd:\s*(\w+)", Path("/proc/self/status").read_text())
    assert found is not None
    bits = int(found[1], 16)
    assert len(LinuxSystem().capabilities()) == (bits & (2**41 - 1)).bit_count()


def test_bounding_set_is_read_by_the_numbers_of_the_kernel(tmp_path: Path) -> None:
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/status").write_text("Name:\tx\nCapBnd:\t00000000a80425fb\nCapAmb:\t0\n")
    names = (
        "CHOWN DAC_OVERRIDE FOWNER FSETID KILL SETGID SETUID SETPCAP NET_BIND_SERVICE NET_RAW SYS_CHROOT MKNOD "
        "AUDIT_WRITE SETFCAP"
    )
    assert LinuxSystem(tmp_path).capabilities() == {f"CAP_{name}" for name in names.split()}


def test_uname_is_that_of_the_standard_library() -> None:
    assert LinuxSystem().kernel().release == platform.release()


def test_cpus_are_those_online() -> None:
    assert len(LinuxSystem().cpus()) == os.cpu_count()


def test_facts_are_read_below_a_root(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/os-release").write_text('# a comment\nID=debian\nPRETTY_NAME="Debian \\"12\\""\n\nEMPTY=\n')
    (tmp_path / "etc/machine-id").write_text("0123456789abcdef0123456789abcdef\n")
    system = LinuxSystem(tmp_path)
    assert system.os_release() == {"ID": "debian", "PRETTY_NAME": 'Debian "12"', "EMPTY": ""}
    assert system.machine_id() == "0123456789abcdef0123456789abcdef"


def test_a_host_without_facts_has_none(tmp_path: Path) -> None:
    system = LinuxSystem(tmp_path)
    assert list(system.cpus()) == []
    assert system.memory() == {}
    assert system.os_release() == {}
    assert system.file_systems() == frozenset()
    assert not any(system.devices().values())


def test_modules_that_can_be_loaded_count_as_file_systems(tmp_path: Path) -> None:
    modules = tmp_path / "lib/modules" / platform.release()
    modules.mkdir(parents=True)
    (modules / "modules.alias").write_text("# Aliases\nalias fs-overlay overlay\nalias net-pf-38 af_alg\n")
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/filesystems").write_text("nodev\ttmpfs\n\text4\n")
    assert LinuxSystem(tmp_path).file_systems() == {"overlay", "tmpfs", "ext4"}


def _write(files: Mapping[Path, str]) -> None:
    for file, content in files.items():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content + "\n")


def test_the_system_of_a_fictitious_host(tmp_path: Path) -> None:
    dmi, device, interface = (
        tmp_path / f"sys/{name}" for name in ("class/dmi/id", "bus/pci/devices/1", "bus/usb/devices/1-2")
    )
    _write(
        {
            dmi / "sys_vendor": "QEMU",
            dmi / "product_name": "Standard PC",
            dmi / "product_uuid": "7fa1c0cc",
            dmi / "bios_vendor": "SeaBIOS",
            dmi / "bios_date": "04/01/2014",
            device / "class": "0x060000",
            interface / "idVendor": "046d",
            interface / "1-2:1.0/bInterfaceClass": "e0",
            interface / "1-2:1.0/bInterfaceNumber": "01",
            tmp_path / "sys/kernel/iommu_groups/7/type": "DMA",
        }
    )
    (device / "iommu_group").symlink_to(tmp_path / "sys/kernel/iommu_groups/7")
    devices: Any = LinuxSystem(tmp_path).devices()
    (machine,) = devices["system"]
    assert (machine["vendor"], machine["product"], machine["uuid"]) == ("QEMU", "Standard PC", "7fa1c0cc")
    assert (machine["type"], machine["chassis"]) == ("virtual-machine", None)
    assert machine["firmware"] == {"vendor": "SeaBIOS", "date": "04/01/2014", "version": ""}
    assert devices["pci"][0]["iommu_group"] == 7
    assert [(each["class_id"], each["number"]) for each in devices["usb"][0]["interfaces"]] == [(0xE0, 1)]


def test_devices_of_a_fictitious_host(tmp_path: Path) -> None:
    card = tmp_path / "sys/devices/pci0000:00/0000:00:1f.6"
    files = {
        card / "uevent": "",
        card / "class": "0x030000",
        card / "vendor": "0x8086",
        card / "device": "0x15bc",
        card / "numa_node": "-1",
        card / "net/eth7/address": "52:54:00:12:34:56",
        card / "net/eth7/type": "1",
        card / "net/eth7/carrier": "1",
        card / "net/eth7/speed": "1000",
        card / "block/sda/size": "2048",
        card / "block/sda/dev": "8:0",
        card / "block/sda/ro": "1",
        card / "block/sda/sda1/partition": "1",
        card / "block/sda/sda1/size": "1024",
        tmp_path / "sys/devices/virtual/net/br0/address": "",
        tmp_path / "sys/bus/usb/devices/1-2/idVendor": "046d",
        tmp_path / "sys/bus/usb/devices/1-2/busnum": "1",
        tmp_path / "sys/bus/usb/devices/1-2/speed": "1.5",
        tmp_path / "sys/bus/usb/devices/usb1/idVendor": "1d6b",
    }
    _write(files)
    links = {
        card / "net/eth7/device": card,
        card / "block/sda/device": card,
        tmp_path / "sys/class/net/eth7": card / "net/eth7",
        tmp_path / "sys/class/net/br0": tmp_path / "sys/devices/virtual/net/br0",
        tmp_path / "sys/block/sda": card / "block/sda",
        tmp_path / "sys/bus/pci/devices/0000:00:1f.6": card,
    }
    for link, target in links.items():
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(target)
    devices: Any = LinuxSystem(tmp_path).devices()
    (network,) = devices["network"]
    assert (network["pci_address"], network["vendor_id"], network["numa_node"]) == ("0000:00:1f.6", "8086", 0)
    (port,) = network["ports"]
    assert (port["id"], port["address"], port["link_speed"]) == ("eth7", "52:54:00:12:34:56", 1000)
    (disk,) = devices["storage"]
    assert (disk["id"], disk["size"], disk["type"], disk["read_only"]) == ("sda", 1 << 20, "scsi", True)
    assert [part["id"] for part in disk["partitions"]] == ["sda1"]
    assert [card["pci_address"] for card in devices["gpu"]] == ["0000:00:1f.6"]
    (usb,) = devices["usb"]
    assert (usb["vendor_id"], usb["bus_address"], usb["speed"]) == ("046d", 1, 1.5)


def test_kernel_limits_relevant_to_instances(system: System) -> None:
    limits = system.kernel_limits()
    assert limits["fs.inotify.max_user_instances"]["limit"] > 0


@pytest.mark.parametrize(
    ("files", "label"),
    [
        (
            {"sys/module/apparmor/parameters/enabled": "Y\n", "proc/self/attr/apparmor/current": "unconfined\n"},
            "unconfined",
        ),
        ({"sys/module/apparmor/parameters/enabled": "Y\n", "proc/self/attr/current": "d (enforce)\n"}, "d (enforce)"),
        ({"sys/module/apparmor/parameters/enabled": "N\n", "proc/self/attr/current": "unconfined\n"}, None),
        ({"proc/self/attr/current": "system_u:system_r:init_t:s0\0"}, None),
    ],
)
def test_the_label_of_apparmor(tmp_path: Path, files: dict[str, str], label: str | None) -> None:
    for path, text in files.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    assert LinuxSystem(tmp_path).apparmor() == label


def test_inotify_instances_of_root_are_counted() -> None:
    name = "fs.inotify.max_user_instances"
    before = LinuxSystem().kernel_limits()[name]["used"]
    made = [inotify() for _ in range(40)]
    try:
        assert LinuxSystem().kernel_limits()[name]["used"] > before + 20  # other processes start and end
    finally:
        for descriptor in made:
            os.close(descriptor)


def inotify() -> int:
    descriptor = ctypes.CDLL(None).inotify_init()
    assert descriptor >= 0
    return int(descriptor)


def test_open_files_are_counted() -> None:
    before = LinuxSystem().open_files()[0]
    held = [os.open("/", os.O_RDONLY) for _ in range(10)]
    assert LinuxSystem().open_files()[0] == before + 10
    for descriptor in held:
        os.close(descriptor)
