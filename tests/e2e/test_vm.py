"""A Debian 12 virtual machine with Debian's unmodified ``lxc`` and with ``isola``: one for all checks, in order."""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from command import Cli
from daemon import Daemon
from debian import debian_image
from lxc_client import Lxc
from spice import shakes_hands
from tiny_daemon import tiny_daemon
from waiting import until

pytestmark = pytest.mark.timeout(900)
NAME = "vm1"
COUNTS = "i=0; while :; do i=$((i+1)); echo $i >> /run/count; sleep 0.1; done"


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with tiny_daemon(tmp_path_factory.mktemp("vm")) as daemon:
        daemon.import_split(*debian_image("debian/12/vm"), "debian/12/vm")
        yield daemon


@pytest.fixture(scope="module")
def lxc(own: Daemon, tmp_path_factory: pytest.TempPathFactory) -> Lxc:
    return Lxc(own, tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def isola(own: Daemon) -> Cli:
    return Cli(own)


@pytest.fixture(scope="module")
def vm(own: Daemon, lxc: Lxc) -> str:
    """Booted; systemd is running."""
    lxc("launch", "debian/12/vm", NAME, "--vm", "-c", "limits.memory=512MiB", "-c", "limits.cpu=1")
    until(lambda: answers(own), seconds=800, pause=1)
    state = inside(own, "systemctl is-system-running --wait")
    assert state == "running", inside(
        own, "systemctl --failed --no-legend; journalctl -b -p warning --no-pager | tail -40"
    )
    return NAME


def answers(own: Daemon) -> bool:
    with contextlib.suppress(Exception):
        return own.exec(NAME, "true")[0] == 0
    return False


def inside(own: Daemon, script: str) -> str:
    return own.exec(NAME, "sh", "-c", script)[1].strip()


def state(own: Daemon) -> Any:
    return own.get(f"/1.0/instances/{NAME}/state")


def test_it_is_listed_as_a_virtual_machine_with_its_address(own: Daemon, lxc: Lxc, isola: Cli, vm: str) -> None:
    until(lambda: any(each["family"] == "inet" for each in state(own)["network"]["eth0"]["addresses"]), seconds=120)
    (row,) = lxc("list", "-c", "nst4", "-f", "csv").splitlines()
    name, status, kind, address = row.split(",")
    assert (name, status, kind) == (vm, "RUNNING", "VIRTUAL-MACHINE")
    assert address.endswith("(eth0)")
    assert address.split()[0] in isola("list", "-f", "csv").stdout
    assert "VIRTUAL-MACHINE" in lxc("image", "list", "-f", "csv")
    shown = lxc("info", vm)
    assert "Type: virtual-machine" in shown and "Status: RUNNING" in shown and address.split()[0] in shown
    summary = isola("info", vm).stdout
    assert "isolation: vm" in summary and "a kernel and disks of its own" in summary and "protects:" in summary


def test_commands_have_their_exit_status_and_a_kernel_of_their_own(own: Daemon, lxc: Lxc, isola: Cli, vm: str) -> None:
    assert lxc("exec", vm, "--", "sh", "-c", "echo said; exit 7", status=7) == "said\n"
    assert isola("exec", vm, "--", "sh", "-c", "exit 9", check=False).returncode == 9
    assert lxc("exec", vm, "--", "uname", "-r") != os.uname().release + "\n"
    assert inside(own, "ls /sys/firmware/efi/efivars | grep -c SecureBoot") == "1"
    assert isola("top", vm).stdout.split()[:3] == ["UID", "PID", "PPID"]
    assert "systemd" in isola("top", vm).stdout


def test_a_serial_port_that_appears_late_has_a_login(own: Daemon, vm: str) -> None:
    until(lambda: has_login(own), seconds=120)
    serial_port(own, "remove")
    until(lambda: not has_login(own), seconds=120)
    serial_port(own, "add")
    until(lambda: has_login(own), seconds=120)


def serial_port(own: Daemon, action: str) -> None:
    """Have the guest's system believe that it comes or goes."""
    inside(own, f"udevadm trigger --action={action} --settle /sys/class/tty/ttyS0")


def has_login(own: Daemon) -> bool:
    return inside(own, "systemctl is-active serial-getty@ttyS0") == "active"


def test_files_go_in(own: Daemon, lxc: Lxc, vm: str, tmp_path: Path) -> None:
    block = os.urandom(300_000)
    (tmp_path / "in").write_bytes(block)
    lxc("file", "push", str(tmp_path / "in"), f"{vm}/root/data")
    assert inside(own, "sha256sum /root/data").split()[0] == hashlib.sha256(block).hexdigest()


@pytest.fixture
def more(own: Daemon, lxc: Lxc, vm: str) -> Iterator[str]:
    """A volume for a second disk, which is not plugged afterwards."""
    if "/1.0/storage-pools/default/volumes/custom/more" not in own.get("/1.0/storage-pools/default/volumes"):
        lxc("storage", "volume", "create", "default", "more", "--type=block", "size=64MiB")
    yield "more"
    if "more" in own.get(f"/1.0/instances/{vm}")["devices"]:
        lxc("config", "device", "remove", vm, "more")


def test_nics_and_disks_are_plugged_and_unplugged(own: Daemon, lxc: Lxc, vm: str, more: str) -> None:
    lxc("config", "device", "add", vm, "eth1", "nic", "network=isolabr0", "name=eth1")
    until(lambda: inside(own, "ls /sys/class/net | wc -l") == "3", seconds=120)
    lxc("config", "device", "remove", vm, "eth1")
    until(lambda: inside(own, "ls /sys/class/net | wc -l") == "2", seconds=120)
    disks = inside(own, "lsblk -dno NAME | sort")
    lxc("config", "device", "add", vm, more, "disk", "pool=default", f"source={more}")
    until(lambda: inside(own, "lsblk -dno NAME | sort") != disks, seconds=120)
    lxc("config", "device", "remove", vm, more)
    until(lambda: inside(own, "lsblk -dno NAME | sort") == disks, seconds=120)


def test_its_screen_is_shown_to_viewers(own: Daemon, lxc: Lxc, vm: str) -> None:
    environment = {"PATH": os.environ["PATH"], "ISOLA_DIR": str(own.directory)}
    argv = [sys.executable, "-m", "isola.cli.main", "console", vm, "--type", "vga"]
    with subprocess.Popen(argv, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True) as shown:
        try:
            assert shown.stdout is not None
            path = Path(shown.stdout.readline().strip().removeprefix("spice+unix://"))
            assert shakes_hands(path) and shakes_hands(path)
            shown.send_signal(signal.SIGINT)
            assert shown.wait(60) == 0
        finally:
            shown.kill()


def test_it_is_paused_and_goes_on(own: Daemon, lxc: Lxc, vm: str) -> None:
    lxc("pause", vm)
    assert own.status(vm) == "Frozen"
    lxc("start", vm)
    assert own.status(vm) == "Running" and inside(own, "echo on") == "on"


def test_its_memory_is_in_stops_and_snapshots(own: Daemon, lxc: Lxc, isola: Cli, vm: str, more: str) -> None:
    """A counter in memory goes on, with a disk that was plugged, over the death of the daemon."""
    lxc("config", "device", "add", vm, more, "disk", "pool=default", f"source={more}", "io.bus=virtio-blk")
    inside(own, f"systemd-run --unit=counts sh -c '{COUNTS}'")
    until(lambda: counted(own) > 3, seconds=60)
    refused = isola("snapshot", "create", vm, "then", "--stateful", check=False)
    assert refused.returncode and "'more' cannot be kept in one snapshot" in refused.stderr + refused.stdout
    until(lambda: own.status(vm) == "Running", seconds=60)

    lxc("stop", vm, "--stateful")
    found = own.get(f"/1.0/instances/{vm}")
    assert (found["status"], found["stateful"]) == ("Stopped", True)
    own.kill()
    own.start()
    lxc("start", vm)
    goes_on(own)
    assert not own.get(f"/1.0/instances/{vm}")["stateful"]
    assert abs(int(inside(own, "date +%s")) - time.time()) < 20, "its clock was set"
    lxc("config", "device", "remove", vm, more)

    lxc("snapshot", vm, "then", "--stateful")
    then = counted(own)
    until(lambda: counted(own) > then + 2, seconds=60)
    later = counted(own)
    lxc("restore", vm, "then", "--stateful")
    assert 3 < counted(own) < later + 50
    goes_on(own)
    assert inside(own, "touch /root/written && sync && dmesg | grep -c 'EXT4-fs error'") == "0"
    lxc("delete", f"{vm}/then")


def counted(own: Daemon) -> int:
    return int(inside(own, "cat /run/count 2>/dev/null | tail -n 1") or 0)


def goes_on(own: Daemon) -> None:
    until(lambda: answers(own), seconds=60)
    before = counted(own)
    until(lambda: counted(own) > before, seconds=60)
    seen = [int(each) for each in inside(own, "cat /run/count").split()]
    assert seen == list(range(1, len(seen) + 1)), "each number once"


def test_snapshots_and_copies_have_its_disk(own: Daemon, lxc: Lxc, vm: str) -> None:
    lxc("snapshot", vm, "before")
    lxc("copy", f"{vm}/before", "twin")
    assert own.get("/1.0/instances/twin")["type"] == "virtual-machine"
    lxc("delete", "twin")
    lxc("delete", f"{vm}/before")


def test_it_stops_cleanly(own: Daemon, lxc: Lxc, vm: str) -> None:
    lxc("stop", vm, "--timeout", "120")
    assert own.status(vm) == "Stopped"
    assert own.get(f"/1.0/instances/{vm}")["last_run"]["exit_status"] == 0
    lxc("delete", vm)
