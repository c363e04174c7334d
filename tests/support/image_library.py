"""An image library over fakes, and images to put into it."""

from __future__ import annotations

import copy
import json
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from isola.events import Events
from isola.images import ImageLibrary
from isola.model.image import Alias, Image
from isola.operations import Operation, Operations
from isola.operations.operation import Observer
from isola.state import Intents, Scoped, record_codec
from isola.testing.host import FakeHost, fake_host
from isola.testing.images import tiny_image, tiny_split_image
from isola.testing.store import FakeStore

DIRECTORY = Path("/isola")
UPLOADS = Path("/uploads")


@dataclass
class World:
    """The host and the store, which persist when a daemon ends. ``start`` starts another daemon on them."""

    host: FakeHost = field(default_factory=fake_host)
    observer: Observer | None = None

    def __post_init__(self) -> None:
        self.state = FakeStore(self.host.clock)

    async def start(self) -> ImageLibrary:
        """An opened library with the stored records."""
        self.events = Events(self.host.clock.now)
        self.operations = Operations(
            self.events, now=self.host.clock.now, new_id=self.host.clock.uuid, observer=self.observer
        )
        images = Scoped(self.state, "image", "/images/", record_codec(Image))
        aliases = Scoped(self.state, "image alias", "/aliases/", record_codec(Alias))
        await images.load()
        await aliases.load()
        intents = Intents(self.state)
        await intents.load()
        library = ImageLibrary(
            self.host, images, aliases, self.events, DIRECTORY, operations=self.operations, intents=intents
        )
        await library.probe()
        await library.open()
        return library

    def picture(self) -> object:
        """The current content of the disk, as left by a daemon that is killed now."""
        return copy.deepcopy((self.host.files.tree, self.state._entries, self.state._revision))

    def restore(self, picture: object) -> None:
        """Restore a content of the disk."""
        self.host.files.tree, self.state._entries, self.state._revision = copy.deepcopy(picture)  # type: ignore[misc]

    async def run(self, work: Callable[[Operation], Awaitable[object]]) -> Operation:
        """Run an operation to its end; raises its error."""
        return await self.operations.finish(self.operations.start("Test", work))

    async def upload(self, name: str, content: bytes) -> Path:
        """A file that a client has sent."""
        await self.host.files.make_directory(UPLOADS)
        await self.host.files.write(UPLOADS / name, content)
        return UPLOADS / name

    async def blobs(self) -> set[str]:
        """Digests on disk."""
        return {f"sha256:{name}" for name in await self.host.files.names(DIRECTORY / "images/blobs/sha256")}

    async def leftovers(self) -> tuple[str, ...]:
        """Files in the scratch space."""
        return await self.host.files.names(DIRECTORY / "images/scratch")


def unified(name: str = "tiny", **options: object) -> bytes:
    """A unified tarball."""
    return _made(tiny_image, name, json.dumps(options))[0]


def split(name: str = "tiny", **options: object) -> Sequence[bytes]:
    """Metadata and root."""
    return _made(tiny_split_image, name, json.dumps(options))


@cache
def _made(make: Callable[..., Path | tuple[Path, ...]], name: str, options: str) -> Sequence[bytes]:
    """Compressed once for all tests that want the same."""
    with tempfile.TemporaryDirectory() as directory:
        paths = make(Path(directory), name, **json.loads(options))
        return [path.read_bytes() for path in (paths if isinstance(paths, tuple) else (paths,))]
