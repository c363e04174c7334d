"""The states of a run and of an instance, and permitted transitions. Pure."""

from __future__ import annotations

from enum import Enum

from isola.errors import WrongState
from isola.model.instance import Desired, Instance, Status


class Phase(Enum):
    """State of an instance, and its status in the API."""

    STOPPED = "stopped", Status.STOPPED
    RUNNING = "running", Status.RUNNING
    FROZEN = "frozen", Status.FROZEN
    STOPPING = "stopping", Status.RUNNING
    ENDED = "ended", Status.RUNNING
    """Its run is being cleaned up."""
    STARTING = "starting", Status.STARTING
    """It has rebooted and waits for its next start."""
    BROKEN = "broken", Status.ERROR
    """Its state does not match its record: the repair is retried in the background and by the next verb."""
    DELETING = "deleting", Status.ERROR
    """Its deletion has begun and is not complete."""

    # Attributes, since lists ask for the status of each instance: a member's hash is computed in Python.
    status: Status

    def __new__(cls, name: str, status: Status) -> Phase:
        """``name`` is its value."""
        member = object.__new__(cls)
        member._value_, member.status = name, status
        return member


class RunState(Enum):
    """State of a run, and the phase of its instance."""

    RUNNING = "running", Phase.RUNNING
    FROZEN = "frozen", Phase.FROZEN
    STOPPING = "stopping", Phase.STOPPING
    """A verb waits for its end, and cleans up."""
    ENDED = "ended", Phase.ENDED
    """It has to be cleaned up."""

    phase: Phase

    def __new__(cls, name: str, phase: Phase) -> RunState:
        """``name`` is its value."""
        member = object.__new__(cls)
        member._value_, member.phase = name, phase
        return member


FOLLOWING = {
    RunState.RUNNING: frozenset({RunState.FROZEN, RunState.STOPPING, RunState.ENDED}),
    RunState.FROZEN: frozenset({RunState.RUNNING, RunState.ENDED}),
    RunState.STOPPING: frozenset({RunState.RUNNING, RunState.ENDED}),
    RunState.ENDED: frozenset(),
}
"""Permitted transitions of a run."""


def phase_of(desired: Desired, run: RunState | None, *, restarts: bool, fault: bool) -> Phase:
    """Derived from the record, the state of its run, a pending start and a fault."""
    if run is not None:
        return run.phase
    if desired is Desired.DELETED:
        return Phase.DELETING
    if restarts:
        return Phase.STARTING
    return Phase.BROKEN if fault else Phase.STOPPED


def require_kept(instance: Instance) -> None:
    """Raises WrongState if its deletion has begun."""
    if instance.deleting:
        raise WrongState(f"Instance {instance.name!r} is partly deleted", remedy="delete it again")
