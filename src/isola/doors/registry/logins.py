"""Who asks: by client certificate, by login token (basic authentication), or by a bearer token given for either."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from aiohttp import web

from isola.access.bearer import ACTIONS, PULL, Bearer, opened, permitted, sealed
from isola.doors import Services
from isola.doors.http.https import trust_connection
from isola.doors.registry.answers import TooManyRequests, Unauthorized
from isola.errors import Forbidden, InvalidInput
from isola.model.caller import Caller, Credential
from isola.model.reference import Kind, Ref
from isola.model.repository import path_of, repository_at
from isola.server import ANONYMOUS_PULL

_SECONDS = 900
"""Lifetime of bearer tokens. Each use of one looks at the login token or certificate again."""
_MOST_SCOPES = 20
_HOST = re.compile(r"[A-Za-z0-9.\-]{1,255}(:[0-9]{1,5})?|\[[0-9A-Fa-f:.]{2,45}\](:[0-9]{1,5})?", re.ASCII)
TOKEN_PATH = "/v2/token"
CATALOGUE = "registry:catalog:*"
"""The scope of the list of all repositories."""


@dataclass(frozen=True, slots=True)
class Access:
    """What a request may do."""

    caller: Caller
    bearer: Bearer | None = None
    public: bool = False
    """Without a login: sees public images alone."""

    def may(self, repository: Ref, action: str) -> bool:
        """Whether the caller may do this, and the bearer token was given for it."""
        if action not in permitted(self.caller, repository.project):
            return False
        return self.bearer is None or self.bearer.allows(path_of(repository), action)


class Logins:
    """Identifies callers and gives bearer tokens, signed with a key that lasts as long as the daemon."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._key = bytes.fromhex(services.host.clock.token(32))

    async def access(self, http: web.BaseRequest, caller: Caller) -> Access:
        """Raises Unauthorized for a wrong login or an invalid token, TooManyRequests."""
        scheme, _, value = http.headers.get("Authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            access = self._borne(value.strip(), caller)
            if access.caller.trusted:
                trust_connection(http)
            return access
        if scheme.lower() == "basic":
            caller = await self._logged_in(value.strip(), caller.address)
            trust_connection(http)
        return Access(caller, public=not caller.trusted and self.open_to_all)

    @property
    def open_to_all(self) -> bool:
        """Whether public images can be pulled without a login."""
        return self._services.server.setting(ANONYMOUS_PULL).lower() in ("true", "1", "yes", "on")

    def give(self, access: Access, scopes: Sequence[str]) -> Mapping[str, object]:
        """A bearer token for those of the requested scopes that the caller has. Raises Unauthorized, InvalidInput."""
        if not access.caller.trusted and not access.public:
            raise Unauthorized("authentication required", field="login")
        now = self._services.host.clock.now()
        granted: dict[str, tuple[str, ...]] = {}
        wanted_scopes = _split(scopes)
        for path, actions in _repositories(wanted_scopes):
            allowed = (PULL,) if access.public else permitted(access.caller, self.home(repository_at(path)).project)
            wanted = tuple(action for action in allowed if action in actions or "*" in actions)
            granted[path] = tuple(dict.fromkeys((*granted.get(path, ()), *wanted)))
        bearer = Bearer(self._subject(access.caller), now.timestamp() + _SECONDS, granted, CATALOGUE in wanted_scopes)
        token = sealed(bearer, self._key)
        issued = now.isoformat(timespec="seconds").replace("+00:00", "Z")
        return {"token": token, "access_token": token, "expires_in": _SECONDS, "issued_at": issued}

    def home(self, repository: Ref) -> Ref:
        """The repository itself, or that of the default project if its project shares the images of that one."""
        project = self._services.projects.home(repository.project, Kind.IMAGE)
        return Ref(project, repository.name)

    def challenge(self, http: web.BaseRequest, scopes: Iterable[str], error: str = "") -> Mapping[str, str]:
        """Headers of a response that asks for a login."""
        host = http.headers.get("Host", "")
        if not _HOST.fullmatch(host):
            host = next(iter(self._services.identity.addresses), "localhost")
        parts = [f'realm="https://{host}{TOKEN_PATH}"', f'service="{host}"']
        if scope := " ".join(scopes):
            parts.append(f'scope="{scope}"')
        if error:
            parts.append(f'error="{error}"')
        return {"WWW-Authenticate": f"Bearer {','.join(parts)}"}

    async def _logged_in(self, value: str, address: str) -> Caller:
        try:
            name, _, secret = base64.b64decode(value, validate=True).decode().partition(":")
        except (ValueError, binascii.Error):
            raise Unauthorized("The Authorization header is malformed", field="login") from None
        return await self.log_in(name, secret, address)

    async def log_in(self, name: str, secret: str, address: str) -> Caller:
        """The caller with a login token. Raises Unauthorized, TooManyRequests."""
        host = address.rpartition(":")[0]
        tokens = self._services.login_tokens
        try:
            return tokens.caller(await tokens.check(name, secret, host), address)
        except Forbidden as error:
            if error.field == "login":
                raise Unauthorized(error.message, field="login") from None
            raise TooManyRequests(error.message, remedy=error.remedy) from None

    def _borne(self, text: str, caller: Caller) -> Access:
        now = self._services.host.clock.now().timestamp()
        bearer = opened(text, self._key, now)
        if bearer is None:
            raise Unauthorized("The token is invalid or has expired", field="token")
        if not bearer.subject:
            if not self.open_to_all:
                raise Unauthorized("authentication required", field="token")
            return Access(caller if not caller.trusted else _untrusted(caller), bearer, public=True)
        return Access(self._caller_of(bearer.subject, caller.address), bearer)

    def _subject(self, caller: Caller) -> str:
        if not caller.trusted:
            return ""
        if caller.credential is Credential.LOGIN_TOKEN:
            return f"{caller.credential}/{caller.name}/{self._services.login_tokens.get(caller.name).id}"
        return f"{caller.credential}/{caller.name}/"

    def _caller_of(self, subject: str, address: str) -> Caller:
        """The caller as it is now, after changes of its permissions. Raises Unauthorized."""
        kind, name, id = subject.split("/", 2)
        if kind == Credential.LOGIN_TOKEN:
            token = self._services.login_tokens.current(name, id)
            if token is not None:
                return self._services.login_tokens.caller(token, address)
        if kind == Credential.CERTIFICATE:
            caller = self._services.certificates.caller(name, address)
            if caller.trusted:
                return caller
        if kind == Credential.UNIX:
            return Caller(Credential.UNIX, name, address)
        raise Unauthorized("The login that the token was given for is not valid any more", field="token")


def scope_of(repository: Ref, action: str) -> str:
    """``repository:team/app:pull,push``."""
    actions = ",".join(ACTIONS[: ACTIONS.index(action) + 1]) if action != "delete" else action
    return f"repository:{path_of(repository)}:{actions}"


def _untrusted(caller: Caller) -> Caller:
    return Caller(Credential.NONE, caller.name, caller.address, trusted=False)


def _split(scopes: Sequence[str]) -> list[str]:
    found = [scope for text in scopes for scope in text.split()]
    if len(found) > _MOST_SCOPES:
        raise InvalidInput("Too many scopes", field="scope", remedy=f"at most {_MOST_SCOPES}")
    return found


def _repositories(scopes: Sequence[str]) -> Iterable[tuple[str, list[str]]]:
    """Path and actions of each scope of a repository; others are left out, as clients expect."""
    for scope in scopes:
        kind, _, rest = scope.partition(":")
        path, _, actions = rest.rpartition(":")
        if kind == "repository":
            yield path, actions.split(",")
