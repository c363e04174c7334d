"""States of a run: what may follow what."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime
from typing import cast

import pytest

from isola.instances.context import Live
from isola.instances.phases import RunState
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


def test_what_an_instance_is_to_be_is_read_as_an_enumeration() -> None:
    codec = record_codec(Instance)
    record = b'{"id": "1", "name": "web", "image": "", "idmap": {"base": 1}, "created_at": "2026-01-01T00:00:00", %s}'
    assert codec.decode(record % b'"desired": "running"').desired is Desired.RUNNING
    found = codec.decode(record % b'"ephemeral": true')
    assert found.desired is Desired.STOPPED and b'"desired":"stopped"' in codec.encode(found)
