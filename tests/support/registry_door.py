"""The registry of a daemon in memory, and a client on a socket, to which it is an administrator."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import aiohttp
import orjson
from registry_content import Content
from rest_door import Stand, standing
from yarl import URL

from isola.doors import Services
from isola.doors.http.unix import serve_unix


@dataclass(frozen=True)
class Answer:
    """A response."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self):  # type: ignore[no-untyped-def]
        return orjson.loads(self.body)

    @property
    def code(self) -> str:
        """The code of its error."""
        [error] = self.json["errors"]
        return str(error["code"])


@dataclass
class Client:
    """Speaks to one registry. ``headers`` are sent with every request."""

    session: aiohttp.ClientSession
    base: str
    headers: dict[str, str] = field(default_factory=dict)

    async def ask(
        self, method: str, path: str, data: object = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        url = URL(self.base + path, encoded=True)
        async with self.session.request(method, url, data=data, headers={**self.headers, **(headers or {})}) as answer:
            return Answer(answer.status, answer.headers, await answer.read())

    async def push_blob(self, repository: str, digest: str, data: bytes) -> Answer:
        """In one piece."""
        return await self.ask("POST", f"/v2/{repository}/blobs/uploads/?digest={digest}", data)

    async def push(self, repository: str, content: Content, reference: str = "") -> Answer:
        """A manifest with everything that it needs; by default under its digest."""
        for digest, data in content.blobs.items():
            answer = await self.push_blob(repository, digest, data)
            assert answer.status == 201, answer
        for each in content.manifests:
            assert (await self.push(repository, each)).status == 201
        return await self.put(repository, content, reference)

    async def put(self, repository: str, content: Content, reference: str = "", query: str = "") -> Answer:
        """A manifest alone."""
        path = f"/v2/{repository}/manifests/{reference or content.digest}{query}"
        return await self.ask("PUT", path, content.data, {"Content-Type": content.media_type})

    async def begin(self, repository: str) -> str:
        """The path of a new upload."""
        answer = await self.ask("POST", f"/v2/{repository}/blobs/uploads/")
        assert answer.status == 202, answer
        return answer.headers["Location"]


@dataclass
class RegistryStand:
    """An open door; ``rest`` is another one of the same daemon."""

    rest: Stand
    client: Client

    @property
    def services(self) -> Services:
        """The use cases behind the door."""
        return self.rest.services


@asynccontextmanager
async def registry_standing() -> AsyncIterator[RegistryStand]:
    """An open registry; closed at the end."""
    async with standing() as stand:
        path = stand.path.with_name("registry.sock")
        server = await serve_unix(stand.doors.registry, path)
        try:
            async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(path))) as session:
                yield RegistryStand(stand, Client(session, "http://registry"))
        finally:
            await server.close()
