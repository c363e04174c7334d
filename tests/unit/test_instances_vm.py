"""Every verb of instances over virtual machines in memory, which have no PID, no shared kernel and no path on the host.

The public methods of ``Instances`` and ``Snapshots`` are the list: a new one needs a scenario here.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest
from channels import eventually
from instance_updates import change
from instance_verbs import CHANGE, DEVICES, NAME, VERBS, VICTIM, Verb, pluggable, two_pools
from memory_audit import differences
from strike import Fate, end_tasks

from isola.errors import InvalidInput, NotFound, Unsupported
from isola.instances.copy import Source
from isola.instances.instances import Instances
from isola.instances.log_verbs import Logs
from isola.instances.move import Destination
from isola.instances.snapshots import Snapshots
from isola.model.caller import DAEMON
from isola.model.exec import ConsoleRequest, ExecRequest
from isola.model.instance import Instance, InstanceRequest, InstanceUpdate, Status
from isola.model.log_query import LogQuery
from isola.model.reference import Ref
from isola.model.state_change import Action, StateChange
from isola.operations import Operation
from isola.runtimes import Channel
from isola.testing.commands import FakeCommand
from isola.testing.parts import World
from isola.testing.vm import FakeVm

COPY = Ref.default("copy")


class Recorded:
    """Forwards calls, and records their names."""

    def __init__(self, verbs: object, called: set[str], prefix: str = "") -> None:
        self._verbs, self._called, self._prefix = verbs, called, prefix

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._verbs, name)
        if isinstance(found, (Logs, Snapshots)):
            return Recorded(found, self._called, f"{name}.")
        self._called.add(self._prefix + name)
        return found


class Machines:
    """A daemon in memory with virtual machines, and the verbs of instances that were called."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.called: set[str] = set()

    @property
    def instances(self) -> Instances:
        return cast(Instances, Recorded(self.world.parts.services.instances, self.called))

    async def do(self, operation: Operation) -> None:
        await self.world.finish(operation)

    def get(self, ref: Ref = VICTIM) -> Instance:
        return self.world.parts.services.instances.get(ref)

    def status(self, ref: Ref = VICTIM) -> Status:
        return self.world.parts.services.instances.status(self.get(ref))

    async def put(self, content: bytes, path: str = "/data", uid: int = 7) -> None:
        async def blocks() -> AsyncIterator[bytes]:
            yield content

        async with self.instances.files(VICTIM) as root:
            await root.write(path, blocks(), uid=uid, gid=uid, mode=0o640)

    async def content(self, path: str = "/data", ref: Ref = VICTIM) -> tuple[int, bytes]:
        """Owner and content of a file."""
        async with self.instances.files(ref) as root:
            return (await root.stat(path)).uid, b"".join([block async for block in await root.read(path)])

    async def store(self, content: bytes) -> None:
        """Below the mounted root, because the file system in memory does not propagate writes."""
        await self.world.host.files.write(self._place(VICTIM), content)

    async def stored(self, ref: Ref = VICTIM) -> bytes:
        return await self.world.host.files.read(self._place(ref))

    def _place(self, ref: Ref) -> Path:
        return self.world.directory / "pools/default/volumes" / self.get(ref).id / "upper/file"

    async def lost(self) -> None:
        """Restart the daemon without the record."""
        await self.world.parts.close()
        await self.world.store.delete(f"/instances/default/{NAME}")
        await self.world.start()


Scenario = Callable[[Machines], Awaitable[None]]
SCENARIOS: dict[Scenario, frozenset[str]] = {}


def covers(*names: str) -> Callable[[Scenario], Scenario]:
    """Marks a scenario, in which ``victim`` runs, with the methods it covers."""

    def note(scenario: Scenario) -> Scenario:
        SCENARIOS[scenario] = frozenset(names)
        return scenario

    return note


def public(kind: type) -> set[str]:
    return {name for name, _ in inspect.getmembers(kind, inspect.isfunction) if not name.startswith("_")}


