"""Who calls a method of BuildKit's, and what it works with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from isola.doors import Services
from isola.doors.docker.buildkit.records import Records
from isola.doors.docker.buildkit.sessions import Sessions
from isola.model.caller import Caller

if TYPE_CHECKING:
    from isola.doors.docker.events.history import History


class Client(Protocol):
    """The other end of a connection, after a request of Docker's API or without one."""

    @property
    def services(self) -> Services: ...

    @property
    def caller(self) -> Caller: ...

    @property
    def project(self) -> str:
        """Of the door: ``docker.project``."""
        ...

    @property
    def history(self) -> History:
        """Events of Docker's API."""
        ...

    @property
    def sessions(self) -> Sessions: ...

    @property
    def records(self) -> Records: ...


@dataclass(frozen=True, slots=True)
class Direct:
    """A client on the socket for this protocol alone."""

    services: Services
    caller: Caller
    project: str
    history: History
    sessions: Sessions
    records: Records
