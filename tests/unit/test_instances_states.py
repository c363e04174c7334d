"""States of a run, and permitted transitions."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime
from typing import cast

import pytest

from isola.errors import WrongState
from isola.instances.context import Live
from isola.instances.phases import Phase, RunState, phase_of, require_kept
from isola.model.identity import IdRange
from isola.model.instance import Desired, Instance
from isola.runtimes import Guest
from isola.state import record_codec

RUNNING, FROZEN, STOPPING, ENDED = RunState.RUNNING, RunState.FROZEN, RunState.STOPPING, RunState.ENDED
ALLOWED = {
    (RUNNING, FROZEN), (FROZEN, RUNNING), (RUNNING, STOPPING), (STOPPING, RUNNING),
    (RUNNING, ENDED), (FROZEN, ENDED), (STOPPING, ENDED),
}  # fmt: skip


@pytest.mark.parametrize(("before", "after"), list(itertools.product(RunState, RunState)))
async def test_a_run_goes_through_its_states_in_order(before: RunState, after: RunState) -> None:
    live = Live(cast(Guest, None), datetime.now(UTC), before)
    if (before, after) in ALLOWED:
        live.enter(after)
        assert live.state is after and live.ended.is_set() == (after is ENDED)
    else:
        with pytest.raises(AssertionError, match=before.value):
            live.enter(after)
        assert live.state is before


def test_the_desired_state_is_an_enumeration() -> None:
    codec = record_codec(Instance)
    record = b'{"id": "1", "name": "web", "image": "", "idmap": {"base": 1}, "created_at": "2026-01-01T00:00:00", %s}'
    assert codec.decode(record % b'"desired": "running"').desired is Desired.RUNNING
    found = codec.decode(record % b'"ephemeral": true')
    assert found.desired is Desired.STOPPED and b'"desired":"stopped"' in codec.encode(found)


def test_a_deletion_that_an_older_daemon_had_begun_is_known() -> None:
    codec = record_codec(Instance)
    record = (
        b'{"id": "1", "name": "web", "image": "", "idmap": {"base": 1}, "created_at": "2026-01-01T00:00:00",'
        b'"desired": "running", "deleting": %s}'
    )
    assert codec.decode(record % b"true").desired is Desired.DELETED
    assert codec.decode(record % b"false").desired is Desired.RUNNING


def test_a_started_deletion_is_not_reverted() -> None:
    instance = Instance("1", "web", "", IdRange(1), datetime.now(UTC))
    doomed = instance.wanted(Desired.RUNNING).wanted(Desired.DELETED)
    assert doomed.deleting and doomed.wanted(Desired.DELETED) == doomed
    for desired in (Desired.RUNNING, Desired.STOPPED):
        with pytest.raises(AssertionError, match="deleted"):
            doomed.wanted(desired)
    with pytest.raises(WrongState, match="deleted"):
        require_kept(doomed)
    require_kept(instance)


@pytest.mark.parametrize(
    ("desired", "run", "known", "phase", "status"),
    [
        (Desired.STOPPED, None, "", Phase.STOPPED, "Stopped"),
        (Desired.RUNNING, RUNNING, "", Phase.RUNNING, "Running"),
        (Desired.RUNNING, RUNNING, "fault", Phase.RUNNING, "Running"),
        (Desired.RUNNING, FROZEN, "", Phase.FROZEN, "Frozen"),
        (Desired.RUNNING, STOPPING, "", Phase.STOPPING, "Running"),
        (Desired.RUNNING, ENDED, "restarts", Phase.ENDED, "Running"),
        (Desired.RUNNING, None, "restarts", Phase.STARTING, "Starting"),
        (Desired.RUNNING, None, "fault", Phase.BROKEN, "Error"),
        (Desired.DELETED, None, "restarts fault", Phase.DELETING, "Error"),
        (Desired.DELETED, RUNNING, "", Phase.RUNNING, "Running"),
    ],
)
def test_the_status_is_derived_in_one_place(
    desired: Desired, run: RunState | None, known: str, phase: Phase, status: str
) -> None:
    found = phase_of(desired, run, restarts="restarts" in known, fault="fault" in known)
    assert (found, found.status) == (phase, status)