@pytest.fixture
async def vm() -> AsyncIterator[Machines]:
    world = World(observer=Fate(), engine=FakeVm)
    await world.start()
    await world.import_image()
    yield Machines(world)
    world.forget()
    await end_tasks()


def test_there_is_a_scenario_for_every_verb() -> None:
    parts = {"snapshots": Snapshots, "logs": Logs}
    verbs = public(Instances) | {f"{part}.{name}" for part, kind in parts.items() for name in public(kind)}
    assert frozenset().union(*SCENARIOS.values()) == verbs


# --- lifecycle ------------------------------------------------------------------------------------------------------


@covers("create", "read", "get", "find", "by_id", "again", "expanded", "config")
async def is_created(vm: Machines) -> None:
    await vm.do(vm.instances.create(InstanceRequest(name="new", image="tiny", isolation=vm.world.isolation)))
    new = vm.instances.read(Ref.default("new"))
    again = vm.instances.again(new.value)
    assert again is not None and again.revision == new.revision
    assert new.value == vm.instances.get(new.value.ref) and vm.status(new.value.ref) is Status.STOPPED
    assert vm.instances.find(new.value.ref) == new.value == vm.instances.by_id(new.value.id)
    assert "root" in vm.instances.expanded(new.value)[1]
    assert vm.instances.config(new.value)["volatile.base_image"] == new.value.image


@covers("start", "stop", "restart", "status", "wait", "is_saved")
async def starts_and_stops(vm: Machines) -> None:
    await vm.do(vm.instances.stop(VICTIM, stateful=True))
    assert vm.instances.is_saved(vm.get())
    await vm.do(vm.instances.start(VICTIM))
    assert not vm.instances.is_saved(vm.get())
    first = vm.world.on_host(NAME).number
    await vm.do(vm.instances.restart(VICTIM))
    assert vm.world.on_host(NAME).number != first and vm.instances.status(vm.get()) is Status.RUNNING
    ended = vm.instances.wait(VICTIM)
    await vm.do(vm.instances.stop(VICTIM))
    assert vm.instances.status(vm.get()) is Status.STOPPED and not vm.world.runtime.instances
    last = vm.get().last_run
    assert last is not None and await ended == last.exit_status
    await vm.do(vm.instances.start(VICTIM))
    assert vm.instances.status(vm.get()) is Status.RUNNING


@covers("pause", "resume", "change_state", "change_states")
async def is_frozen(vm: Machines) -> None:
    def turns() -> Iterator[tuple[Operation, Status]]:
        yield vm.instances.pause(VICTIM), Status.FROZEN
        yield vm.instances.resume(VICTIM), Status.RUNNING
        yield vm.instances.change_state(VICTIM, StateChange(Action.FREEZE)), Status.FROZEN
        yield vm.instances.change_states([vm.get()], StateChange(Action.UNFREEZE)), Status.RUNNING

    for turn, then in turns():
        await vm.do(turn)
        assert vm.status() is then and vm.world.on_host(NAME).frozen == (then is Status.FROZEN)


@covers("rename", "delete")
async def is_renamed_and_deleted(vm: Machines) -> None:
    await vm.do(vm.instances.stop(VICTIM))
    await vm.do(vm.instances.rename(VICTIM, "new"))
    await vm.do(vm.instances.start(Ref.default("new")))
    assert vm.world.on_host("new").spec.hostname == "new"
    await vm.do(vm.instances.delete(Ref.default("new"), force=True))
    assert not vm.world.runtime.instances and not len(vm.world.parts.services.instances)


@covers("change_metadata")
async def has_other_metadata(vm: Machines) -> None:
    await vm.do(vm.instances.change_metadata(VICTIM, lambda found: found.with_file("own.tpl", "x")))
    assert [each.name for each in vm.get().start.templates] == ["own.tpl"]


