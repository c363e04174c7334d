"""Warnings: what an administrator should know of, until it is over or acknowledged."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import Enum, StrEnum

from isola.model.identity import NO_MEMBER
from isola.model.reference import DEFAULT_PROJECT, Entity, Kind

_OF_SERVER = frozenset({Kind.SERVER, Kind.STORAGE_POOL, Kind.CERTIFICATE})


class Severity(StrEnum):
    LOW = "low"
    MODERATE = "moderate"
    HIGH = "high"


class WarningType(Enum):
    """What there are warnings of: as the API calls it, and how serious it is. Names without an LXD type are our own."""

    POOL_UNAVAILABLE = "Storage pool unavailable", Severity.HIGH
    NETWORK_UNAVAILABLE = "Network unavailable", Severity.HIGH
    AUTOSTART_FAILURE = "Failed to autostart instance", Severity.LOW
    INSTANCE_BROKEN = "Instance cleanup failed", Severity.MODERATE
    DEVICE_MISSING = "Instance device unavailable", Severity.LOW
    CALLS_REFUSED = "System call refused", Severity.LOW
    ROOT_UNLIMITED = "Size of root disk not enforced", Severity.LOW

    @property
    def text(self) -> str:
        """As records and the API name it."""
        return self.value[0]

    @property
    def severity(self) -> Severity:
        return self.value[1]


class WarningStatus(StrEnum):
    NEW = "new"
    ACKNOWLEDGED = "acknowledged"
    """An administrator has seen it; it stays so when it occurs again."""
    RESOLVED = "resolved"
    """It is over; it is new when it occurs again."""


@dataclass(frozen=True, slots=True)
class WarningRecord:
    """One type of warning about one thing, however often it has occurred."""

    id: str
    type: str
    """``WarningType.text``; a record may be of a type that this version does not know."""
    severity: str
    message: str
    """Of the last time."""
    kind: Kind
    project: str
    names: tuple[str, ...]
    """With ``kind`` and ``project`` the thing it is about."""
    first_seen_at: datetime
    last_seen_at: datetime
    count: int = 1
    status: WarningStatus = WarningStatus.NEW
    member: str = NO_MEMBER

    @property
    def entity(self) -> Entity:
        """What it is about."""
        return Entity(self.kind, self.project or DEFAULT_PROJECT, self.names)

    @property
    def of_server(self) -> bool:
        """Whether it is about what belongs to no project."""
        return self.kind in _OF_SERVER
