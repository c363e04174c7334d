"""A running instance with an address, and its proxies."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from ipaddress import ip_interface

from daemon import Daemon
from lxc_client import Lxc


@dataclass
class Bed:
    """A running instance with an address, and access to its network and the host's."""

    daemon: Daemon
    lxc: Lxc
    name: str

    @property
    def host(self) -> list[str]:
        return ["nsenter", f"--net=/run/netns/{self.daemon.netns}"]

    @property
    def inside(self) -> list[str]:
        return ["nsenter", "-t", str(self.daemon.pid(self.name)), "-n"]

    @property
    def gateway(self) -> str:
        return str(ip_interface(self.daemon.get("/1.0/networks/isolabr0")["config"]["ipv4.address"]).ip)

    @property
    def address(self) -> str:
        return str(self.daemon.get(f"/1.0/instances/{self.name}")["config"]["volatile.eth0.ipv4"])

    def configure(self) -> None:
        """Configure the NIC like a DHCP client inside."""
        run = [*self.inside, "ip"]
        prefix = ip_interface(self.daemon.get("/1.0/networks/isolabr0")["config"]["ipv4.address"]).network.prefixlen
        for arguments in (
            "link set lo up",
            "link set eth0 up",
            f"addr add {self.address}/{prefix} dev eth0",
            f"route add default via {self.gateway}",
        ):
            subprocess.run([*run, *arguments.split()], check=True)

    def add(self, device: str, *config: str, status: int = 0) -> None:
        self.lxc("config", "device", "add", self.name, device, "proxy", *config, status=status)

    def remove(self, device: str) -> None:
        self.lxc("config", "device", "remove", self.name, device)

    def rewriting(self) -> set[str]:
        """Tables of published ports."""
        return {line for line in self.daemon.tables() if line.split()[1] in ("ip", "ip6")}

    def publishers(self) -> list[int]:
        """PIDs of the process for published ports."""
        found = self.daemon.host_processes().items()
        return sorted(int(pid) for pid, argv in found if "isola.host.published" in argv)

    def forwarders(self) -> list[int]:
        """PIDs of the forwarders, including parents and children."""
        found = self.daemon.host_processes().items()
        return sorted(int(pid) for pid, argv in found if "isola.host.forwarder" in argv)
