"""Events as published to followers: typed values, which each door renders by itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from isola.model.caller import DAEMON, Caller
from isola.model.operation import OperationView
from isola.model.reference import DEFAULT_PROJECT, Entity


class EventKind(StrEnum):
    """What followers choose by."""

    OPERATION = "operation"
    LIFECYCLE = "lifecycle"
    LOGGING = "logging"


@dataclass(frozen=True, slots=True)
class Lifecycle:
    """Something was made, changed, used or removed."""

    action: str
    """``instance-started``."""
    source: Entity
    context: Mapping[str, object] = field(default_factory=dict)
    caller: Caller = DAEMON


@dataclass(frozen=True, slots=True)
class LogLine:
    """A line of the daemon's log."""

    level: str
    message: str
    context: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened, and when."""

    kind: EventKind
    timestamp: datetime
    content: OperationView | Lifecycle | LogLine
    project: str = DEFAULT_PROJECT
