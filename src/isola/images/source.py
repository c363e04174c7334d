"""The driver kind for image sources. ``drivers/<name>.py`` exports its class as ``DRIVER``."""

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
    """The image to fetch: the source's name for it (``debian/12``) with options, or uploaded files."""

    name: str = ""
    options: Mapping[str, str] = field(default_factory=dict)
    files: tuple[Path, ...] = ()
    """Uploaded files: one unified tarball, or metadata and root file system."""
    properties: Mapping[str, str] = field(default_factory=dict)
    """Properties that override those in the image."""
    fingerprint: str = ""
    """SHA-256 over the files; empty if not computed."""
    filename: str = ""
    """The client's name of the file."""


class ImageSource(ABC):
    """Fetches or builds an image into the content store."""

    settings: ClassVar[Settings] = Settings("image option")
    """Options of a request."""

    def __init__(self, host: Host, directory: Path) -> None:
        self.host = host
        self.directory = directory
        """Scratch space on the store's file system, emptied at start; each ``fetch`` has its own directory in it."""

    @classmethod
    @abstractmethod
    async def probe(cls, host: Host) -> Probe:
        """Whether it works on this host, its version, and if not why and what to do."""

    @abstractmethod
    def offers(self) -> Mapping[str, str]:
        """Names that need no options -> description; creating an instance builds them on demand."""

    def canonical(self, name: str) -> str:
        """The canonical name among synonyms (``debian/bookworm`` is ``debian/12``)."""
        return name

    @abstractmethod
    def check(self, request: SourceRequest) -> None:
        """Raise InvalidInput for an invalid request, before the operation starts."""

    async def fetch(self, op: Operation, request: SourceRequest, intake: Intake) -> Image:
        """Store the image's blobs and describe it; the library records the image, or releases the blobs.

        No processes, mounts or other files stay behind. Raises the errors of ``check``.
        """
        self.check(request)
        files, place = self.host.files, self.directory / f"work-{self.host.clock.token(8)}"
        await op.effect(
            "create a directory for the image",
            lambda: files.make_directory(place, mode=0o700),
            undo=lambda: files.remove_tree(place),
        )
        try:
            return await self._fetch(op, request, intake, place)
        finally:
            await finish(files.remove_tree(place))

    @abstractmethod
    async def _fetch(self, op: Operation, request: SourceRequest, intake: Intake, place: Path) -> Image:
        """The implementation, with a working directory that is removed afterwards; shows progress by steps."""
