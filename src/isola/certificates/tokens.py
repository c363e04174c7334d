"""Tokens with which a client adds its certificate. Each is valid once, for a limited time, and has an operation.

They are kept in memory: a restart of the daemon invalidates them.
"""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime

from isola.certificates.attempts import Attempts
from isola.errors import Forbidden, TooLarge
from isola.host.clock import Clock
from isola.model.certificate import TokenRequest
from isola.model.reference import OF_SERVER
from isola.operations import Operation, Operations

_OUTSTANDING = 256
_DAY = 86400.0


@dataclass(slots=True)
class _Token:
    secret: str
    request: TokenRequest
    expires_at: datetime | None
    used: asyncio.Event = field(default_factory=asyncio.Event)


class Tokens:
    """Issues tokens, and accepts each of them once."""

    def __init__(self, operations: Operations, clock: Clock) -> None:
        self._operations = operations
        self._clock = clock
        self._tokens: dict[str, _Token] = {}
        self.attempts = Attempts()

    def give(
        self, request: TokenRequest, *, fingerprint: str, addresses: Sequence[str], expires_at: datetime | None
    ) -> Operation:
        """An operation that runs until the token is used, revoked (cancelled) or expired. Raises TooLarge."""
        if len(self._tokens) >= _OUTSTANDING:
            raise TooLarge(f"There are {_OUTSTANDING} unused tokens already", remedy="revoke some")
        token = _Token(self._clock.token(32), request, expires_at)
        metadata: dict[str, object] = {
            "secret": token.secret,
            "fingerprint": fingerprint,
            "addresses": list(addresses),
            "request": _request_json(request),
        }
        if expires_at is not None:
            metadata["expiresAt"] = expires_at.isoformat().replace("+00:00", "Z")

        async def work(op: Operation) -> None:
            try:
                await self._until_used(token)
            finally:
                self._tokens.pop(token.secret, None)

        self._tokens[token.secret] = token
        return self._operations.start("Waiting for a client", work, kind="token", metadata=metadata, project=OF_SERVER)

    def take(self, secret: str, address: str) -> TokenRequest:
        """What the token grants. It is used up, even if the request fails later. Raises Forbidden."""
        now = self._clock.monotonic()
        self.attempts.require_free(address, now, "tokens")
        token = self._find(secret)
        if token is None or token.used.is_set():
            self.attempts.failed(address, now)
            raise Forbidden("The token is wrong, used up or expired", remedy="get a new token")
        token.used.set()
        self.attempts.succeeded(address)
        return token.request

    def project_gone(self, name: str) -> None:
        """Invalidate tokens for a deleted or renamed project, because a later project may get its name."""
        for token in self._tokens.values():
            if name in token.request.projects:
                token.used.set()

    def _find(self, secret: str) -> _Token | None:
        wanted = secret.encode()
        for token in self._tokens.values():
            if hmac.compare_digest(token.secret.encode(), wanted):
                old = token.expires_at is not None and token.expires_at <= self._clock.now()
                return None if old else token
        return None

    async def _until_used(self, token: _Token) -> None:
        using = asyncio.ensure_future(token.used.wait())
        try:
            while not using.done() and (left := self._left(token)) > 0:
                ending = asyncio.ensure_future(self._clock.sleep(min(left, _DAY)))
                try:
                    await asyncio.wait([using, ending], return_when=asyncio.FIRST_COMPLETED)
                finally:
                    ending.cancel()
        finally:
            using.cancel()

    def _left(self, token: _Token) -> float:
        if token.expires_at is None:
            return _DAY
        return (token.expires_at - self._clock.now()).total_seconds()


def _request_json(request: TokenRequest) -> dict[str, object]:
    """The request as the API shows it."""
    return {**asdict(request), "projects": list(request.projects), "certificate": "", "token": True}
