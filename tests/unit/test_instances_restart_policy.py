"""Restart policies: which ends are followed by another run, after which pauses, and what cancels it."""

from __future__ import annotations

import dataclasses

import pytest
from channels import eventually
from memory_audit import differences, settle
from strike import end_tasks

from isola.errors import InvalidInput
from isola.instances.restart_policy import Policy, When, parse, pause_after, policy_of
from isola.instances.settings import SETTINGS
from isola.model.instance import Instance, InstanceUpdate, Status
from isola.model.last_run import Until
from isola.model.reference import Ref
from isola.testing.parts import World

WEB = Ref.default("web1")


async def application(world: World, policy: str, **more: str) -> str:
    """One that runs; its id."""
    instance = await world.create("web1", config={"isola.restart": policy} | more)
    await world.parts.records.instances.change(
        WEB, lambda found: dataclasses.replace(found, start=dataclasses.replace(found.start, system=False))
    )
    await world.finish(world.parts.services.instances.start(WEB))
    return instance.id


def record(world: World) -> Instance:
    return world.parts.services.instances.get(WEB)


def status(world: World) -> Status:
    return world.context.status(record(world))


def restarts(world: World) -> int:
    last = record(world).last_run
    return 0 if last is None else last.restarts


async def end(world: World, code: int = 1) -> None:
    id = record(world).id
    before = world.context.live[id]
    world.runtime.end(id, code)
    await eventually(lambda: world.context.live.get(id) is not before)
    await settle(world)


async def pause(world: World) -> float:
    """Seconds until it runs again."""
    seconds = 0.0
    while status(world) is not Status.RUNNING:
        await world.host.clock.advance(0.1)
        await settle(world)
        seconds += 0.1
        assert seconds < 70
    return round(seconds, 1)


def test_policies_are_read_as_docker_writes_them() -> None:
    assert parse("on-failure:3") == Policy(When.ON_FAILURE, 3) and parse("on-failure") == Policy(When.ON_FAILURE)
    for wrong in ("", "always:3", "on-failure:", "on-failure:-1", "sometimes"):
        with pytest.raises(ValueError, match=r"valid When|number"):
            parse(wrong)
    with pytest.raises(InvalidInput):
        SETTINGS.validate({"isola.restart": "sometimes"})


@pytest.mark.parametrize(
    ("config", "when"),
    [
        ({}, None),
        ({"boot.autorestart": "false"}, None),
        ({"boot.autorestart": "true"}, When.UNLESS_STOPPED),
        ({"boot.autorestart": "true", "isola.restart": "no"}, When.NO),
    ],
)
def test_the_key_of_incus_is_a_policy_where_there_is_no_other(config: dict[str, str], when: When | None) -> None:
    policy = policy_of(config)
    assert (policy and policy.when) == when


def test_pauses_double_up_to_a_minute() -> None:
    assert [pause_after(ends) for ends in (1, 2, 3, 4, 9, 10, 11, 10_000)] == [0.1, 0.2, 0.4, 0.8, 25.6, 51.2, 60, 60]


async def test_a_crash_loop_is_started_again_after_growing_pauses(still: World) -> None:
    await application(still, "always")
    waited = []
    for count in range(1, 6):
        await end(still, 3)
        assert status(still) is Status.STARTING and restarts(still) == count - 1
        assert record(still).last_run is not None and not await differences(still)
        waited.append(await pause(still))
        assert restarts(still) == count
    assert waited == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6], abs=0.11)
    await still.host.clock.advance(10)
    await end(still)
    assert await pause(still) == 0.1, "a run of ten seconds resets the pause"
    assert restarts(still) == 6


@pytest.mark.parametrize(
    ("policy", "code", "again"),
    [
        ("no", 1, False),
        ("always", 0, True),
        ("unless-stopped", 0, True),
        ("on-failure", 0, False),
        ("on-failure", 9, True),
    ],
)
async def test_the_policy_and_the_status_decide(still: World, policy: str, code: int, again: bool) -> None:
    await application(still, policy)
    await end(still, code)
    assert status(still) is (Status.STARTING if again else Status.STOPPED)


