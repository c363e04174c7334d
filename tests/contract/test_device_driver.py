"""The contract of device drivers, tested with the example configuration of each driver in the registry."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

import pytest
from network_host import new_operations

from isola import registry
from isola.devices import DeviceDriver, Parts, Plug, Target, check
from isola.errors import IsolaError
from isola.host.nodes import DeviceNumber
from isola.model.device import DeviceState
from isola.model.identity import HostNames, IdRange
from isola.model.instance import Instance
from isola.model.network import NetworkNamespace, Nic
from isola.model.reference import Ref
from isola.model.volume import VolumeRef
from isola.network import Networks
from isola.operations import Operation
from isola.runtimes import Guest, Root, RunSpec
from isola.storage import Pools, Volumes
from isola.testing.host import FakeHost, fake_host
from isola.testing.runtime import FakeRuntime

KINDS = tuple(name for name in registry.names("devices") if name != "tpm")
"""A TPM is part of a machine, which containers do not have."""


class NoNetworks:
    """A host without managed networks."""

    def find(self, name: str) -> None:
        """None."""
        return None


@dataclass
class Bench:
    """A driver, a host, and a running instance."""

    driver: DeviceDriver
    host: FakeHost
    plug: Plug
    target: Target
    runtime: FakeRuntime

    async def state(self) -> Mapping[str, object]:
        """All objects of devices on the host."""
        instance = self.runtime.instances["one"]
        return {
            "links": await self.host.links.names(),
            "macvlans": dict(self.host.links.macvlans),
            "tables": [await self.host.firewall.tables(family=family) for family in ("inet", "bridge")],
            "mounts": sorted(instance.mounts.values()),
            "devices": {number.rule for number in instance.devices},
            "files": set(await self.host.files.names(Path("/isola/devices/0123456789abcdef"))),
            "processes": {
                process.call.argv[3] for process in self.host.processes.running if len(process.call.argv) > 3
            },
        }


@pytest.fixture(params=KINDS)
async def bench(request: pytest.FixtureRequest) -> AsyncIterator[Bench]:
    """Each driver with its example."""
    kind: type[DeviceDriver] = registry.load("devices", request.param)
    host = fake_host(layout="hybrid")
    host.nodes.devices[Path("/dev/null")] = DeviceNumber(True, 1, 3)
    parts = Parts(
        host,
        Path("/isola"),
        HostNames("isola"),
        cast(Networks, NoNetworks()),
        cast(Pools, None),
        cast(Volumes, None),
        volume_ref=lambda project, pool, name: VolumeRef.custom(pool, name, project),
        network_ref=Ref,
        nic=lambda plug: cast(Nic, None),
    )
    state = DeviceState(request.param.replace("_", "-"), kind.example)
    instance = Instance("0123456789abcdef", "web1", "", IdRange(10**6), datetime.now(UTC))
    driver = kind(parts)
    plug = Plug(instance, "dev", state)
    chosen: list[DeviceState] = []

    async def choose(op: Operation) -> None:
        chosen.append(await driver.choose(op, plug, None))

    await act(host, choose)
    instance = replace(instance, plugged={"dev": chosen[0]})
    runtime = FakeRuntime(host, Path("/isola"), HostNames("isola"))
    root, network = Root(Path("/root")), NetworkNamespace(Path("/netns/1"))
    guests: list[Guest] = []

    async def run(op: Operation) -> None:
        guests.append(await runtime.run(op, RunSpec("one", "one", root, ("init",), IdRange(10**6), network=network)))
        await op.commit()

    await act(host, run)
    yield Bench(driver, host, Plug(instance, "dev", chosen[0]), Target(network, guests[0]), runtime)
    FakeRuntime.forget(host, Path("/isola"))


async def act(host: FakeHost, work: object, *, fails: bool = False) -> list[str]:
    operations = new_operations(host)
    operation = operations.start("test", work)  # type: ignore[arg-type]
    if not fails:
        await operations.finish(operation)
        return list(operation.warnings)
    with pytest.raises(IsolaError):
        await operations.finish(operation)
    return list(operation.warnings)


def test_the_example_is_valid(bench: Bench) -> None:
    check({"dev": {"type": bench.plug.state.kind, **bench.driver.example}})


async def test_attaching_and_detaching_leaves_nothing(bench: Bench) -> None:
    before = await bench.state()

    async def attach(op: Operation) -> None:
        await bench.driver.require(bench.plug)
        await bench.driver.register(op, bench.plug)
        await bench.driver.attach(op, bench.plug, bench.target)
        await op.commit()

    async def detach(op: Operation) -> None:
        await bench.driver.detach(op, bench.plug, bench.target)
        await bench.driver.unregister(op, bench.plug)
        await op.commit()

    await act(bench.host, attach)
    assert (await bench.state() != before) == (bench.plug.state.kind != "none")
    await act(bench.host, detach)
    assert await bench.state() == before
    await act(bench.host, detach)
    assert await bench.state() == before
    bench.driver.forget(bench.plug)
    await bench.driver.close()


async def test_an_attachment_is_rolled_back(bench: Bench) -> None:
    before = await bench.state()

    async def attach(op: Operation) -> None:
        await bench.driver.register(op, bench.plug)
        await bench.driver.attach(op, bench.plug, bench.target)
        raise IsolaError("not now")

    assert await act(bench.host, attach, fails=True) == []
    assert await bench.state() == before


async def test_a_detachment_is_rolled_back(bench: Bench) -> None:
    async def attach(op: Operation) -> None:
        await bench.driver.register(op, bench.plug)
        await bench.driver.attach(op, bench.plug, bench.target)
        await op.commit()

    async def detach(op: Operation) -> None:
        await bench.driver.withdraw(op, bench.plug, bench.target)
        raise IsolaError("not now")

    await act(bench.host, attach)
    there = await bench.state()
    assert await act(bench.host, detach, fails=True) == []
    assert await bench.state() == there
    await bench.driver.close()


async def test_detaching_from_an_ended_instance_needs_no_target(bench: Bench) -> None:
    before = await bench.state()

    async def attach(op: Operation) -> None:
        await bench.driver.attach(op, bench.plug, bench.target)
        await op.commit()

    async def detach(op: Operation) -> None:
        await bench.driver.detach(op, bench.plug, None)
        await op.commit()

    await act(bench.host, attach)
    bench.runtime.end("one")
    bench.host.links.vanish(bench.target.network)
    await asyncio.sleep(0)
    await act(bench.host, detach)
    after = await bench.state()
    gone = {"mounts": None, "devices": None}  # with the instance
    assert {**after, **gone} == {**before, **gone}
