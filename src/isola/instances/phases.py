"""The states of a run and of an instance, and permitted transitions. Pure."""

from __future__ import annotations

from enum import Enum

from isola.errors import WrongState
from isola.model.instance import Desired, Instance, Status


class RunState(Enum):
    RUNNING = "running"
    FROZEN = "frozen"
    STOPPING = "stopping"
    """A verb waits for its end, and cleans up."""
    ENDED = "ended"
    """It has to be cleaned up."""


FOLLOWING = {
    RunState.RUNNING: frozenset({RunState.FROZEN, RunState.STOPPING, RunState.ENDED}),
    RunState.FROZEN: frozenset({RunState.RUNNING, RunState.ENDED}),
    RunState.STOPPING: frozenset({RunState.RUNNING, RunState.ENDED}),
    RunState.ENDED: frozenset(),
}
"""Permitted transitions of a run."""


class Phase(Enum):
    """State of an instance."""

    STOPPED = "stopped"
    RUNNING = "running"
    FROZEN = "frozen"
    STOPPING = "stopping"
    ENDED = "ended"
    """Its run is being cleaned up."""
    STARTING = "starting"
    """It has rebooted and waits for its next start."""
    BROKEN = "broken"
    """Its state does not match its record: the repair is retried in the background and by the next verb."""
    DELETING = "deleting"
    """Its deletion has begun and is not complete."""

    @property
    def status(self) -> Status:
        """The status in the API."""
        return _STATUS[self]


_STATUS = {
    Phase.STOPPED: Status.STOPPED,
    Phase.RUNNING: Status.RUNNING,
    Phase.FROZEN: Status.FROZEN,
    Phase.STOPPING: Status.RUNNING,
    Phase.ENDED: Status.RUNNING,
    Phase.STARTING: Status.STARTING,
    Phase.BROKEN: Status.ERROR,
    Phase.DELETING: Status.ERROR,
}
_OF_RUN = {
    RunState.RUNNING: Phase.RUNNING,
    RunState.FROZEN: Phase.FROZEN,
    RunState.STOPPING: Phase.STOPPING,
    RunState.ENDED: Phase.ENDED,
}


def phase_of(desired: Desired, run: RunState | None, *, restarts: bool, fault: bool) -> Phase:
    """Derived from the record, the state of its run, a pending start and a fault."""
    if run is not None:
        return _OF_RUN[run]
    if desired is Desired.DELETED:
        return Phase.DELETING
    if restarts:
        return Phase.STARTING
    return Phase.BROKEN if fault else Phase.STOPPED


def require_kept(instance: Instance) -> None:
    """Raises WrongState if its deletion has begun."""
    if instance.deleting:
        raise WrongState(f"Instance {instance.name!r} is partly deleted", remedy="delete it again")
