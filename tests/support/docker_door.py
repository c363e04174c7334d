"""The Docker door of a daemon in memory, and a client session on its socket."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
from rest_door import Stand, standing

from isola.doors import Services


@dataclass
class DockerStand:
    """An open door; ``rest`` is the other one of the same daemon."""

    rest: Stand
    session: aiohttp.ClientSession

    @property
    def services(self) -> Services:
        """The use cases behind the door."""
        return self.rest.services

    async def ask(self, method: str, path: str, body: object = None, **more: Any) -> tuple[int, Any]:
        """Status and decoded body (text where it is not JSON)."""
        if body is not None:
            more["json"] = body
        async with self.session.request(method, f"http://docker/v1.50{path}", **more) as answer:
            if answer.content_type == "application/json":
                return answer.status, await answer.json()
            return answer.status, await answer.text()

    async def get(self, path: str) -> Any:
        """The object at a path."""
        return await self.get_after("GET", path)

    async def get_after(self, method: str, path: str, body: object = None) -> Any:
        """The object in the response of a request."""
        status, body = await self.ask(method, path, body)
        assert status == 200, body
        return body


@asynccontextmanager
async def docker_standing() -> AsyncIterator[DockerStand]:
    """An open door; closed at the end."""
    async with standing() as stand:
        path = stand.path.with_name("docker.sock")
        async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(path))) as session:
            yield DockerStand(stand, session)