@covers("update", "profile_changed")
async def is_changed_while_it_runs(vm: Machines) -> None:
    await vm.do(vm.instances.update(VICTIM, lambda _: CHANGE))
    assert vm.world.on_host(NAME).limits.processes == 77
    assert {nic.interface for nic in vm.world.on_host(NAME).nics} == {"eth0", "eth1"}
    await vm.do(vm.instances.update(VICTIM, lambda _: change()))
    assert {nic.interface for nic in vm.world.on_host(NAME).nics} == {"eth0"}

    profiles = vm.world.parts.services.profiles
    default = profiles.get(Ref.default("default"))
    wanted = dataclasses.replace(default, config={"limits.processes": "55"})
    records = vm.world.parts.records.profiles

    async def record() -> None:
        await records.change(default.ref, lambda _: wanted)

    async def take_back() -> None:
        await records.change(default.ref, lambda _: default)

    await vm.instances.profile_changed(default.ref, record, take_back, DAEMON)
    assert vm.world.on_host(NAME).limits.processes == 55


@covers("shutdown", "look", "open", "close")
async def outlives_the_daemon(vm: Machines) -> None:
    number = vm.world.on_host(NAME).number
    await vm.instances.close()
    await vm.instances.look()
    await vm.instances.open()
    await vm.world.parts.close()
    await vm.world.start()
    assert vm.world.on_host(NAME).number == number and vm.status() is Status.RUNNING
    await vm.instances.shutdown()
    assert not vm.world.runtime.instances and vm.status() is Status.STOPPED
    await vm.world.parts.close()
    await vm.world.start()
    await eventually(lambda: vm.status() is Status.RUNNING)


@covers("unknown", "adopt", "remove_unknown")
async def is_adopted(vm: Machines) -> None:
    number = vm.world.on_host(NAME).number
    await vm.lost()
    assert [(each.running, each.instance and each.instance.name) for each in vm.instances.unknown()] == [(True, NAME)]
    await vm.do(vm.instances.adopt(NAME))
    assert vm.world.on_host(NAME).number == number and vm.status() is Status.RUNNING
    await vm.lost()
    await vm.do(vm.instances.remove_unknown(NAME))
    assert not vm.world.runtime.instances and not vm.instances.unknown()


# --- inside ---------------------------------------------------------------------------------------------------------


@covers("state", "states")
async def tells_its_state(vm: Machines) -> None:
    state = await vm.instances.state(vm.get())
    assert state.status is Status.RUNNING and state.pid <= 0
    assert {"lo", "eth0"} <= {nic.name for nic in state.network}
    [same] = await vm.instances.states([vm.get()])
    assert (same.status, same.network) == (state.status, state.network)


@covers("exec", "command", "commands", "require_user")
async def runs_commands(vm: Machines) -> None:
    async def program(command: FakeCommand) -> int:
        await command.stdout.write(b"hello")
        return 3

    vm.world.runtime.programs["say"] = program
    await vm.instances.require_user(VICTIM, ExecRequest(("say",), user="root"))
    with pytest.raises(InvalidInput, match="unheard-of"):
        await vm.instances.require_user(VICTIM, ExecRequest(("say",), user="unheard-of"))
    command = vm.instances.exec(VICTIM, ExecRequest(("say",)))
    assert vm.instances.command(command.id) is command and list(vm.instances.commands(VICTIM)) == [command]
    await command.start()
    assert await command.stdout.read() == b"hello" and await command.wait() == 3
    await command.close()


@covers("display")
async def has_a_screen(vm: Machines) -> None:
    display = vm.instances.display(VICTIM, ConsoleRequest(type="vga"))
    display.open()
    stream = await display.connect()
    await stream.write(b"REDQ")
    (screen,) = vm.world.on_host(NAME).displays
    assert await screen.read() == b"REDQ"
    display.close()


