"""Devices of instances: the interface to their drivers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from isola.devices.checks import driver_of, without_type
from isola.devices.driver import DeviceDriver, Parts, Plug, Stage, Target
from isola.devices.notes import Notes
from isola.errors import IsolaError
from isola.model.device import DeviceState
from isola.model.disk import Disk
from isola.model.instance import Instance
from isola.operations import Operation
from isola.runtimes import TapNic

Configured = Mapping[str, Mapping[str, str]]
"""Expanded devices: name -> configuration with ``type``."""
States = Mapping[str, DeviceState]


@dataclass(frozen=True, slots=True)
class Change:
    """From one record of an instance to the next; ``target``: it runs."""

    old: Instance
    new: Instance
    target: Target | None


class Devices:
    """The states in an instance's record (``plugged``) describe its devices on the host while it runs."""

    def __init__(self, parts: Parts) -> None:
        self._parts = replace(parts, changed=self._changed)
        self._on_change: Callable[[str, str], object] = lambda id, name: None
        self._drivers: dict[str, DeviceDriver] = {}
        self._notes = Notes(parts.host, parts.directory / "devices")

    def when_changed(self, callback: Callable[[str, str], object]) -> None:
        """Call this with the id of an instance and the name of a device that may have come or gone on the host."""
        self._on_change = callback

    def _changed(self, id: str, name: str) -> None:
        self._on_change(id, name)

    def driver(self, kind: str) -> DeviceDriver:
        """Raises Unsupported."""
        if kind not in self._drivers:
            self._drivers[kind] = driver_of(kind)(self._parts)
        return self._drivers[kind]

    def plugs(self, instance: Instance, states: States | None = None) -> list[Plug]:
        """Its devices with the recorded or the given states, in the order in which they are attached."""
        found = instance.plugged if states is None else states
        plugs = [Plug(instance, name, state) for name, state in found.items()]
        return sorted(plugs, key=lambda plug: self.driver(plug.state.kind).order(plug.name, plug.config))

    async def require(self, instance: Instance, devices: Configured) -> None:
        """Check expanded devices against the host and other instances. Raises errors of drivers, with a field."""
        for plug in self._wanted(instance, devices):
            await self.driver(plug.state.kind).require(plug)

    async def refused(self, instance: Instance, devices: Configured) -> dict[str, IsolaError]:
        """Devices that currently cannot be attached because of the host or other instances, with the errors."""
        found = {}
        for plug in self._wanted(instance, devices):
            try:
                await self.driver(plug.state.kind).require(plug)
            except IsolaError as error:
                found[plug.name] = error
        return found

    def require_fit(self, instance: Instance, target: Target) -> None:
        """Raises Unsupported, with a field, for the first recorded device that such a target cannot have. Pure."""
        for plug in self.plugs(instance):
            self.driver(plug.state.kind).require_fit(plug, target)

    async def choose(
        self, op: Operation, instance: Instance, devices: Configured, *, starting: bool = False
    ) -> dict[str, DeviceState]:
        """The states of expanded devices; facts in the record of the same devices are kept if they still apply.

        ``starting``: the instance is about to run.
        """
        found: dict[str, DeviceState] = {}
        plugs = list(self._wanted(instance, devices))
        # NICs first: other devices depend on their addresses.
        for plug in sorted(plugs, key=lambda plug: self.driver(plug.state.kind).stage):
            known = instance.plugged.get(plug.name)
            so_far = Plug(replace(instance, plugged=dict(found)), plug.name, plug.state)
            found[plug.name] = await self.driver(plug.state.kind).choose(op, so_far, known, starting=starting)
        return {plug.name: found[plug.name] for plug in plugs}

    def forget(self, plugs: Iterable[Plug], *, but: Instance | None = None) -> None:
        """Release what was chosen for devices, such as addresses, unless ``but``, the next record, has the same."""
        kept = {} if but is None else but.plugged
        for plug in plugs:
            other = kept.get(plug.name)
            if other is None or not self.driver(plug.state.kind).shares(plug.state, other):
                self.driver(plug.state.kind).forget(plug)

    def rest(self, instance: Instance) -> None:
        """Release what was chosen for a run that has ended."""
        for plug in self.plugs(instance):
            self.driver(plug.state.kind).rest(plug)

    def forgotten(self, states: States) -> dict[str, DeviceState]:
        """What is known of devices that were released, to choose the same again."""
        return {name: self.driver(state.kind).forgotten(state) for name, state in states.items()}

    def lasting(self, states: States) -> dict[str, DeviceState]:
        """What of the states of an instance or a snapshot a copy has, too, and the instance when it is restored."""
        found = {name: self.driver(state.kind).lasting(state) for name, state in states.items()}
        return {name: state for name, state in found.items() if state is not None}

    def taps(self, instance: Instance) -> tuple[TapNic, ...]:
        """Its NICs, for a guest with taps."""
        found = (self.driver(plug.state.kind).tap(plug) for plug in self.plugs(instance))
        return tuple(tap for tap in found if tap is not None)

    async def disks(self, op: Operation, instance: Instance) -> tuple[Disk, ...]:
        """Its block devices at its start, without its root, for a guest with disks."""
        found = [await self.driver(plug.state.kind).disk(op, plug) for plug in self.plugs(instance)]
        return tuple(disk for disk in found if disk is not None)

    async def register(self, op: Operation, instance: Instance) -> None:
        for plug in self.plugs(instance):
            await self.driver(plug.state.kind).register(op, plug)

    async def unregister(self, op: Operation, plugs: Iterable[Plug]) -> None:
        """Undo ``register``."""
        for plug in plugs:
            await self.driver(plug.state.kind).unregister(op, plug)

    async def rename(self, op: Operation, old: Instance, new: Instance) -> None:
        """Register its devices under its new name."""
        for before, after in zip(self.plugs(old), self.plugs(new), strict=True):
            await self.driver(before.state.kind).rename(op, before, after)

    async def rename_running(self, op: Operation, old: Instance, new: Instance) -> None:
        """The same without a moment in which it is known by neither name."""
        for before, after in zip(self.plugs(old), self.plugs(new), strict=True):
            await self.driver(before.state.kind).rename_over(op, before, after)

    async def attach(self, op: Operation, instance: Instance, target: Target, stage: Stage) -> None:
        """At a start: attach the devices of this stage."""
        for plug in self.plugs(instance):
            driver = self.driver(plug.state.kind)
            if driver.stage is stage:
                await driver.attach(op, plug, target)

    async def detach(self, op: Operation, plugs: Iterable[Plug], target: Target | None = None) -> None:
        """Detach in reverse order; without ``target`` if the instance has ended."""
        for plug in reversed(list(plugs)):
            await self.driver(plug.state.kind).detach(op, plug, target)

    async def change(self, op: Operation, old: Instance, new: Instance, target: Target | None) -> None:
        """Change from the devices of one record to those of the next, running (``target``) or not, with an undo."""
        before, after = ({plug.name: plug for plug in self.plugs(one)} for one in (old, new))
        for name, plug in reversed(list(before.items())):
            if name not in after or not _same_driver(plug, after[name]):
                await self.driver(plug.state.kind).withdraw(op, plug, target)
        for name, plug in after.items():
            driver = self.driver(plug.state.kind)
            if name in before and _same_driver(before[name], plug):
                if before[name].state == plug.state:
                    continue
                if target is not None:
                    await driver.update(op, before[name], plug, target)
                    continue
                await driver.withdraw(op, before[name], None)
            await driver.register(op, plug)
            if target is not None:
                await driver.attach(op, plug, target)

    async def hand_over(self, op: Operation, giver: Change, taker: Change) -> None:
        """Give devices to another instance that gets them under the same names; both end as their records say."""
        before, after = ({plug.name: plug for plug in self.plugs(each)} for each in (giver.old, giver.new))
        had, gets = ({plug.name: plug for plug in self.plugs(each)} for each in (taker.old, taker.new))
        passed = [
            name
            for name in before.keys() - after.keys()
            if name in gets.keys() - had.keys() and _same_driver(before[name], gets[name])
        ]
        for name in sorted(passed):
            driver, old, new = self.driver(before[name].state.kind), before[name], gets[name]
            if taker.target is not None and driver.passed_on(old.config) and driver.passed_on(new.config):
                await driver.hand_over(op, old, new, (giver.target, taker.target))
                before.pop(name)
                had[name] = new
        await self.change(op, replace(giver.old, plugged=_states(before)), giver.new, giver.target)
        await self.change(op, replace(taker.old, plugged=_states(had)), taker.new, taker.target)

    def changing(self, old: Instance, new: Instance) -> dict[str, DeviceState]:
        """What ``change`` may leave incomplete: the new state, or else the old one, of each device that differs."""
        names = {*old.plugged, *new.plugged}
        found = {name: (new.plugged.get(name), old.plugged.get(name)) for name in sorted(names)}
        return {name: come or gone for name, (come, gone) in found.items() if come != gone and (come or gone)}  # type: ignore[misc]

    def differs(self, instance: Instance, devices: Configured) -> bool:
        """Whether the recorded states of its devices do not match the configuration."""
        wanted = {plug.name: plug for plug in self._wanted(instance, devices)}
        return set(wanted) != set(instance.plugged) or any(
            state.kind != wanted[name].state.kind or not self.driver(state.kind).stands_for(wanted[name], state)
            for name, state in instance.plugged.items()
        )

    def kept(self, old: Instance, new: Instance) -> frozenset[str]:
        """Devices whose records differ, but not what the host has of them: Isola 0.1 recorded less."""
        return frozenset(
            name
            for name, state in new.plugged.items()
            if (before := old.plugged.get(name)) is not None
            and (before.kind, before.facts) == (state.kind, state.facts)
            and self.driver(state.kind).stands_for(Plug(new, name, state), before)
        )

    async def forget_run(self, instance_id: str) -> None:
        """Remove the notes on its devices, after the instance has ended and its devices are detached."""
        for driver in self._drivers.values():
            await driver.ended(instance_id)
        await self._notes.forget_all(instance_id)

    async def close(self) -> None:
        """The devices stay attached, and their processes keep running."""
        for driver in self._drivers.values():
            await driver.close()

    def _wanted(self, instance: Instance, devices: Configured) -> Iterator[Plug]:
        states = {
            name: DeviceState(device["type"], without_type(device))
            for name, device in devices.items()
            if device.get("type", "none") != "none"
        }
        yield from self.plugs(instance, states)


def _states(plugs: Mapping[str, Plug]) -> States:
    return {name: plug.state for name, plug in plugs.items()}


def _same_driver(one: Plug, other: Plug) -> bool:
    return one.state.kind == other.state.kind
