"""Booted kernels that are kept: complete or not at all, a few, and none for another machine or program."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

from isola.errors import HostFailure
from isola.host import Host
from isola.runtimes.qemu import saving
from isola.runtimes.qemu.engines import Engines
from isola.runtimes.qemu.kit import Kit
from isola.runtimes.qemu.saving import Shape, State
from isola.runtimes.qemu.warm import MOST, PLACE, Warm
from isola.testing.host import fake_host

SHAPE = Shape("tcg", "", 256 << 20, 1, 5, terminal=False)
KIT = Kit(Path("/kit"), "6.1", "6.1-1", "stamp", ())
ENGINES = Engines(("/qemu",), ("/virtiofsd",), (), ())
DIRECTORY = Path("/isola")


def saves(host: Host, *, whole: bool = True) -> object:
    async def save(to: Path) -> None:
        await host.files.write(to / saving.MEMORY, b"memory")
        if not whole:
            raise HostFailure("The state could not be saved", evidence="no space left on device")
        text = json.dumps(dataclasses.asdict(State("10.0.13", SHAPE, [])))
        await host.files.write(to / saving.STATE, text.encode())

    return save


async def keep(host: Host, warm: Warm, shape: Shape = SHAPE, *, whole: bool = True) -> None:
    await warm.keep("one", saves(host, whole=whole), shape, KIT, ENGINES)  # type: ignore[arg-type]


async def test_one_is_found_by_the_machine_the_kernel_and_the_programs() -> None:
    host = fake_host()
    warm = Warm(host, DIRECTORY)
    assert await warm.find(SHAPE, KIT, ENGINES) is None
    await keep(host, warm)
    found = await Warm(host, DIRECTORY).find(SHAPE, KIT, ENGINES)
    assert found is not None and found.parent == DIRECTORY / PLACE
    assert await warm.find(dataclasses.replace(SHAPE, memory=512 << 20), KIT, ENGINES) is None
    assert await warm.find(SHAPE, dataclasses.replace(KIT, stamp="newer"), ENGINES) is None
    assert await warm.find(SHAPE, KIT, dataclasses.replace(ENGINES, qemu=("/newer",))) is None
    await warm.drop(found)
    assert await warm.find(SHAPE, KIT, ENGINES) is None


async def test_a_failure_leaves_nothing_and_what_a_killed_daemon_left_is_removed() -> None:
    host = fake_host()
    warm = Warm(host, DIRECTORY)
    await keep(host, warm, whole=False)
    assert await host.files.names(DIRECTORY / PLACE) == ()
    await host.files.make_directory(DIRECTORY / PLACE / "making-other")
    await keep(host, warm)
    assert len(await host.files.names(DIRECTORY / PLACE)) == 1


async def test_a_few_are_kept() -> None:
    host = fake_host()
    warm = Warm(host, DIRECTORY)
    shapes = [dataclasses.replace(SHAPE, cpus=number) for number in range(1, MOST + 3)]
    for shape in shapes:
        await keep(host, warm, shape)
    there = [await warm.find(shape, KIT, ENGINES) is not None for shape in shapes]
    assert sum(there) == MOST and there[-1]
    assert len(await host.files.names(DIRECTORY / PLACE)) == MOST
