"""The states of a run and of an instance, and which may follow which. Pure."""

from __future__ import annotations

from enum import Enum

from isola.errors import WrongState
from isola.model.instance import Desired, Instance, Status


class RunState(Enum):
    """How far a run has come."""

    RUNNING = "running"
    FROZEN = "frozen"
    STOPPING = "stopping"
    """A verb waits for its end, and cleans up after it."""
    ENDED = "ended"
    """It is to be cleaned up."""


FOLLOWING = {
    RunState.RUNNING: frozenset({RunState.FROZEN, RunState.STOPPING, RunState.ENDED}),
    RunState.FROZEN: frozenset({RunState.RUNNING, RunState.ENDED}),
    RunState.STOPPING: frozenset({RunState.RUNNING, RunState.ENDED}),
    RunState.ENDED: frozenset(),
}
"""What a state of a run may be followed by."""


class Phase(Enum):
    """What an instance is, all things considered."""

    STOPPED = "stopped"
    RUNNING = "running"
    FROZEN = "frozen"
    STOPPING = "stopping"
    ENDED = "ended"
    """Its run is being cleaned up after."""
    STARTING = "starting"
    """It has rebooted, and waits for its next start."""
    BROKEN = "broken"
    """It could not be brought to what its record says: that is tried again, and by the next verb first of all."""
    DELETING = "deleting"
    """Its deletion has begun and did not come to its end."""

    @property
    def status(self) -> Status:
        """As the API names it."""
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
    """From what the record says, and what the daemon knows of its run, of a pending start and of a fault."""
    if run is not None:
        return _OF_RUN[run]
    if desired is Desired.DELETED:
        return Phase.DELETING
    if restarts:
        return Phase.STARTING
    return Phase.BROKEN if fault else Phase.STOPPED


def require_kept(instance: Instance) -> None:
    """Raises WrongState where its deletion has begun."""
    if instance.deleting:
        raise WrongState(f"Instance {instance.name!r} is half deleted", remedy="delete it again")
