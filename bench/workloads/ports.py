"""Data through published ports and over the bridge, into containers of docker's command line."""

import socket
import subprocess
import sys
import time
from typing import Any, ClassVar

from bench.shell import run, until
from bench.workload import Workload

ORDER = 85
_PORT = 18080
_SECONDS = 1.0
_BLOCK = 1 << 20
_OUTSIDE, _LINK = "bench-outside", "bench-up"
_HOST, _CLIENT = "192.0.2.1", "192.0.2.2"
_SEND = """
import sys
sys.path.insert(0, sys.argv[1])
from bench.workloads.ports import rate
print(rate(sys.argv[2], int(sys.argv[3])))
"""


def rate(address: str, port: int) -> float:
    """MiB/s that a connection takes."""
    block, sent = bytes(_BLOCK), 0
    with socket.create_connection((address, port), timeout=10) as connection:
        start = time.perf_counter()
        while (spent := time.perf_counter() - start) < _SECONDS:
            connection.sendall(block)
            sent += 1
    return sent / spent


class Local(Workload):
    """A program of the host."""

    name = "docker-port-local"
    title = "throughput of a published port, from 127.0.0.1"
    needs = ("container_serve", "container_address", "container_remove")
    unit = "MiB/s"
    more_is_better = True
    targets: ClassVar = {"docker": 1.0}
    samples = 3
    address: ClassVar = "127.0.0.1"
    port: ClassVar = _PORT

    def prepare(self, subject: Any) -> None:
        """A container that reads what is sent to it."""
        subject.container_serve("bench-dp", _PORT)
        for _ in until(10, 0.05):
            try:
                probe = socket.create_connection((self.where(subject), self.port), timeout=1)
            except OSError:
                continue
            probe.close()
            break

    def where(self, subject: Any) -> str:
        """The address that is connected to."""
        return self.address

    def sample(self, subject: Any) -> float:
        """Send."""
        return rate(self.where(subject), self.port)

    def finish(self, subject: Any) -> None:
        """Remove it."""
        subject.container_remove("bench-dp")


class Bridge(Local):
    """Without a published port between."""

    name = "docker-bridge"
    title = "throughput from the host to a container, over the bridge"
    port: ClassVar = 80

    def where(self, subject: Any) -> str:
        """The container's own address."""
        return str(subject.container_address("bench-dp"))


class Outside(Local):
    """Another machine: a network namespace on a link of the host."""

    name = "docker-port-outside"
    title = "throughput of a published port, from another machine"
    address: ClassVar = _HOST

    def prepare(self, subject: Any) -> None:
        """The container, and the machine."""
        run(["ip", "netns", "add", _OUTSIDE])
        run(["ip", "link", "add", _LINK, "type", "veth", "peer", "name", "eth0", "netns", _OUTSIDE])
        run(["ip", "addr", "add", f"{_HOST}/24", "dev", _LINK])
        run(["ip", "link", "set", _LINK, "up"])
        run(["ip", "-n", _OUTSIDE, "addr", "add", f"{_CLIENT}/24", "dev", "eth0"])
        run(["ip", "-n", _OUTSIDE, "link", "set", "eth0", "up"])
        super().prepare(subject)

    def sample(self, subject: Any) -> float:
        """Send from there."""
        argv = ["ip", "netns", "exec", _OUTSIDE, sys.executable, "-c", _SEND, sys.path[0], _HOST, str(_PORT)]
        return float(subprocess.run(argv, check=True, capture_output=True, timeout=60).stdout)

    def finish(self, subject: Any) -> None:
        """Remove both."""
        super().finish(subject)
        run(["ip", "link", "del", _LINK])
        run(["ip", "netns", "del", _OUTSIDE])


WORKLOADS = (Local, Outside, Bridge)
