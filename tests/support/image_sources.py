"""A source of images with a store."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from tars import member

from isola import registry
from isola.events import Events
from isola.host import Host
from isola.images import ImageSource, SourceRequest
from isola.images.store import ContentStore
from isola.model.image import Image
from isola.operations import Operation, Operations
from isola.state import Intents
from isola.testing.store import FakeStore

PULLED = "registry.example/system:1"
GOOD = member("metadata.yaml", b"architecture: x86_64\ncreation_date: 1700000000\nproperties: {os: X}\n")


@dataclass
class Bench:
    """A source with a store, and a request that it can serve."""

    host: Host
    store: ContentStore
    source: ImageSource
    request: SourceRequest
    operation: Operation | None = None

    async def fetch(self, request: SourceRequest | None = None) -> Image:
        """In an operation of its own."""
        operations = Operations(Events(self.host.clock.now), now=self.host.clock.now, new_id=self.host.clock.uuid)
        found: list[Image] = []
        self.intake = self.store.intake()

        async def work(op: Operation) -> None:
            found.append(await self.source.fetch(op, request or self.request, self.intake))

        self.operation = operations.start("Fetch", work)
        await operations.finish(self.operation)
        return found[0]

    async def scratch(self) -> tuple[str, ...]:
        return await self.host.files.names(self.store.scratch)


async def bench(host: Host, name: str, place: Path, uploads: Path) -> Bench:
    store = ContentStore(host, place, Intents(FakeStore(host.clock)))
    await store.open()
    source = registry.load("images", name)(host, store.scratch)
    names = [*source.offers(), *([PULLED] if name == "oci" else [])]
    request = SourceRequest(name=names[0]) if names else SourceRequest(files=(uploads / "meta", uploads / "root"))
    return Bench(host, store, source, request)


async def taken(made: Bench, *uploads: bytes, properties: Mapping[str, str] = MappingProxyType({})) -> Image:
    paths = []
    for number, data in enumerate(uploads):
        paths.append(made.store.directory.parent / f"upload-{number}")
        await made.host.files.write(paths[-1], data)
    return await made.fetch(SourceRequest(files=tuple(paths), properties=properties))
