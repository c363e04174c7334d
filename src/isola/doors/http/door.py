"""A door as its listeners see it."""

from __future__ import annotations

from typing import Protocol

from aiohttp import web

from isola.model.caller import Caller


class Door(Protocol):
    """One API: turns requests into responses."""

    async def answer(self, request: web.BaseRequest, caller: Caller) -> web.StreamResponse:
        """Raises nothing but CancelledError and ConnectionError."""

    def malformed(self, status: int, message: str) -> web.Response:
        """The response to what is not HTTP, or to a failure below the handlers (status 500 and above)."""

    def claims(self, path: str) -> bool:
        """Whether a request on a listener that several doors share is for this one."""

    async def close(self) -> None:
        """End the requests that would otherwise last."""