@covers(
    "console", "attach", "logs.console", "logs.lines", "logs.output", "logs.clear_console", "logs.last_start",
)  # fmt: skip
async def has_a_console(vm: Machines) -> None:
    console, attachment = vm.instances.console(VICTIM, ConsoleRequest(80, 25)), await vm.instances.attach(VICTIM)
    stream = await console.attach()
    vm.world.runtime.show(vm.get().id, b"login: ")
    assert await stream.read() == b"login: " and await attachment.read() == (Channel.STDOUT, b"login: ")
    assert vm.world.on_host(NAME).console_size == (80, 25)
    console.close()
    attachment.close()
    assert await vm.instances.logs.console(VICTIM) == b"login: " == await vm.instances.logs.last_start(VICTIM)
    assert [line.data for line in await vm.instances.logs.lines(VICTIM)] == [b"login: "]
    assert [block.data async for block in vm.instances.logs.output(VICTIM, LogQuery())] == [b"login: "]
    await vm.instances.logs.clear_console(VICTIM)
    assert await vm.instances.logs.console(VICTIM) == b""


@covers("logs.names", "logs.read", "logs.require_room", "logs.record", "logs.delete")
async def keeps_logs(vm: Machines) -> None:
    await vm.instances.logs.require_room(VICTIM)
    assert not [name for name in await vm.instances.logs.names(VICTIM) if "room" in name]
    name = await vm.instances.logs.record(vm.get(), "one.stdout", b"said")
    assert name in await vm.instances.logs.names(VICTIM) and await vm.instances.logs.read(VICTIM, name) == b"said"
    await vm.instances.logs.delete(VICTIM, name)
    with pytest.raises(NotFound):
        await vm.instances.logs.read(VICTIM, name)


@covers("files", "files_session", "place")
async def has_files_with_the_same_owners_whether_it_runs_or_not(vm: Machines) -> None:
    init = (await vm.content("/sbin/init"))[0]
    assert init == 0
    await vm.put(b"while it runs")
    await vm.do(vm.instances.stop(VICTIM))
    assert await vm.content() == (7, b"while it runs") and await vm.content("/sbin/init") == (0, b"#!/bin/sh\n")
    await vm.put(b"while it is stopped", "/later", 8)
    async with vm.instances.files_session(VICTIM) as session:
        assert (await session.root.stat("/later")).uid == 8
        starting = vm.instances.start(VICTIM)
        await eventually(session.over.is_set)
    await vm.do(starting)
    async with vm.instances.place(VICTIM, "/later") as place:
        assert (await place.root.stat(place.path)).uid == 8
    assert await vm.content("/later") == (8, b"while it is stopped")


# --- snapshots and copies -------------------------------------------------------------------------------------------


@covers("snapshots.create", "snapshots.restore", "snapshots.get", "snapshots.of", "snapshots.of_all", "snapshots.size")
async def goes_back(vm: Machines) -> None:
    await vm.store(b"first")
    await vm.do(vm.instances.snapshots.create(VICTIM, "one"))
    assert not vm.world.on_host(NAME).frozen
    await vm.store(b"second")
    snapshot = vm.instances.snapshots.get(VICTIM, "one")
    assert vm.instances.snapshots.of(vm.get()) == [snapshot]
    assert vm.instances.snapshots.of_all() == {vm.get().id: [snapshot]}
    assert await vm.instances.snapshots.size(vm.get(), snapshot) >= 0
    await vm.do(vm.instances.snapshots.restore(VICTIM, "one"))
    assert vm.status() is Status.RUNNING and await vm.stored() == b"first"


@covers(
    "snapshots.rename", "snapshots.update", "snapshots.delete", "snapshots.next_name", "snapshots.look",
    "snapshots.open",
)  # fmt: skip
async def has_snapshots_by_schedule(vm: Machines) -> None:
    snapshots = vm.instances.snapshots
    assert snapshots.next_name(VICTIM) == "snap0"
    hour = datetime(2030, 1, 1, 12, tzinfo=UTC)
    await vm.do(vm.instances.update(VICTIM, lambda _: change(config={"snapshots.schedule": "@hourly"})))
    await snapshots.look(hour)
    await vm.do(snapshots.rename(VICTIM, "snap0", "old"))
    await vm.do(snapshots.update(VICTIM, "old", lambda found: dataclasses.replace(found, expires_at=hour)))
    await vm.do(snapshots.create(VICTIM, "new"))
    await snapshots.open()
    await snapshots.look(hour + timedelta(minutes=1))
    assert [each.name for each in snapshots.of(vm.get())] == ["new"]
    await vm.do(snapshots.delete(VICTIM, "new"))
    assert not snapshots.of(vm.get())


