"""The image source kind: where images come from. ``drivers/<name>.py`` exports its class as ``DRIVER``."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from isola.host import Host
from isola.model.probe import Probe
from isola.operations import Operation

if TYPE_CHECKING:
    from isola.images.store import ContentStore
    from isola.model.image import Image


@dataclass(frozen=True, slots=True)
class SourceRequest:
    """What to fetch: ``name`` in the source's own words (``debian/12``), options, or an uploaded file."""

    name: str = ""
    options: Mapping[str, str] = field(default_factory=dict)
    files: tuple[Path, ...] = ()
    """Uploaded files: one unified tarball, or metadata and root file system."""
    properties: Mapping[str, str] = field(default_factory=dict)


class ImageSource(ABC):
    """Fetches or builds an image into the content store."""

    def __init__(self, host: Host, store: ContentStore, directory: Path) -> None:
        self.host = host
        self.store = store
        self.directory = directory
        """Scratch space of this daemon; emptied at start."""

    @classmethod
    @abstractmethod
    async def probe(cls, host: Host) -> Probe:
        """Does it work here, which version, and if not why and what to do."""

    @abstractmethod
    def offers(self) -> Mapping[str, str]:
        """Names it can fetch without more options -> description: what ``isola launch NAME`` may build on demand."""

    @abstractmethod
    async def fetch(self, op: Operation, request: SourceRequest) -> Image:
        """Bring the image into the store and describe it; what was added is undone by ``op`` until it commits."""
