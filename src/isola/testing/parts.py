"""The whole daemon in memory: the real use cases with fake drivers on a fake host, which persist when it ends."""

from __future__ import annotations

import io
import itertools
import json
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from isola import registry
from isola.daemon.bootstrap import bootstrap
from isola.daemon.build import Drivers, Parts, build
from isola.host import Host
from isola.instances.context import Context
from isola.model.identity import HostNames
from isola.model.instance import Instance, InstanceRequest
from isola.model.reference import Ref
from isola.operations import Observer, Operation
from isola.testing.clock import FakeClock
from isola.testing.files import FakeFiles
from isola.testing.host import FakeHost, fake_host
from isola.testing.network import FakeNetwork
from isola.testing.runtime import FakeInstance, FakeRuntime
from isola.testing.storage import FakeStorage
from isola.testing.store import FakeStore
from isola.testing.system import FakeSystem

RUNTIME, IMAGE = "fake", "tiny"
_MEMBERS: Mapping[str, bytes] = {
    "metadata.yaml": json.dumps(
        {"architecture": "x86_64", "creation_date": 1_700_000_000, "properties": {"os": "Tiny", "release": "1"}}
    ).encode(),
    "rootfs/sbin/init": b"#!/bin/sh\n",
    "rootfs/etc/hostname": b"tiny\n",
}
_numbers = itertools.count()
_NO_MORE = Drivers()


class HostedRuntime(FakeRuntime):
    """A fake runtime whose instances end on the stop signals of their images, and on signals sent by tests."""

    def __init__(self, host: Host, directory: Path, names: HostNames) -> None:
        super().__init__(host, directory, names)
        self.ends_on = frozenset({9, 12, 15, 30, 37})


def host_with_ids(
    *, files: FakeFiles | None = None, clock: FakeClock | None = None, system: FakeSystem | None = None
) -> FakeHost:
    """A host that grants root the ids for 256 instances."""
    return fake_host(granted=((1 << 20, 1 << 24),), files=files, clock=clock, system=system)


@dataclass
class World:
    """The host and the store, which persist when a daemon ends. ``start`` starts another daemon on them."""

    host: FakeHost = field(default_factory=host_with_ids)
    observer: Observer | None = None
    directory: Path = field(default_factory=lambda: Path(f"/isola/{next(_numbers)}"))
    engine: type[FakeRuntime] = HostedRuntime
    more: Drivers = _NO_MORE
    """Drivers in addition to the fakes, by name."""

    def __post_init__(self) -> None:
        self.store = FakeStore(self.host.clock)

    async def start(self) -> Parts:
        """Build and open the daemon; parts of earlier daemons are not used any more."""
        drivers = Drivers(
            {RUNTIME: self.engine, **(self.more.runtimes or {})},
            {"overlay": FakeStorage, **(self.more.storage or {})},
            {
                "bridge": FakeNetwork,
                "configuration": registry.load("network", "configuration"),
                **(self.more.network or {}),
            },
        )
        self.parts = await build(self.host, self.directory, self.store, self.observer, drivers)
        await self.parts.open()
        await bootstrap(self.parts)
        return self.parts

    async def import_image(self, alias: str = IMAGE, **properties: str) -> str:
        """Import a tiny image; returns its fingerprint."""
        file = self.directory / "uploads" / alias
        await self.host.files.make_directory(file.parent)
        await self.host.files.write(file, tiny_archive(properties))
        operation = self.parts.services.images.start_import([file], aliases=[alias])
        await self.finish(operation)
        return str(operation.metadata["fingerprint"])

    async def finish(self, operation: Operation) -> Operation:
        """Wait for its end; raises the operation's error."""
        return await self.parts.services.operations.finish(operation)

    async def create(self, name: str, *, start: bool = False, image: str | None = IMAGE, **wanted: object) -> Instance:
        """Create an instance of the image, and start it if requested."""
        wanted = {"isolation": self.isolation} | wanted
        request = InstanceRequest(name=name, image=image, start=start, **wanted)  # type: ignore[arg-type]
        await self.finish(self.parts.services.instances.create(request))
        return self.parts.services.instances.get(Ref(request.project, name))

    @property
    def isolation(self) -> str:
        """The isolation that its runtime offers."""
        return min(self.engine.capabilities.isolations)

    @property
    def context(self) -> Context:
        """The context of the verbs of instances."""
        return self.parts.context

    @property
    def runtime(self) -> FakeRuntime:
        """The runtime of the current daemon."""
        return cast(FakeRuntime, self.parts.services.runtimes.find(RUNTIME))

    def on_host(self, name: str) -> FakeInstance:
        """The state of a running instance on the fake host."""
        return self.runtime.instances[self.parts.services.instances.get(Ref.default(name)).id]

    def forget(self) -> None:
        """Free the state that the fake runtimes of all daemons share."""
        FakeRuntime.forget(self.host, self.directory)


def tiny_archive(properties: Mapping[str, str] | None = None) -> bytes:
    """A unified image tarball."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for path, content in _MEMBERS.items():
            if path == "metadata.yaml" and properties:
                described = json.loads(content)
                described["properties"] |= properties
                content = json.dumps(described).encode()  # noqa: PLW2901
            member = tarfile.TarInfo(path)
            member.size = len(content)
            member.mode = 0o755
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()
