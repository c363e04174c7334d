"""Login tokens: names and secrets with which clients of the registry log in, as ``docker login`` does."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from isola.model.reference import Entity, Kind


@dataclass(frozen=True, slots=True)
class LoginToken:
    """A login token as recorded, without its secret."""

    name: str
    """What clients give as the user name."""
    hash: str
    """Of the secret, which clients give as the password."""
    created_at: datetime
    project: str = ""
    """The only project that it is for; empty: all."""
    read_only: bool = False
    expires_at: datetime | None = None

    @property
    def entity(self) -> Entity:
        """What events name it by."""
        return Entity.of_host(Kind.LOGIN_TOKEN, self.name)

    @property
    def id(self) -> str:
        """Differs from that of a later token of the same name."""
        return self.hash[-16:]
