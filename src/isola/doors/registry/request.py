"""A request as handlers see it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field

from aiohttp import web

from isola.access.bearer import PULL
from isola.doors import Services
from isola.doors.http.body import blocks_of, body_of
from isola.doors.registry.logins import Access, Logins
from isola.errors import InvalidInput
from isola.images.repositories import Repositories
from isola.model.reference import Ref

Pairs = tuple[tuple[str, str], ...]
_NO_REPOSITORY = Ref.default("")


@dataclass(slots=True)
class Request:
    """One request: the services for it, its path and query."""

    services: Services
    http: web.BaseRequest
    access: Access
    logins: Logins
    repository: Ref = _NO_REPOSITORY
    """The repository of the path, in the project whose images it has."""
    path: str = ""
    """The repository as the client calls it."""
    parameters: Mapping[str, str] = field(default_factory=dict)
    """Parts of the path by name, decoded."""
    pairs: Pairs = ()
    """The query in order, with repeated parameters."""

    @property
    def repositories(self) -> Repositories:
        """The use cases."""
        return self.services.repositories

    @property
    def public(self) -> bool:
        """Whether public images alone are visible."""
        return self.access.public

    @property
    def query(self) -> Mapping[str, str]:
        """Query parameters; of repeated ones the first."""
        return dict(reversed(self.pairs))

    def values(self, name: str) -> list[str]:
        """All values of a repeated parameter."""
        return [value for key, value in self.pairs if key == name]

    def may_pull(self, repository: Ref) -> bool:
        """Whether the caller may read another repository too."""
        return self.access.may(repository, PULL)

    def page(self, most: int) -> tuple[int, str]:
        """Size of the page, ``most`` by default, and the entry before it. Raises InvalidInput."""
        text = self.query.get("n", "")
        if text and (not text.isdecimal() or len(text) > 9):
            raise InvalidInput("invalid number of results requested", evidence=text[:40], field="n")
        return min(int(text), most) if text else most, self.query.get("last", "")

    async def body(self, limit: int) -> bytes:
        """The whole body. Raises TooLarge."""
        return await body_of(self.http, limit)

    def blocks(self) -> AsyncIterator[bytes]:
        """The body in blocks as they arrive. Raises InvalidInput if the client disconnects."""
        return blocks_of(self.http)
