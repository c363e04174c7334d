"""Health checks: their settings, what follows from results, and what they leave."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from heard import lifecycle
from memory_audit import settle
from strike import end_tasks

from isola.errors import InvalidInput, WrongState
from isola.instances.health import FILE, judged, pause
from isola.instances.health_outside import reach
from isola.instances.health_settings import HEALTH_SETTINGS, duration, health_check, written
from isola.model.event import EventKind
from isola.model.health import Health, HealthResult, HealthStatus
from isola.model.image import HealthCheck
from isola.model.reference import Ref
from isola.runtimes import RUNS
from isola.testing.clock import FakeClock
from isola.testing.commands import FakeCommand
from isola.testing.files import FakeFiles
from isola.testing.host import fake_host
from isola.testing.parts import World, host_with_ids
from isola.testing.sockets import FakeStream

WEB = Ref.default("web1")
S = 10**9
NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
CHECK = HealthCheck(("/check",), interval=10 * S, timeout=2 * S, start_period=30 * S, start_interval=1 * S, retries=2)


def result(status: int) -> HealthResult:
    return HealthResult(NOON, NOON + timedelta(seconds=1), status)


def test_durations_are_read_as_docker_writes_them() -> None:
    assert [duration(text) for text in ("30s", "1m30s", "500ms", "1h", "2", "0s", "1.5s")] == [
        30 * S, 90 * S, S // 2, 3600 * S, 2 * S, 0, 3 * S // 2,
    ]  # fmt: skip
    for wrong in ("", "s", "1x", "-1s", "25h", "1us", "9" * 30, "1s1"):
        with pytest.raises(ValueError, match="a time"):
            duration(wrong)


def test_durations_are_written_as_docker_writes_them() -> None:
    texts = {0.05: "50ms", 0.0015: "1.5ms", 1: "1s", 1.5: "1.5s", 60: "1m0s", 90: "1m30s", 3600: "1h0m0s"}
    assert {seconds: written(seconds) for seconds in texts} == texts


def test_settings_take_the_place_of_those_of_the_image() -> None:
    assert health_check(None, {}) is None and health_check(HealthCheck(disabled=True), {}) is None
    found = health_check(HealthCheck(("/i",), retries=7), {"isola.health.interval": "2s"})
    assert found == HealthCheck(("/i",), False, 2 * S, 30 * S, 0, 5 * S, 7)
    own = {"isola.health.command": "curl -f localhost || exit 1"}
    found = health_check(HealthCheck(disabled=True), own)
    assert found is not None and found.argv == ("/bin/sh", "-c", own["isola.health.command"]) and found.in_shell
    found = health_check(None, {"isola.health.command": '["/check", "a b"]'})
    assert found is not None and found.argv == ("/check", "a b")
    assert health_check(found, own | {"isola.health.disable": "true"}) is None
    for wrong in ("[]", "[1]", '["', "[" * 100_000, " ", '[""]', "x" * 100_000):
        with pytest.raises(InvalidInput):
            HEALTH_SETTINGS.validate({"isola.health.command": wrong})


def test_results_are_judged_as_docker_does() -> None:
    found = judged(Health(), result(1), CHECK, age=5)
    assert (found.status, found.failing) == (HealthStatus.STARTING, 0), "the start period"
    assert pause(found, CHECK, age=5) == 1 and pause(found, CHECK, age=31) == 10
    late = judged(found, result(1), CHECK, age=31)
    assert (late.status, late.failing) == (HealthStatus.STARTING, 1)
    assert judged(late, result(-1), CHECK, age=41).status is HealthStatus.UNHEALTHY
    well = judged(found, result(0), CHECK, age=6)
    assert well.status is HealthStatus.HEALTHY and pause(well, CHECK, age=7) == 10
    assert judged(well, result(1), CHECK, age=8) == dataclasses.replace(well, failing=1, log=(*well.log, result(1)))
    for _ in range(9):
        well = judged(well, result(0), CHECK, age=9)
    assert len(well.log) == 5


@pytest.fixture
async def world() -> AsyncIterator[World]:
    """A world in which only tests advance the clock; ``sh`` is the program of checks."""
    world = World(fake_host(granted=((1 << 20, 1 << 24),), clock=FakeClock()))
    await world.start()
    await world.import_image()
    yield world
    world.forget()
    await end_tasks()


class Checks:
    """The program of the check: what it says, and how often it ran."""

    def __init__(self, world: World) -> None:
        self.status, self.runs, self.hangs = 0, 0, False
        self._clock = world.host.clock
        world.runtime.programs["sh"] = self.run

    async def run(self, command: FakeCommand) -> int:
        self.runs += 1
        if self.hangs:
            await command.stdout.write(b"almost")
            await command.signals.get()
        await command.stdout.write(b"x" * 3000)
        await command.stderr.write(b"y" * 3000)
        return self.status


async def launch(world: World, **config: str) -> Checks:
    checks = Checks(world)
    settings = {"command": "true", "interval": "10s", "timeout": "5s", "retries": "2"} | config
    await world.create("web1", start=True, config={f"isola.health.{key}": text for key, text in settings.items()})
    return checks


def health(world: World) -> Health:
    found = world.parts.services.instances.runs.health(WEB)
    assert found is not None
    return found


async def wait(world: World, seconds: float) -> None:
    for _ in range(int(seconds * 10)):
        await world.host.clock.advance(0.1)
    await settle(world)


async def test_without_a_check_there_is_no_task(world: World) -> None:
    await world.create("web1", start=True)
    [live] = world.context.live.values()
    assert live.health is None and world.parts.services.instances.runs.health(WEB) is None


async def test_it_becomes_unhealthy_and_well_again(world: World) -> None:
    checks = await launch(world)
    events = world.parts.services.events.follow([EventKind.LIFECYCLE])
    assert health(world).status is HealthStatus.STARTING
    await wait(world, 10.5)
    assert (health(world).status, checks.runs) == (HealthStatus.HEALTHY, 1)
    checks.status = 1
    await wait(world, 11)
    assert (health(world).status, health(world).failing) == (HealthStatus.HEALTHY, 1)
    await wait(world, 11)
    assert (health(world).status, health(world).failing) == (HealthStatus.UNHEALTHY, 2)
    checks.status = 0
    await wait(world, 11)
    assert (health(world).status, health(world).failing) == (HealthStatus.HEALTHY, 0)
    assert len(health(world).log[0].output) == 4096
    told = [lifecycle(event) for event in [await anext(aiter(events)) for _ in range(3)]]
    assert [each.action for each in told] == ["instance-health-status"] * 3
    assert [each.context["status"] for each in told] == ["healthy", "unhealthy", "healthy"]
    state = await world.parts.services.instances.state(world.parts.services.instances.get(WEB), disk=False)
    assert state.health == health(world)


async def test_a_check_that_hangs_is_killed_and_has_failed(world: World) -> None:
    checks = await launch(world)
    checks.hangs = True
    await wait(world, 16)
    [found] = health(world).log
    assert (found.exit_status, found.output) == (-1, "Health check exceeded timeout (5s): almost")
    await wait(world, 1)
    assert all(each._status.done() for each in world.on_host("web1").commands)


async def test_a_program_that_is_missing_is_a_failure(world: World) -> None:
    await launch(world, command='["/no/such"]')
    await wait(world, 22)
    assert health(world).status is HealthStatus.UNHEALTHY and health(world).log[-1].exit_status == 127


async def test_it_rests_while_the_instance_is_frozen_and_ends_with_the_run(world: World) -> None:
    checks = await launch(world)
    await world.finish(world.parts.services.instances.pause(WEB))
    await wait(world, 60)
    assert checks.runs == 0
    await world.finish(world.parts.services.instances.resume(WEB))
    await wait(world, 11)
    assert checks.runs == 1
    await world.finish(world.parts.services.instances.stop(WEB, force=True))
    await wait(world, 60)
    assert checks.runs == 1 and health(world).status is HealthStatus.HEALTHY
    await world.finish(world.parts.services.instances.start(WEB))
    assert health(world).status is HealthStatus.STARTING
    await world.finish(world.parts.services.instances.delete(WEB, force=True))
    assert not world.context.health


class WatchedFiles(FakeFiles):
    """Tells what is shown when the health is written."""

    shown: Callable[[], Health]
    written: list[tuple[str, Health]]

    async def write(self, path: Path, data: bytes, *, mode: int = 0o600, durable: bool = True) -> None:
        if path.name == FILE:
            self.written.append((json.loads(data)["status"], self.shown()))
        await super().write(path, data, mode=mode, durable=durable)


async def test_what_is_shown_is_known_to_the_next_daemon() -> None:
    files = WatchedFiles()
    world = World(host_with_ids(files=files, clock=FakeClock()))
    files.written, files.shown = [], lambda: health(world)
    await world.start()
    await world.import_image()
    checks = await launch(world)
    await wait(world, 11)
    checks.status = 1
    await wait(world, 22)
    assert [status for status, _ in files.written] == ["healthy", "healthy", "unhealthy"]
    assert [shown.status.value for _, shown in files.written] == ["starting", "healthy", "healthy"]
    assert health(world).status is HealthStatus.UNHEALTHY
    world.forget()
    await end_tasks()


async def test_the_next_daemon_goes_on(world: World) -> None:
    checks = await launch(world)
    run = world.directory / RUNS / world.parts.services.instances.get(WEB).id
    await world.host.files.make_directory(run)
    await wait(world, 11)
    before = health(world)
    assert before.status is HealthStatus.HEALTHY
    await world.parts.services.instances.close()
    await end_tasks()
    await world.start()
    world.runtime.programs["sh"] = checks.run
    assert health(world) == before
    await settle(world)
    assert health(world) == before
    checks.status = 3
    await wait(world, 22)
    assert health(world).status is HealthStatus.UNHEALTHY and checks.runs == 3


async def test_a_check_needs_a_run(world: World) -> None:
    await launch(world)
    await world.finish(world.parts.services.instances.stop(WEB, force=True))
    with pytest.raises(WrongState):
        await world.parts.services.instances.runs.stats(WEB)


# --- from outside -----------------------------------------------------------------------------------------------


def test_ports_are_checked_in_place_of_a_command() -> None:
    found = health_check(CHECK, {"isola.health.tcp": "80"})
    assert found is not None and (found.outside, found.argv, found.retries) == ("tcp:80", (), 2)
    found = health_check(HealthCheck(disabled=True), {"isola.health.http": "8080"})
    assert found is not None and found.outside == "http:8080/"
    assert health_check(None, {"isola.health.http": "80/a?b", "isola.health.disable": "true"}) is None
    found = health_check(None, {"isola.health.http": "80", "isola.health.command": "true"})
    assert found is not None and found.argv and not found.outside
    for key, wrong in (
        ("tcp", "0"),
        ("tcp", "65536"),
        ("tcp", "http"),
        ("http", "80 /"),
        ("http", "/x"),
        ("http", "99999"),
    ):
        with pytest.raises(InvalidInput):
            HEALTH_SETTINGS.validate({f"isola.health.{key}": wrong})


@pytest.mark.parametrize(
    ("outside", "answers", "status", "says"),
    [
        ("tcp:80", b"", 0, b"connected"),
        ("http:80/x", b"HTTP/1.1 204 No Content\r\n\r\n", 0, b"204"),
        ("http:80/x", b"HTTP/1.0 500 Oops\r\n\r\n", 1, b"500"),
        ("http:80/x", b"SSH-2.0-x\r\n", 1, b"SSH"),
        ("http:80/x", b"x" * 5000, 1, b"xxx"),
        ("tcp:81", b"", 1, b"Cannot connect"),
    ],
)
async def test_an_instance_is_reached_at_the_address_that_its_network_gave(
    world: World, outside: str, answers: bytes, status: int, says: bytes
) -> None:
    await world.create("web1", start=True)
    context, instance = world.context, world.parts.services.instances.get(WEB)
    address = next(nic.ipv4 for nic in map(context.nics.nic, context.nics.of(instance)))
    assert address
    arriving: asyncio.Queue[FakeStream] = asyncio.Queue()
    world.host.sockets.ports[address, 80] = arriving
    work = asyncio.ensure_future(reach(context, instance, dataclasses.replace(CHECK, argv=(), outside=outside)))
    if outside != "tcp:81":
        far = await arriving.get()
        if answers:
            assert b"GET /x HTTP/1.1\r\n" in await far.read()
            await far.write(answers)
            far.close()
    found = await work
    assert found[0] == status and says in found[1]


async def test_a_port_that_is_silent_has_failed(world: World) -> None:
    await launch(world, command="", http="80")
    context, instance = world.context, world.parts.services.instances.get(WEB)
    address = next(nic.ipv4 for nic in map(context.nics.nic, context.nics.of(instance)))
    assert address
    world.host.sockets.ports[address, 80] = asyncio.Queue()
    await wait(world, 16)
    [found] = health(world).log
    assert found.exit_status == -1 and "Port 80 did not answer within 5 seconds" in found.output


async def test_an_instance_without_a_network_is_not_reached(world: World) -> None:
    await world.create("web1", start=True, devices={"eth0": {"type": "none"}})
    found = await reach(
        world.context, world.parts.services.instances.get(WEB), dataclasses.replace(CHECK, outside="tcp:1")
    )
    assert found == (1, b"The instance has no address on a managed network")


async def test_a_check_and_the_saving_of_memory_wait_for_one_another(world: World) -> None:
    """A command that runs meanwhile could not be saved."""
    checks = await launch(world)
    checks.hangs = True
    await world.host.clock.advance(11)
    assert checks.runs == 1
    instances = world.parts.services.instances
    saving = instances.stop(WEB, stateful=True)
    await world.host.clock.advance(2)
    assert not saving.status.final and not instances.is_saved(instances.get(WEB))
    await world.host.clock.advance(4)
    await world.finish(saving)
    assert instances.is_saved(instances.get(WEB)) and checks.runs == 1


async def test_none_begins_while_memory_is_saved(world: World) -> None:
    checks = await launch(world)
    [live] = world.context.live.values()
    async with live.checking:
        await wait(world, 60)
        assert checks.runs == 0
    await wait(world, 11)
    assert checks.runs > 0
