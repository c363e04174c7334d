"""Changes of whether instances run."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from isola.model.instance import Status


class Action(StrEnum):
    """What is to be done."""

    START = "start"
    STOP = "stop"
    RESTART = "restart"
    FREEZE = "freeze"
    UNFREEZE = "unfreeze"

    @property
    def fitting(self) -> tuple[Status, ...]:
        """Status of the instances that a change of many applies to."""
        return _FITTING[self]


_RUNS = (Status.RUNNING, Status.FROZEN, Status.STARTING)
_FITTING = {
    Action.START: (Status.STOPPED,),
    Action.STOP: _RUNS,
    Action.RESTART: _RUNS,
    Action.FREEZE: (Status.RUNNING,),
    Action.UNFREEZE: (Status.FROZEN,),
}


@dataclass(frozen=True, slots=True)
class StateChange:
    """An action and how it is done."""

    action: Action
    timeout: float | None = 30
    """Seconds that a clean stop may take; None waits for ever."""
    force: bool = False
    stateful: bool | None = None
    """Stop with what is in memory, start from it; None: start from it if there is such a state."""
    kill: bool = False
    """Kill it after the timeout, instead of failing."""
