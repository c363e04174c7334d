"""A bridge driver in a separate network namespace, with guests on its networks."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

from daemon import TIMEOUT_FACTOR
from netns import Guest, Netns

from isola.events import Events
from isola.host import Host
from isola.model.identity import HostNames
from isola.model.network import Network, Nic
from isola.network.drivers.bridge import BridgeNetworks
from isola.operations import Operation, Operations

NAMES = HostNames("isola-7e57")


@dataclass
class Bed:
    """A bridge driver and its environment, as in a daemon."""

    host: Host
    directory: Path
    driver: BridgeNetworks
    netns: Netns
    nics: list[Nic] = field(default_factory=list)

    async def act(self, work: Callable[[Operation], Awaitable[object]]) -> None:
        """Run ``work(op)`` as an operation."""
        operations = Operations(Events(self.host.clock.now), now=self.host.clock.now, new_id=self.host.clock.uuid)
        await operations.finish(operations.start("test", work))

    async def network(self, **config: str) -> Network:
        """A completed network, up."""
        completed = await self.driver.complete({key.replace("_", "."): value for key, value in config.items()}, ())
        network = Network("lab", config=completed)
        await self.act(lambda op: self.driver.start(op, network, ()))
        return network

    async def nic(
        self, network: Network, name: str, *, configure: bool = False, mac: str = "", ipv4: str = ""
    ) -> tuple[Nic, Guest]:
        """A registered NIC attached to a guest."""
        serial = len(self.nics) + 1
        plan = self.driver.plan(network)
        assert plan.ipv4 is not None and plan.ipv6 is not None
        nic = Nic(
            instance_id=f"id-{name}",
            instance_name=name,
            device="eth0",
            interface="eth0",
            network=network.ref,
            mac=mac or f"0a:69:73:00:00:{serial:02x}",
            host_link=NAMES.veth(f"id-{name}", "eth0"),
            ipv4=ipv4 or str(plan.ipv4.ip + 10 + serial),
            ipv6=f"{str(plan.ipv6.network).removesuffix('::/64')}:869:73ff:fe00:{serial:x}",
            configure=configure,
        )
        guest = self.netns.guest()
        self.nics.append(nic)
        await self.act(lambda op: self.driver.register(op, network, nic))
        await self.act(lambda op: self.driver.attach(op, network, nic, guest.endpoint))
        return nic, guest

    async def gone(self, network: Network) -> None:
        """Detach its NICs, stop it, and check that nothing is left."""
        for nic in self.nics:
            await self.act(lambda op, nic=nic: self.driver.detach(op, network, nic))  # type: ignore[misc]
            await self.act(lambda op, nic=nic: self.driver.unregister(op, network, nic))  # type: ignore[misc]
        await self.act(lambda op: self.driver.stop(op, network))
        assert await self.host.links.names(NAMES.short) == ()
        assert await self.host.firewall.tables() == ()
        assert os.listdir(self.directory / "networks") == []


async def lease(guest: Guest, directory: Path, hostname: str = "x") -> dict[str, str]:
    """The lease of busybox' DHCP client, configured on the guest's eth0."""
    script = directory / "udhcpc.sh"
    route = '[ -z "$router" ] || ip route add default via $router'
    script.write_text(f'#!/bin/sh\n[ "$1" = bound ] || exit 0\nip addr add $ip/$mask dev eth0\n{route}\nset\n')
    script.chmod(0o755)
    await guest.check("ip", "link", "set", "lo", "up")
    await guest.check("ip", "link", "set", "eth0", "up")
    output = await guest.check(
        *("busybox", "udhcpc", "-i", "eth0", "-n", "-q", "-f", "-t", "5", "-T", "1"),
        *("-O", "search", "-x", f"hostname:{hostname}", "-s", str(script)),
    )
    pairs = (line.partition("=") for line in output.splitlines() if "=" in line)
    return {key: value.strip("'") for key, _, value in pairs}


async def resolve(guest: Guest, name: str, server: str) -> str:
    """The response of the network's name server, as text."""
    _, first = await guest.run("busybox", "nslookup", name, server)
    return first


async def eventually(test: Callable[[], Awaitable[bool]], seconds: float = 60.0) -> None:
    """Wait until ``await test()`` is true."""
    end = asyncio.get_running_loop().time() + seconds * TIMEOUT_FACTOR
    while not await test():
        assert asyncio.get_running_loop().time() < end, f"{test.__name__} not within {seconds} s"
        await asyncio.sleep(0.05)


async def ipv6_address(guest: Guest) -> list[str]:
    """Global addresses that are usable."""
    output = await guest.check("ip", "-6", "-o", "addr", "show", "dev", "eth0", "scope", "global")
    return [line.split()[3] for line in output.splitlines() if "tentative" not in line]
