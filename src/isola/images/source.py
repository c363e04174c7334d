"""The image source kind: where images come from. ``drivers/<name>.py`` exports its class as ``DRIVER``."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from isola.host import Host
from isola.host.cancellation import finish
from isola.images.store import Intake
from isola.model.image import Image
from isola.model.probe import Probe
from isola.operations import Operation
from isola.settings import Settings


@dataclass(frozen=True, slots=True)
class SourceRequest:
    """What to fetch: ``name`` in the source's own words (``debian/12``), options, or uploaded files."""

    name: str = ""
    options: Mapping[str, str] = field(default_factory=dict)
    files: tuple[Path, ...] = ()
    """Uploaded files: one unified tarball, or metadata and root file system."""
    properties: Mapping[str, str] = field(default_factory=dict)
    """Overrule what the image says of itself."""
    fingerprint: str = ""
    """SHA-256 over the files, where the caller has computed it."""
    filename: str = ""
    """What the uploader calls the file."""


class ImageSource(ABC):
    """Fetches or builds an image into the content store."""

    settings: ClassVar[Settings] = Settings("image option")
    """Options of a request."""

    def __init__(self, host: Host, directory: Path) -> None:
        self.host = host
        self.directory = directory
        """Scratch space on the store's file system, emptied at start; each ``fetch`` works in a place of its own."""

    @classmethod
    @abstractmethod
    async def probe(cls, host: Host) -> Probe:
        """Does it work here, which version, and if not why and what to do."""

    @abstractmethod
    def offers(self) -> Mapping[str, str]:
        """Names it can fetch without more options -> description: what an instance's creation may build on demand."""

    def canonical(self, name: str) -> str:
        """The one name of all that mean the same image (``debian/bookworm`` is ``debian/12``)."""
        return name

    @abstractmethod
    def check(self, request: SourceRequest) -> None:
        """Raise InvalidInput for a request that makes no sense here, before anything is begun."""

    async def fetch(self, op: Operation, request: SourceRequest, intake: Intake) -> Image:
        """Bring the image's blobs in and describe it; the library records it, or lets the blobs go again.

        Nothing else stays behind: processes, mounts, files. Raises what ``check`` raises.
        """
        self.check(request)
        files, place = self.host.files, self.directory / f"work-{self.host.clock.token(8)}"
        await op.effect(
            "make a place for the image",
            lambda: files.make_directory(place, mode=0o700),
            undo=lambda: files.remove_tree(place),
        )
        try:
            return await self._fetch(op, request, intake, place)
        finally:
            await finish(files.remove_tree(place))

    @abstractmethod
    async def _fetch(self, op: Operation, request: SourceRequest, intake: Intake, place: Path) -> Image:
        """The same, with a directory to work in that is removed afterwards; steps show progress."""