@covers("copy", "refresh")
async def is_copied(vm: Machines) -> None:
    await vm.store(b"first")
    await vm.do(vm.instances.copy(Source(VICTIM), InstanceRequest(name="copy")))
    assert vm.get(COPY).isolation == vm.world.isolation and await vm.stored(COPY) == b"first"
    await vm.store(b"second")
    await vm.do(vm.instances.refresh(Source(VICTIM), COPY))
    assert await vm.stored(COPY) == b"second"
    await vm.do(vm.instances.start(COPY))
    assert vm.status(COPY) is Status.RUNNING and await vm.stored(COPY) == b"second"


@covers("move")
async def moves_to_another_pool(vm: Machines) -> None:
    await two_pools(vm.world)
    await vm.do(vm.instances.stop(VICTIM))
    await vm.do(vm.instances.move(VICTIM, Destination(VICTIM, pool="other")))
    await vm.do(vm.instances.start(VICTIM))
    assert vm.get().volatile["root.pool"] == "other" and vm.status() is Status.RUNNING


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
async def test_a_virtual_machine(scenario: Scenario, vm: Machines) -> None:
    await vm.world.create(NAME, start=True)
    await scenario(vm)
    assert SCENARIOS[scenario] <= vm.called
    assert not await differences(vm.world)


# --- the verbs of the containers' tests, and devices ----------------------------------------------------------------

TAKEN = frozenset({"here", "scratch", "data", "tools", "nat", "web", "eth4", "eth6"})
"""Devices that need no kernel of the host inside."""
_OF_CONTAINERS = frozenset({"plug", "unplug", "replug", "start-plugged", "stop-plugged"})


@pytest.mark.parametrize(
    "verb", [verb for verb in VERBS if verb.name not in _OF_CONTAINERS], ids=lambda verb: verb.name
)
async def test_virtual_machines_support_the_verbs_of_containers(verb: Verb, vm: Machines) -> None:
    await verb.prepare(vm.world)
    await verb.act(vm.world)
    assert verb.done(vm.world) and not await differences(vm.world)


@pytest.mark.parametrize("running", [True, False], ids=["running", "stopped"])
@pytest.mark.parametrize("name", DEVICES)
async def test_a_device_is_plugged_or_refused_with_the_reason(name: str, running: bool, vm: Machines) -> None:
    await pluggable(vm.world)
    if not running:
        await vm.do(vm.instances.stop(VICTIM))
    wanted = InstanceUpdate(config={}, devices={name: DEVICES[name]}, profiles=("default",), description="")

    async def plug() -> None:
        await vm.do(vm.instances.update(VICTIM, lambda _: wanted))
        if not running:
            await vm.do(vm.instances.start(VICTIM))

    if name in TAKEN:
        await plug()
        await vm.do(vm.instances.update(VICTIM, lambda _: change()))
    else:
        with pytest.raises(Unsupported, match="kernel"):
            await plug()
    assert not await differences(vm.world)


async def test_taps_say_what_is_to_be_configured_inside(vm: Machines) -> None:
    await vm.world.create(NAME)
    await vm.world.parts.records.instances.change(
        VICTIM, lambda found: dataclasses.replace(found, start=dataclasses.replace(found.start, system=False))
    )
    await vm.do(vm.instances.start(VICTIM))
    (nic,) = vm.world.on_host(NAME).nics
    held = vm.get().plugged["eth0"].facts
    assert nic.inside is not None
    assert [each.partition("/")[0] for each in nic.inside.addresses] == [held["ipv4"], held["ipv6"]]
    assert len(nic.inside.gateways) == 2
    assert "/etc/resolv.conf" in vm.world.on_host(NAME).spec.files


