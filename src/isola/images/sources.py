"""The image sources of this host: whether they work, and the images they offer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from isola import registry
from isola.errors import DriverUnavailable
from isola.host import Host
from isola.host.probing import TIMEOUT, probed
from isola.images.source import ImageSource
from isola.model.probe import Probe


class Sources:
    """All image source drivers, one instance of each."""

    def __init__(
        self, host: Host, scratch: Path, certificates: Path, config: Callable[[], Mapping[str, str]] = dict
    ) -> None:
        """``certificates``: of registries. ``config``: of the server."""
        self._host = host
        self._all: dict[str, ImageSource] = {
            name: registry.load("images", name)(host, scratch, certificates, config)
            for name in registry.names("images")
        }
        self.probes: dict[str, Probe] = {}

    async def probe(self, timeout: float = TIMEOUT) -> None:
        probes = (
            probed(name, source.probe(self._host), timeout=timeout, try_anyway=True)
            for name, source in self._all.items()
        )
        self.probes = dict(zip(self._all, await asyncio.gather(*probes), strict=True))

    def offers(self) -> dict[str, str]:
        """Names that the working sources offer -> description."""
        working = [source for name, source in self._all.items() if self._works(name)]
        return {name: text for source in working for name, text in source.offers().items()}

    def get(self, name: str) -> ImageSource:
        """Raises NotFound, DriverUnavailable."""
        if name not in self._all:
            registry.load("images", name)  # raises NotFound with the known names
        if not self._works(name):
            probe = self.probes[name]
            raise DriverUnavailable(
                f"The image source {name!r} does not work on this host", evidence=probe.reason, remedy=probe.remedy
            )
        return self._all[name]

    def offering(self, reference: str) -> tuple[str, str] | None:
        """The source that offers ``reference``, working or not, and the canonical name; None if there is none."""
        for name, source in self._all.items():
            if source.serves(reference):
                return name, source.canonical(reference)
        return None

    def of_type(self, reference: str, type: str) -> str:
        """The name under which there is an image for this type of instances; ``reference`` itself if there is none."""
        for source in self._all.values():
            if source.serves(reference):
                return source.of_type(reference, type)
        return reference

    def aliases(self, source: str, name: str) -> Sequence[str]:
        """The aliases that an image gets which was asked for by this name."""
        return self._all[source].aliases(name)

    def _works(self, name: str) -> bool:
        return name not in self.probes or self.probes[name].available
