"""The driver kind for image sources. ``drivers/<name>.py`` exports its class as ``DRIVER``."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from isola.host import Host
from isola.host.cancellation import finish
from isola.images.registry.credentials import ANONYMOUS, Credentials
from isola.images.registry.progress import Watch, unwatched
from isola.images.store import Intake
from isola.model.image import Image
from isola.model.probe import Probe
from isola.operations import Operation
from isola.settings import Settings

_NOWHERE = Path("/nonexistent")


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
    credentials: Credentials = ANONYMOUS
    """For the registry of an image."""
    watch: Watch = unwatched
    """Told about each layer that is transferred."""


class ImageSource(ABC):
    """Fetches or builds an image into the content store."""

    settings: ClassVar[Settings] = Settings("image option")
    """Options of a request."""

    def __init__(
        self,
        host: Host,
        directory: Path,
        certificates: Path = _NOWHERE,
        config: Callable[[], Mapping[str, str]] = dict,
    ) -> None:
        self.host = host
        self.certificates = certificates
        """Directories of certificates by host and port, as Docker's ``certs.d``."""
        self.config = config
        """The configuration of the server."""
        self.directory = directory
        """Scratch space on the store's file system, emptied at start; each ``fetch`` has its own directory in it."""

    @classmethod
    @abstractmethod
    async def probe(cls, host: Host) -> Probe:
        """Whether it works on this host, its version, and if not why and what to do."""

    @abstractmethod
    def offers(self) -> Mapping[str, str]:
        """Names that need no options -> description; creating an instance builds them on demand."""

    def serves(self, name: str) -> bool:
        """Whether it can bring an image of this name: one of those it offers, or one that it would ask for."""
        return name in self.offers()

    def canonical(self, name: str) -> str:
        """The canonical name among synonyms (``debian/bookworm`` is ``debian/12``)."""
        return name

    def of_type(self, name: str, type: str) -> str:
        """The name of the same image for instances of this type, if it has one; else the name itself."""
        return name

    def aliases(self, name: str) -> Sequence[str]:
        """The aliases that an image fetched by this name gets."""
        return sorted({name, self.canonical(name)})

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
