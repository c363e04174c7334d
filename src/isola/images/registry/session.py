"""Requests to one registry with the authentication it asks for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime

from isola.errors import HostFailure
from isola.host import Host
from isola.host.http import FileBody, HttpRequest, HttpResponse, same_server
from isola.images.registry.challenge import Challenge, preferred
from isola.images.registry.credentials import ANONYMOUS, Credentials
from isola.images.registry.endpoints import Endpoint
from isola.images.registry.failures import failure
from isola.images.registry.tokens import fetch_token

_EARLY = 10.0
"""Seconds before its end at which a token is renewed."""
_WAITS, _LONGEST_PAUSE = 3, 60.0
"""How often, and at most how many seconds, a request waits because the registry limits requests."""
_NO_HEADERS: Mapping[str, str] = {}


@dataclass(frozen=True, slots=True)
class _Token:
    text: str
    until: float


class Session:
    """A registry that has been reached, and the tokens it gave for each scope."""

    def __init__(self, host: Host, endpoint: Endpoint, credentials: Credentials = ANONYMOUS) -> None:
        self.endpoint = endpoint
        self.url = endpoint.urls[0]
        self.credentials = ANONYMOUS if endpoint.mirror else credentials
        self._host = host
        self._challenge: Challenge | None = None
        self._tokens: dict[str, _Token] = {}
        self._asking = asyncio.Lock()

    async def open(self) -> None:
        """Find the address that answers, and how it wants to be asked. Raises HostFailure, Forbidden."""
        first: HostFailure | None = None
        for url in self.endpoint.urls:
            try:
                await self._greet(url)
                return
            except HostFailure as error:
                first = first or error
        raise first or HostFailure("The registry has no address")

    async def _greet(self, url: str) -> None:
        async with self._host.http.exchange(
            HttpRequest("GET", f"{url}/v2/", trust=self.endpoint.trust, named=self.endpoint.named)
        ) as response:
            if response.status not in (200, 401):
                error = await failure(response, "its API")
                raise HostFailure(error.message, evidence=error.evidence)
            self.url = url
            self._challenge = (
                preferred(response.headers.get("www-authenticate", "")) if response.status == 401 else None
            )

    @asynccontextmanager
    async def request(
        self,
        method: str,
        path: str,
        scope: str,
        *,
        headers: Mapping[str, str] = _NO_HEADERS,
        body: bytes | FileBody = b"",
    ) -> AsyncIterator[HttpResponse]:
        """``path`` below ``/v2/``, or an address that the registry gave.

        ``scope``: rights that are needed, several separated by spaces. A response of any status is returned, after a
        second attempt with a new token if the first was refused, and further ones if the registry says when to come.
        """
        url = path if "://" in path else f"{self.url}/v2/{path}"
        waits, refused = _WAITS, False
        while True:
            own = await self._authorization(scope) if same_server(url, self.url) else _NO_HEADERS
            asked = HttpRequest(
                method,
                url,
                {**own, **headers},
                body,
                trust=self.endpoint.trust,
                plain=self.endpoint.plain,
                named=self.endpoint.named,
            )
            async with self._host.http.exchange(asked) as response:
                pause = _pause(response, self._host.clock.now()) if waits else None
                wanted = _challenge(response)
                if pause is None and (refused or wanted is None or (wanted.scheme == "basic" and own)):
                    yield response
                    return
            if pause is not None:
                waits -= 1
                await self._host.clock.sleep(pause)
            else:
                refused, self._challenge = True, wanted
                self._tokens.pop(scope, None)

    async def login(self) -> None:
        """Check the credentials. Raises Forbidden, HostFailure."""
        async with self.request("GET", "", "") as response:
            if response.status != 200:
                raise await failure(response, "its API")

    async def _authorization(self, scope: str) -> Mapping[str, str]:
        if self.credentials.registry_token:
            return {"Authorization": f"Bearer {self.credentials.registry_token}"}
        if self._challenge is None:
            return _NO_HEADERS
        if self._challenge.scheme == "basic":
            return {"Authorization": self.credentials.basic} if self.credentials.username else _NO_HEADERS
        return {"Authorization": f"Bearer {await self._token(self._challenge, scope)}"}

    async def _token(self, challenge: Challenge, scope: str) -> str:
        async with self._asking:  # layers begin at the same time, and need the same token
            now = self._host.clock.monotonic()
            held = self._tokens.get(scope)
            if held is None or held.until <= now:
                text, lasts = await fetch_token(self._host.http, self.endpoint, challenge, self.credentials, scope)
                held = self._tokens[scope] = _Token(text, now + max(lasts - _EARLY, 1.0))
            return held.text


def pull_scope(path: str) -> str:
    return f"repository:{path}:pull"


def push_scope(path: str, *sources: str) -> str:
    """For a push to ``path``, with blobs mounted from the repositories ``sources``."""
    return " ".join([f"repository:{path}:pull,push", *map(pull_scope, sources)])


def _challenge(response: HttpResponse) -> Challenge | None:
    return preferred(response.headers.get("www-authenticate", "")) if response.status == 401 else None


def _pause(response: HttpResponse, now: datetime) -> float | None:
    """Seconds until the registry wants to be asked again (``Retry-After``); None if it says nothing, or too long."""
    text = response.headers.get("retry-after", "").strip() if response.status in (429, 503) else ""
    if text.isascii() and text.isdigit():
        seconds = float(text[:9])
    else:
        try:
            seconds = (parsedate_to_datetime(text) - now).total_seconds()
        except (ValueError, TypeError, OverflowError):
            return None
    return max(seconds, 1.0) if seconds <= _LONGEST_PAUSE else None
