"""Reaching a registry: its mirrors first, with the settings as they are now."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path

from isola.errors import Forbidden, HostFailure, InvalidInput, IsolaError, NotFound
from isola.host import Host
from isola.images.registry.credentials import Credentials
from isola.images.registry.endpoints import Endpoint, endpoints, origin
from isola.images.registry.manifests import Fetched, fetch
from isola.images.registry.session import Session
from isola.images.registry.settings import Registries, registries
from isola.model.image_reference import ImageReference

log = logging.getLogger(__name__)


class Reach:
    """Opens sessions; nothing is kept between them."""

    def __init__(self, host: Host, certificates: Path, config: Callable[[], Mapping[str, str]]) -> None:
        self._host = host
        self._certificates = certificates
        self._config = config

    @property
    def settings(self) -> Registries:
        """As they are now."""
        return registries(self._config())

    async def origin(self, domain: str, credentials: Credentials) -> Session:
        """A session with the registry itself. Raises HostFailure."""
        return await self._opened(await origin(self._host, self._certificates, self.settings, domain), credentials)

    async def find(self, reference: ImageReference, credentials: Credentials) -> tuple[Session, Fetched]:
        """The document, and a session with the server that has it: of a mirror any failure leads to the next one.

        Raises the registry's own error.
        """
        async for session in self._sessions(reference, credentials):
            try:
                return session, await fetch(session, reference)
            except (NotFound, Forbidden, HostFailure, InvalidInput) as error:
                if not session.endpoint.mirror:
                    raise
                log.warning("Mirror %s of %s failed: %s", session.url, reference.domain, error)
        raise HostFailure(f"The registry {reference.domain} has no address")

    async def _sessions(self, reference: ImageReference, credentials: Credentials) -> AsyncIterator[Session]:
        for endpoint in await endpoints(self._host, self._certificates, self.settings, reference.domain):
            try:
                session = await self._opened(endpoint, credentials)
            except IsolaError as error:
                if not endpoint.mirror:
                    raise
                log.warning("Mirror %s of %s cannot be reached: %s", endpoint.urls[0], reference.domain, error)
                continue
            yield session

    async def _opened(self, endpoint: Endpoint, credentials: Credentials) -> Session:
        session = Session(self._host, endpoint, credentials)
        await session.open()
        return session