async def test_images_with_their_own_network_set_up_configure_taps_themselves(vm: Machines) -> None:
    await vm.world.create(NAME, start=True)
    (nic,) = vm.world.on_host(NAME).nics
    assert nic.inside is None and not vm.world.on_host(NAME).spec.files


async def test_routed_taps_have_addresses_and_routes(vm: Machines) -> None:
    await vm.world.create(NAME, start=True)
    routed = {"type": "nic", "nictype": "routed", "name": "eth1", "ipv4.address": "192.0.2.9"}
    await vm.do(vm.instances.update(VICTIM, lambda _: change(devices={"eth1": routed})))
    (nic,) = (each for each in vm.world.on_host(NAME).nics if each.interface == "eth1")
    assert nic.inside is not None and nic.inside.addresses == ("192.0.2.9/32",) and nic.inside.onlink
    assert vm.world.host.links.routings[nic.link].subnets == ("192.0.2.9/32",)
    assert vm.world.host.links.taps[nic.link].bridge == ""
    await vm.do(vm.instances.update(VICTIM, lambda _: change()))
    assert not await differences(vm.world)


async def test_root_is_that_of_a_container(vm: Machines) -> None:
    await vm.world.create(NAME, start=True)
    spec = vm.world.on_host(NAME).spec
    assert spec.idmap == vm.get().idmap == vm.world.context.volume(vm.get()).idmap


def forwarded(vm: Machines) -> list[dict[str, Any]]:
    """Where the processes of proxies connect to."""
    texts = [text for each in vm.world.host.processes.running for text in each.call.argv if '"connect"' in text]
    return [json.loads(text)["connect"] for text in texts]


@pytest.mark.parametrize("connect", ["tcp:127.0.0.1:80", "tcp:0.0.0.0:80"])
async def test_proxies_connect_to_the_address_of_a_guest(connect: str, vm: Machines) -> None:
    await vm.world.create(NAME, start=True)
    web = {"type": "proxy", "listen": "tcp:0.0.0.0:8080", "connect": connect}
    await vm.do(vm.instances.update(VICTIM, lambda _: change(devices={"web": web})))
    (there,) = forwarded(vm)
    assert (there["host"], there["network"]) == (vm.get().plugged["eth0"].facts["ipv4"], "")
    await vm.do(vm.instances.update(VICTIM, lambda _: change()))
    assert not forwarded(vm) and not await differences(vm.world)


@pytest.mark.parametrize(
    ("proxy", "why"),
    [
        ({"listen": "tcp:127.0.0.1:80", "connect": "tcp:127.0.0.1:80", "bind": "instance"}, "sockets"),
        ({"listen": "unix:/run/x", "connect": "unix:/run/y"}, "sockets"),
        ({"listen": "tcp:127.0.0.1:80", "connect": "tcp:192.0.2.7:80"}, "forwards nothing to 192.0.2.7"),
    ],
)
async def test_proxies_that_need_a_network_namespace_are_refused(proxy: dict[str, str], why: str, vm: Machines) -> None:
    await vm.world.create(NAME, start=True)
    with pytest.raises(Unsupported, match=why):
        await vm.do(vm.instances.update(VICTIM, lambda _: change(devices={"web": {"type": "proxy", **proxy}})))
    assert not await differences(vm.world)


async def test_a_proxy_needs_an_address(vm: Machines) -> None:
    await vm.world.create(NAME, start=True)
    web = {"type": "proxy", "listen": "tcp:0.0.0.0:8080", "connect": "tcp:127.0.0.1:80"}
    without = {"eth0": {"type": "none"}, "web": web}
    with pytest.raises(Unsupported, match="has no address"):
        await vm.do(vm.instances.update(VICTIM, lambda _: change(devices=without)))
    assert not await differences(vm.world)


async def test_guests_do_without_what_shows_containers_the_host(vm: Machines) -> None:
    await vm.world.create(NAME, start=True, config={"limits.memory": "1GiB"})
    spec = vm.world.on_host(NAME).spec
    assert spec.lxcfs is None and not spec.mounts and spec.tmpfs == (1 << 30) // 10
