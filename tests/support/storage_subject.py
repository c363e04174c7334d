"""A storage driver on a host, and helpers for its contract tests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from network_host import act

from isola.errors import HostFailure
from isola.host import Host
from isola.model.identity import IdRange
from isola.model.storage import Pool, Volume
from isola.operations import Operation
from isola.storage import Unpack, VolumeDriver

IDS = IdRange(600000)
EMPTY = ((), (), (), (), ())
BASE, TOP = f"sha256:{'a' * 64}", f"sha256:{'b' * 64}"


@dataclass
class Subject:
    """A driver's class on a host."""

    kind: type[VolumeDriver]
    host: Host
    directory: Path

    def __post_init__(self) -> None:
        self.driver = self.again()

    def again(self) -> VolumeDriver:
        """Another driver object, as in the next daemon."""
        config = {"size": "256MiB"} if self.kind.settings.find("btrfs.mount_options") else {}
        return self.kind(self.host, Pool("p", config=config), self.directory / "p")

    async def do(self, work: Callable[[Operation], Awaitable[object]]) -> None:
        await act(self.host, work)

    def layer(self, **files: str) -> Unpack:
        """Unpack files with these names and contents, owned by root of the image."""

        async def unpack(layer: str, target: Path) -> None:
            async with self.host.files.root(target) as root:
                for name, text in files.items():
                    await root.write(f"/{name}", stream_of(text), uid=0, gid=0, mode=0o644)

        return unpack

    def image(self, layers: Mapping[str, Mapping[str, str]]) -> Unpack:
        """The same for several layers."""

        async def unpack(layer: str, target: Path) -> None:
            await self.layer(**layers[layer])(layer, target)

        return unpack

    async def volume(self, id: str = "v1", base: int = IDS.base) -> Volume:
        """A new volume over both layers."""
        volume = Volume(id, "p", layers=(BASE, TOP), idmap=IdRange(base))
        await self.do(lambda op: self.driver.create_volume(op, volume))
        return volume

    async def mount(self, volume: Volume, holder: str = "") -> Path:
        found: list[Path] = []

        async def work(op: Operation) -> None:
            found.append(await self.driver.mount(op, volume, holder or volume.id))

        await self.do(work)
        return found[0]

    async def unmount(self, volume: Volume, holder: str = "") -> None:
        await self.do(lambda op: self.driver.unmount(op, volume, holder or volume.id))

    async def custom(self, id: str = "c1", size: int | None = None) -> Volume:
        """A new empty custom volume."""
        volume = Volume(id, "p", kind="custom", size=size)
        await self.do(lambda op: self.driver.create_volume(op, volume))
        return volume

    async def ensure(self, unpack: Unpack, *layers: str) -> None:
        await self.do(lambda op: self.driver.layers.ensure(op, layers, unpack))

    def ids(self, *layers: str) -> tuple[str, ...]:
        """Ids of the stored units of these layers, sorted."""
        return tuple(sorted(self.driver.layers.ids(layers)))

    async def mounted(self) -> tuple[Path, ...]:
        """Mount points, except that of the pool itself."""
        return tuple(each for each in await self.host.mounts.below(self.directory) if each != self.driver.place)

    async def read(self, directory: Path, path: str) -> str:
        async with self.host.files.root(directory) as root:
            return b"".join([block async for block in await root.read(path)]).decode()

    async def write(self, directory: Path, path: str, text: str, idmap: IdRange | None = IDS) -> None:
        async with self.host.files.root(directory, idmap=idmap) as root:
            await root.write(path, stream_of(text), uid=0, gid=0, mode=0o644)

    async def picture(self) -> object:
        """Objects on the host."""
        driver = self.driver
        await driver.settled()
        partial = await self.host.files.names(driver.place / "partial")
        volumes = await driver.volumes(), await driver.volumes("custom")
        return *volumes, tuple(sorted(await driver.layers.stored())), await self.mounted(), partial


async def stream_of(text: str) -> AsyncIterator[bytes]:
    yield text.encode()


class StopsAt:
    """Fails or cancels an operation at its n-th point."""

    def __init__(self, number: int, action: str) -> None:
        self.left = number
        self.action = action

    async def reached(self, operation: Operation, point: str) -> None:
        self.left -= 1
        if self.left == -1:
            if self.action == "fail":
                raise HostFailure(f"Injected failure at {point}")
            operation.cancel()
            await asyncio.sleep(0)