async def test_failures_are_counted_until_a_start_by_the_user(still: World) -> None:
    await application(still, "on-failure:2")
    for _ in range(2):
        await end(still)
        await pause(still)
    await end(still)
    assert status(still) is Status.STOPPED and restarts(still) == 2
    await still.finish(still.parts.services.instances.start(WEB))
    assert restarts(still) == 0
    await end(still)
    assert status(still) is Status.STARTING


@pytest.mark.parametrize("how", ["stop", "kill", "signal", "delete"])
async def test_the_user_has_the_last_word(still: World, how: str) -> None:
    instances, id = still.parts.services.instances, await application(still, "always")
    if how == "signal":
        spec = still.on_host("web1").spec
        await instances.runs.signal(WEB, spec.stop_signal)
        await settle(still)
    elif how == "delete":
        await still.finish(instances.delete(WEB, force=True))
    else:
        await still.finish(instances.stop(WEB, force=how == "kill"))
    await still.host.clock.advance(100)
    assert id not in still.context.live and not still.context.restarts and not await differences(still)
    if how != "delete":
        assert status(still) is Status.STOPPED


@pytest.mark.parametrize("verb", ["stop", "delete"])
async def test_a_pending_start_is_cancelled(still: World, verb: str) -> None:
    id = await application(still, "always")
    await end(still)
    await still.finish(getattr(still.parts.services.instances, verb)(WEB, force=True))
    await still.host.clock.advance(100)
    assert id not in still.context.live and not still.context.restarts and not await differences(still)


async def test_waiting_clients_are_told_of_each_end(still: World) -> None:
    await application(still, "always")
    instances = still.parts.services.instances
    first = [instances.wait(WEB, until) for until in (Until.NOT_RUNNING, Until.NEXT_EXIT)]
    await end(still, 4)
    assert [await each for each in first] == [4, 4]
    second = instances.wait(WEB)
    await pause(still)
    assert not second.done()
    await end(still, 5)
    assert await second == 5


async def test_a_change_of_the_policy_counts_from_the_next_end_on(still: World) -> None:
    await application(still, "always")
    await still.finish(
        still.parts.services.instances.update(
            WEB, lambda found: InstanceUpdate({"isola.restart": "no"}, found.devices, found.profiles)
        )
    )
    await end(still)
    assert status(still) is Status.STOPPED


@pytest.mark.parametrize(
    ("policy", "what", "runs"),
    [
        ("always", "ends", True),
        ("on-failure", "ends", True),
        ("no", "ends", False),
        ("always", "stopped", True),
        ("unless-stopped", "stopped", False),
        ("unless-stopped", "boot", True),
        ("on-failure", "boot", True),
        ("no", "boot", False),
        ("always", "stopped, boot", True),
    ],
)
async def test_the_next_daemon_applies_it(still: World, policy: str, what: str, runs: bool) -> None:
    id = await application(still, policy)
    if "stopped" in what:
        await still.finish(still.parts.services.instances.stop(WEB, force=True))
    await still.parts.services.instances.close()
    await end_tasks()
    if "ends" in what:
        still.runtime.end(id, 3)
    if "boot" in what:
        if id in still.runtime.instances:
            await still.runtime.remove(id)
        still.host.system.boot = "another"
    await still.start()
    await still.host.clock.advance(1)
    await settle(still)
    assert status(still) is (Status.RUNNING if runs else Status.STOPPED)
    if "ends" in what and runs:
        last = record(still).last_run
        assert last is not None and (last.exit_status, last.restarts) == (3, 1)


async def test_one_that_never_ran_is_not_started_by_the_daemon(still: World) -> None:
    await still.create("web1", config={"isola.restart": "always"})
    await still.parts.services.instances.close()
    await still.start()
    assert status(still) is Status.STOPPED


async def test_a_stop_may_kill_after_its_timeout(still: World) -> None:
    await application(still, "no")
    still.runtime.ends_on = frozenset({9})
    stopping = still.parts.services.instances.stop(WEB, timeout=0.001, kill=True, signal=10)
    await still.finish(stopping)
    last = record(still).last_run
    assert last is not None and last.exit_status == 137


async def test_a_stop_may_send_another_signal(still: World) -> None:
    await application(still, "no")
    still.runtime.ends_on = frozenset({10})
    await still.finish(still.parts.services.instances.stop(WEB, signal=10))
    last = record(still).last_run
    assert last is not None and last.exit_status == 138
