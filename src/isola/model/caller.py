"""Who asks, and for which projects."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Credential(StrEnum):
    """How a caller has proven who it is."""

    NONE = "none"
    UNIX = "unix"
    """May open the daemon's socket, which only root and its group may."""
    CERTIFICATE = "tls"
    LOGIN_TOKEN = "login-token"
    """Of the registry: is trusted by no other API."""
    DAEMON = "daemon"
    """The daemon itself: schedules, restarts, recovery."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks: remembered by the operations and events that follow from it."""

    credential: Credential
    name: str = ""
    """User name of the socket's peer, or fingerprint of the certificate."""
    address: str = ""
    """``@`` for the socket, ``192.0.2.1:40000`` over the network."""
    projects: frozenset[str] | None = None
    """Those that it is restricted to; None: all, and the server itself."""
    trusted: bool = True
    read_only: bool = False
    """May pull from the registry, and nothing else."""

    @property
    def admin(self) -> bool:
        """May do everything."""
        return self.trusted and self.projects is None and self.credential is not Credential.LOGIN_TOKEN

    def may_use(self, project: str) -> bool:
        """Whether it may see the project and work in it."""
        return self.trusted and (self.projects is None or project in self.projects)


DAEMON = Caller(Credential.DAEMON, name="isolad", address="@")
UNTRUSTED = Caller(Credential.NONE, trusted=False)
