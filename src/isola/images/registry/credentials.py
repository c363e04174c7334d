"""Credentials for one registry, as clients send them with a request; they are never stored."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field

from isola.errors import InvalidInput

_LONGEST = 64 << 10


@dataclass(frozen=True, slots=True)
class Credentials:
    """Of the four forms only one is used, the last first."""

    username: str = ""
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)
    """A refresh token of OAuth 2."""
    registry_token: str = field(default="", repr=False)
    """A token for the registry itself."""

    @property
    def anonymous(self) -> bool:
        """Whether nothing is known."""
        return not (self.username or self.identity_token or self.registry_token)

    @property
    def basic(self) -> str:
        """The value of an Authorization header."""
        return "Basic " + base64.b64encode(f"{self.username}:{self.password}".encode()).decode()


ANONYMOUS = Credentials()


def credentials_for(known: Mapping[str, Credentials], domain: str) -> Credentials:
    """Anonymous where there are none."""
    return known.get(domain, ANONYMOUS)


def credentials_of(fields: Mapping[str, object]) -> Credentials:
    """From the object that Docker calls ``AuthConfig``. Raises InvalidInput."""

    def text(name: str) -> str:
        value = fields.get(name) or ""
        if not isinstance(value, str) or len(value) > _LONGEST or any(sign in value for sign in "\r\n\0"):
            raise InvalidInput(f"The field {name} of the credentials is malformed", field=name)
        return value

    username, password = text("username"), text("password")
    if not username and (both := text("auth")):
        username, password = decoded(both)
    return Credentials(username, password, text("identitytoken"), text("registrytoken"))


def decoded(auth: str) -> tuple[str, str]:
    """User and password of the base64 form ``USER:PASSWORD``. Raises InvalidInput."""
    try:
        username, colon, password = base64.b64decode(auth, validate=True).decode().partition(":")
    except ValueError:
        username, colon, password = "", "", ""
    if not colon or not username:
        raise InvalidInput("The credentials are malformed", field="auth", remedy="log in again")
    return username, password.rstrip("\0")
