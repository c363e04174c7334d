"""Faults under a running daemon: files, mounts, links and processes disappear; afterwards everything works again.

After each fault, and if stated after a restart of the daemon, the instances are in their recorded state, every verb
works, and the host matches the records.
"""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from audit import records, settled
from daemon import ApiError, Daemon
from tiny_daemon import tiny_daemon
from waiting import until

VICTIM, BYSTANDER = "victim", "bystander"


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with tiny_daemon(tmp_path_factory.mktemp("image"), dhcp=True) as daemon:
        yield daemon


@dataclass(frozen=True)
class Fault:
    """A fault, and the expected state afterwards."""

    happen: Callable[[Daemon], None]
    power: str = "Running"
    """Expected status of the affected instance."""
    restart: bool = False
    """Whether recovery requires a restart of the daemon."""


def process(daemon: Daemon, *parts: str) -> int:
    """The one process of the daemon's directory whose command line has all these."""
    (found,) = (pid for pid, line in daemon.host_processes().items() if all(part in line for part in parts))
    return int(found)


def id_of(daemon: Daemon) -> str:
    return str(records(daemon, "instances")[VICTIM]["id"])


def dies(*parts: str) -> Callable[[Daemon], None]:
    return lambda daemon: os.kill(process(daemon, *parts), signal.SIGKILL)


def monitor_dies(daemon: Daemon) -> None:
    pid = daemon.pid(VICTIM)
    os.kill(process(daemon, "conmon", id_of(daemon)), signal.SIGKILL)
    until(lambda: daemon.status(VICTIM) == "Stopped")
    with suppress(FileNotFoundError):  # a zombie stays until the host's init reaps it
        assert ") Z " in Path(f"/proc/{pid}/stat").read_text()


def init_dies(daemon: Daemon) -> None:
    os.kill(daemon.pid(VICTIM), signal.SIGKILL)
    until(lambda: daemon.status(VICTIM) == "Stopped")


def daemon_stalls(daemon: Daemon) -> None:
    assert daemon.process is not None
    daemon.process.send_signal(signal.SIGSTOP)
    time.sleep(1)
    daemon.process.send_signal(signal.SIGCONT)


def run_directory_goes(daemon: Daemon) -> None:
    shutil.rmtree(daemon.directory / "run" / id_of(daemon))


def logs_go(daemon: Daemon) -> None:
    shutil.rmtree(daemon.directory / "logs" / id_of(daemon), ignore_errors=True)


def link_goes(daemon: Daemon) -> None:
    daemon.inside("ip", "link", "del", daemon.names.veth(id_of(daemon), "eth0"))


def bridge_goes(daemon: Daemon) -> None:
    (bridge,) = (link for link in daemon.links() if "-" in link)
    daemon.inside("ip", "link", "del", bridge)


def firewall_is_flushed(daemon: Daemon) -> None:
    daemon.inside("nft", "flush", "ruleset")


def root_is_unmounted(daemon: Daemon) -> None:
    (mount,) = (
        mount for mount in daemon.mounts() if id_of(daemon) in mount and mount.startswith(f"{daemon.directory}/pools")
    )
    subprocess.run(["umount", "-l", mount], check=True)


def socket_goes(daemon: Daemon) -> None:
    daemon.socket.unlink()


def descriptors_run_out(daemon: Daemon) -> None:
    """Requests may be refused meanwhile, but running instances are not considered ended, and afterwards all works."""
    assert daemon.process is not None
    pid = daemon.process.pid
    soft, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    used = len(os.listdir(f"/proc/{pid}/fd"))
    for spare in range(2, 26, 3):
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (used + spare, hard))
        for act in ("restart", "stop", "start"):
            with suppress(ApiError, AssertionError, OSError):
                daemon.change(VICTIM, act, force=True)
        with suppress(ApiError, AssertionError, OSError):
            daemon.exec(VICTIM, "true")
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft, hard))
        assert daemon.exec(BYSTANDER, "true")[0] == 0, f"with {spare} descriptors to spare"
        until(lambda: not daemon.get("/1.0/operations").get("running"))
        if daemon.status(VICTIM) != "Running":
            daemon.change(VICTIM, "start")


FAULTS = {
    "dnsmasq dies": Fault(dies("dnsmasq")),
    "lxcfs dies": Fault(dies("lxcfs -f")),
    "the monitor dies": Fault(monitor_dies, power="Stopped"),
    "the first process dies": Fault(init_dies, power="Stopped"),
    "the daemon stalls": Fault(daemon_stalls),
    "its run directory goes": Fault(run_directory_goes, power="Stopped", restart=True),
    "its logs go": Fault(logs_go),
    "its link goes": Fault(link_goes),
    "the bridge goes": Fault(bridge_goes, restart=True),
    "the firewall is flushed": Fault(firewall_is_flushed, restart=True),
    "its root is unmounted": Fault(root_is_unmounted),
    "the socket goes": Fault(socket_goes, restart=True),
    "descriptors run out": Fault(descriptors_run_out),
}


@pytest.mark.parametrize("name", FAULTS)
def test_everything_works_again_after(name: str, daemon: Daemon) -> None:
    fault = FAULTS[name]
    for guest in (VICTIM, BYSTANDER):
        if guest not in records(daemon, "instances"):
            daemon.launch(guest)
        if daemon.status(guest) != "Running":
            daemon.change(guest, "start")
    before = daemon.pid(BYSTANDER)
    fault.happen(daemon)
    if fault.restart:
        daemon.kill()
        daemon.start()
    assert daemon.pid(BYSTANDER) == before
    assert daemon.status(VICTIM) == fault.power
    daemon.change(VICTIM, "restart" if fault.power == "Running" else "start", force=True)
    assert daemon.exec(VICTIM, "hostname")[:2] == (0, f"{VICTIM}\n")
    until(lambda: "inet 10." in daemon.exec(VICTIM, "ip", "-4", "addr", "show", "eth0")[1], 20)
    until(lambda: daemon.exec(BYSTANDER, "ping", "-4", "-c", "1", "-W", "1", VICTIM)[0] == 0)
    assert settled(daemon) == []
    daemon.launch("fresh")
    for guest in ("fresh", VICTIM):
        daemon.run("DELETE", f"/1.0/instances/{guest}?force=1")
    assert settled(daemon) == []
