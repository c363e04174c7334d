"""Login tokens of the registry: creating and removing them, and identifying the callers that present them."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime

from isola.certificates.attempts import Attempts
from isola.errors import Forbidden, InvalidInput, TooLarge
from isola.events import Events
from isola.host.clock import Clock
from isola.host.threads import in_thread
from isola.model.caller import DAEMON, Caller, Credential
from isola.model.login_token import LoginToken
from isola.model.names import plain_name
from isola.passwords import hashed, matches
from isola.state import Collection

_MOST = 1000
_WAITING = 64
_LONGEST = 1024


class LoginTokens:
    """The tokens that are recorded. Their secrets are shown once, and kept as hashes.

    Checking a hash needs time and memory: one is checked at a time, wrong secrets are limited for each address, and a
    secret that was right is remembered in memory.
    """

    def __init__(
        self, records: Collection[LoginToken], events: Events, clock: Clock, known_project: Callable[[str], bool]
    ) -> None:
        self._records = records
        self._events = events
        self._clock = clock
        self._known_project = known_project
        self.attempts = Attempts()
        self._turn = asyncio.Lock()
        self._waiting = 0
        self._right: dict[str, bytes] = {}
        """Hash -> fast digest of the secret."""

    def __iter__(self) -> Iterator[LoginToken]:
        return iter(self._records)

    def get(self, name: str) -> LoginToken:
        """Raises NotFound."""
        return self._records.get(name)

    async def create(
        self,
        name: str,
        *,
        project: str = "",
        read_only: bool = False,
        expires_at: datetime | None = None,
        caller: Caller = DAEMON,
    ) -> tuple[LoginToken, str]:
        """The token and its secret. Raises InvalidInput, AlreadyExists, TooLarge."""
        plain_name(name)
        if project and not self._known_project(project):
            raise InvalidInput(f"Project {project[:80]!r} not found", field="project")
        if expires_at is not None and expires_at <= self._clock.now():
            raise InvalidInput("The token would have expired already", field="expires_at")
        if len(self._records) >= _MOST:
            raise TooLarge(f"There are {_MOST} login tokens already", remedy="remove some")
        secret = self._clock.token(32)
        made = LoginToken(
            name,
            await in_thread(lambda: hashed(secret, self._clock.token(16))),
            self._clock.now(),
            project,
            read_only,
            expires_at,
        )
        await self._records.add(name, made)
        self._tell("created", made, caller)
        return made, secret

    async def remove(self, name: str, *, caller: Caller = DAEMON) -> None:
        """Raises NotFound."""
        found = self._records.get(name)
        await self._records.remove(name)
        self._right.pop(found.hash, None)
        self._tell("deleted", found, caller)

    async def project_gone(self, name: str, instead: str) -> None:
        """A project was renamed, or deleted (without ``instead``): a later one of its name is another project."""
        for each in [each for each in self._records if each.project == name]:
            if instead:
                await self._records.change(each.name, lambda found: replace(found, project=instead))
            else:
                await self.remove(each.name)

    async def check(self, name: str, secret: str, address: str) -> LoginToken:
        """The token with this name and secret. Raises Forbidden: wrong, expired, or tried too often."""
        self.attempts.require_free(address, self._clock.monotonic(), "logins")
        found = self._records.find(name)
        matching = found is not None and len(secret) <= _LONGEST and await self._matches(found, secret)
        if matching and found is not None and self.current(name, found.id) is not None:
            self.attempts.succeeded(address)
            return found
        self.attempts.failed(address, self._clock.monotonic())
        raise Forbidden("The name or the secret is wrong, or the login token has expired", field="login")

    def current(self, name: str, id: str) -> LoginToken | None:
        """The token of this name and id, unless it was removed or has expired."""
        found = self._records.find(name)
        if found is None or found.id != id:
            return None
        return found if found.expires_at is None or found.expires_at > self._clock.now() else None

    def caller(self, token: LoginToken, address: str) -> Caller:
        """The caller that has presented a token."""
        projects = frozenset({token.project}) if token.project else None
        return Caller(Credential.LOGIN_TOKEN, token.name, address, projects, read_only=token.read_only)

    async def _matches(self, token: LoginToken, secret: str) -> bool:
        fast = hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()
        if (known := self._right.get(token.hash)) is not None and hmac.compare_digest(known, fast):
            return True
        if self._waiting >= _WAITING:
            raise Forbidden("Too many clients log in", remedy="try again in a minute", field="login")
        self._waiting += 1
        try:
            async with self._turn:
                if not await in_thread(lambda: matches(token.hash, secret)):
                    return False
        finally:
            self._waiting -= 1
        self._right[token.hash] = fast
        return True

    def _tell(self, verb: str, token: LoginToken, caller: Caller) -> None:
        self._events.lifecycle(f"login-token-{verb}", token.entity, caller=caller)
