"""Device nodes in instances: common code of character and block devices."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import ClassVar

from isola.devices import values
from isola.devices.driver import DeviceDriver, Parts, Plug, Target
from isola.errors import HostFailure, InvalidInput, NotFound, WrongState
from isola.host.guest_mounts import Graft
from isola.host.nodes import ANY_ACCESS, DeviceNumber
from isola.operations import Operation
from isola.runtimes import Capability
from isola.settings import Setting, Settings, boolean, whole

log = logging.getLogger(__name__)
_MOUNT, _RULE = "mount", "rule"
_HIGHEST_NUMBER = (1 << 20) - 1


def _access(value: str) -> str:
    if not value or set(value) - set(ANY_ACCESS) or len(set(value)) != len(value):
        raise ValueError("letters out of rwm are expected")
    return value


def table(kind: str, example: str) -> Settings:
    """The keys of both types."""
    return Settings(
        kind,
        Setting("source", values.path_on_host, f"The device node of the host, such as `{example}`; by default `path`."),
        Setting("path", values.path_inside, "Path of the node inside; by default `source`."),
        Setting("major", whole(0, 4095), "Major number; by default that of `source`."),
        Setting("minor", whole(0, _HIGHEST_NUMBER), "Minor number; by default that of `source`."),
        Setting("uid", whole(0, 65535), "Owner of the node inside.", "0"),
        Setting("gid", whole(0, 65535), "Group of the node inside.", "0"),
        Setting("mode", values.mode, "Permission bits, in octal.", "0660"),
        Setting("access", _access, "What processes may do: read (`r`), write (`w`), create nodes (`m`).", "rwm"),
        Setting(
            "required",
            boolean,
            "Whether the instance fails to start if the device does not exist; if not, a device below `/dev` comes"
            " to the running instance when it comes to the host, and goes with it.",
            "true",
        ),
    )


class NodeDevice(DeviceDriver):
    """A node created on the host for this instance and mounted on a file inside; its control group permits access."""

    character: ClassVar[bool]

    def __init__(self, parts: Parts) -> None:
        super().__init__(parts)
        self._followed: dict[tuple[str, str], Callable[[], None]] = {}
        """Devices that may come and go, by instance and name: ends following them."""

    @classmethod
    def check(cls, where: str, config: Mapping[str, str]) -> None:
        """Both numbers or neither; a source or a path."""
        if not config.get("source") and not config.get("path"):
            raise InvalidInput("A device needs a source or a path", field=f"{where}.source", remedy="set its node")
        if bool(config.get("major")) != bool(config.get("minor")):
            missing = "minor" if config.get("major") else "major"
            raise InvalidInput("Major and minor number belong together", field=f"{where}.{missing}", remedy="give both")
        values.path_inside(_inside(config))

    @classmethod
    def place(cls, name: str, config: Mapping[str, str]) -> str | None:
        """Its path inside."""
        return f"path {_inside(config)}"

    @classmethod
    def order(cls, name: str, config: Mapping[str, str]) -> tuple[int, str]:
        """After disks, because its path may be on one of them."""
        return 1000, name

    async def require(self, plug: Plug) -> None:
        """The device exists, unless ``required`` is false, and has the right type."""
        if _required(plug):
            await self._number(plug)

    def _require(self, plug: Plug, target: Target) -> None:
        target.capabilities.require(Capability.DEVICES)

    async def _attach(self, plug: Plug, target: Target) -> None:
        self._follow(plug)  # before it is looked at, so that nothing is missed
        try:
            number = await self._number(plug)
        except NotFound:
            if _required(plug):
                raise
            return
        await self._plug_in(plug, target, number)

    async def _plug_in(self, plug: Plug, target: Target, number: DeviceNumber) -> None:
        config, instance = plug.config, plug.instance
        # Written before any effect, so that ``_detach`` can undo all of it.
        note = {_RULE: number.rule}
        await self.notes.write(instance.id, plug.name, note)
        await target.guest.let_open(number, allowed=True, access=config.get("access") or ANY_ACCESS)
        node = self._node(plug)
        await self.host.nodes.make(
            node,
            number,
            uid=instance.idmap.outside(int(config.get("uid") or 0)),
            gid=instance.idmap.outside(int(config.get("gid") or 0)),
            mode=values.mode(config.get("mode") or "0660"),
        )
        async with self.host.guest_mounts.prepare(Graft(node, nodes=True)) as tree:
            await self.notes.write(instance.id, plug.name, note | {_MOUNT: str(tree.number)})
            await target.guest.mount(tree, _inside(config))

    async def resume(self, plug: Plug, target: Target) -> None:
        """It may have come or gone while no daemon ran."""
        self._follow(plug)
        if (plug.instance.id, plug.name) in self._followed:
            self.parts.changed(plug.instance.id, plug.name)

    async def settle(self, op: Operation, plug: Plug, target: Target) -> None:
        """Also another device of the same path: a stick that was plugged in again has other numbers."""
        if (plug.instance.id, plug.name) not in self._followed:
            return
        try:
            number = await self._number(plug)
        except (NotFound, InvalidInput):
            number = None
        has = (await self.notes.read(plug.instance.id, plug.name)).get(_RULE)
        if has == (number.rule if number else None) and (number is None or await self._attached(plug, target)):
            return

        async def change() -> None:
            await self._pull_out(plug, target)
            if number is not None:
                await self._plug_in(plug, target, number)

        await op.effect(f"settle device {plug.name}", change, undo=lambda: self._pull_out(plug, target))

    async def ended(self, instance_id: str) -> None:
        for id, name in [key for key in self._followed if key[0] == instance_id]:
            self._followed.pop((id, name))()

    async def close(self) -> None:
        for end in self._followed.values():
            end()
        self._followed.clear()

    def _follow(self, plug: Plug) -> None:
        """A host that has no more watches to give keeps no instance from starting."""
        key, source = (plug.instance.id, plug.name), plug.config.get("source") or plug.config.get("path") or ""
        if _required(plug) or plug.config.get("major") or key in self._followed or not source.startswith("/dev/"):
            return
        try:
            self._followed[key] = self.host.nodes.follow(Path(source), lambda: self.parts.changed(*key))
        except HostFailure as error:
            log.warning("Device %s of %s will not be given when it comes: %s", plug.name, plug.instance.name, error)

    async def _detach(self, plug: Plug, target: Target | None) -> None:
        if (end := self._followed.pop((plug.instance.id, plug.name), None)) is not None:
            end()
        await self._pull_out(plug, target)

    async def _pull_out(self, plug: Plug, target: Target | None) -> None:
        note = await self.notes.read(plug.instance.id, plug.name)
        if target is not None:
            if _MOUNT in note:
                with contextlib.suppress(WrongState):  # its mounts ended with it
                    await target.guest.unmount(int(note[_MOUNT]))
            if _RULE in note and note[_RULE] not in await self._rules_of_others(plug):
                with contextlib.suppress(WrongState):
                    await target.guest.let_open(DeviceNumber.of_rule(note[_RULE]), allowed=False)
        await self.host.files.remove_tree(self._node(plug))
        await self.notes.forget(plug.instance.id, plug.name)

    async def _attached(self, plug: Plug, target: Target) -> bool:
        note = await self.notes.read(plug.instance.id, plug.name)
        return _MOUNT in note and int(note[_MOUNT]) in await target.guest.mounts()

    async def _rules_of_others(self, plug: Plug) -> set[str]:
        """The device rules that other devices of the same instance need."""
        names = [name for name in plug.instance.plugged if name != plug.name]
        notes = [await self.notes.read(plug.instance.id, name) for name in names]
        return {note[_RULE] for note in notes if _RULE in note}

    async def _number(self, plug: Plug) -> DeviceNumber:
        """From the configuration, or from the host's node. Raises NotFound, InvalidInput."""
        config = plug.config
        if config.get("major"):
            return DeviceNumber(self.character, int(config["major"]), int(config["minor"]))
        source = config.get("source") or config["path"]
        try:
            found = await self.host.nodes.find(Path(source))
        except NotFound as error:
            remedy = "plug it in, give its numbers, or set required=false"
            raise NotFound(error.message, field=f"{plug.field}.source", remedy=remedy) from error
        except InvalidInput as error:
            raise InvalidInput(error.message, field=f"{plug.field}.source", remedy=error.remedy) from error
        if found.character != self.character:
            what, other = ("character", "unix-block") if self.character else ("block", "unix-char")
            raise InvalidInput(
                f"{source} is not a {what} device", field=f"{plug.field}.source", remedy=f"use type {other}"
            )
        return found

    def _node(self, plug: Plug) -> Path:
        return self.notes.home(plug.instance.id) / f"{plug.name}.node"


def _required(plug: Plug) -> bool:
    return boolean(plug.config.get("required") or "true")


def _inside(config: Mapping[str, str]) -> str:
    return values.path_inside(config.get("path") or config["source"])
