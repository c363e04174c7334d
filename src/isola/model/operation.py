"""Operations as others see them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from isola.errors import IsolaError
from isola.model.caller import DAEMON, Caller
from isola.model.reference import DEFAULT_PROJECT, Entity


class OperationStatus(StrEnum):
    """As the LXD API names it; ``code`` is its number."""

    PENDING = "Pending"
    RUNNING = "Running"
    CANCELLING = "Cancelling"
    SUCCESS = "Success"
    FAILURE = "Failure"
    CANCELLED = "Cancelled"

    @property
    def code(self) -> int:
        """The number the API sends beside the name."""
        return {
            "Pending": 105,
            "Running": 103,
            "Cancelling": 104,
            "Success": 200,
            "Failure": 400,
            "Cancelled": 401,
        }[self]

    @property
    def final(self) -> bool:
        """Whether nothing follows."""
        return self.code >= 200


@dataclass(frozen=True, slots=True)
class StepView:
    """Progress of one named step. ``total`` is None where it cannot be known."""

    name: str
    done: int = 0
    total: int | None = None
    unit: str = ""
    """``bytes`` or ``items`` or empty."""
    finished: bool = False
    depth: int = 0


@dataclass(frozen=True, slots=True)
class OperationView:
    """An immutable picture of an operation."""

    id: str
    kind: str
    """``task``, ``websocket`` or ``token``: the API's ``class``."""
    description: str
    status: OperationStatus
    created_at: datetime
    updated_at: datetime
    resources: tuple[Entity, ...] = ()
    """What it works on, or has made."""
    metadata: Mapping[str, object] = field(default_factory=dict)
    steps: tuple[StepView, ...] = ()
    may_cancel: bool = False
    error: str = ""
    error_code: str = ""
    problem: IsolaError | None = None
    """The error with its parts, where it is an ``IsolaError``."""
    project: str = DEFAULT_PROJECT
    caller: Caller = DAEMON
