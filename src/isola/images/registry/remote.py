"""A name of a registry that has been looked up, and what belongs to it there."""

from __future__ import annotations

from dataclasses import dataclass

from isola.images.registry.blobs import RegistryBlob
from isola.images.registry.manifests import Fetched, fetch
from isola.images.registry.session import Session
from isola.model.image_reference import ImageReference


@dataclass(frozen=True, slots=True)
class Remote:
    """Reads with the session that found the document: that of the registry or of a mirror."""

    session: Session
    found: Fetched
    reference: ImageReference

    async def at(self, digest: str) -> Fetched:
        """Another document of the repository. Raises NotFound, Forbidden, InvalidInput, HostFailure."""
        return await fetch(self.session, self.reference.at(digest=digest))

    def blob(self, digest: str) -> RegistryBlob:
        """One of the repository, to be read."""
        return RegistryBlob(self.session, self.reference.path, digest)
