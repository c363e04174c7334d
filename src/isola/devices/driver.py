"""The device driver kind. ``drivers/<type>.py`` exports its class as ``DRIVER``.

A device has three stages. It is *chosen* when the instance is made or changed: addresses and the like, which stay with
it. It is *registered* as long as the instance has it, running or not. It is *attached* while the instance runs. The
same ``attach`` and ``detach`` serve a start, a change of what runs, a rollback, a repair and a stop.
"""

from __future__ import annotations

from abc import ABC
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import ClassVar

from isola.devices.notes import Notes
from isola.errors import Unsupported
from isola.host import Host
from isola.model.device import DeviceState
from isola.model.identity import HostNames
from isola.model.instance import Instance
from isola.model.network import Endpoint, NetworkNamespace, Nic
from isola.model.reference import Ref
from isola.model.volume import VolumeRef
from isola.network import Networks
from isola.operations import Operation
from isola.runtimes import Guest
from isola.settings import Settings
from isola.storage import Pools, Volumes

Config = Mapping[str, str]


class Stage(IntEnum):
    """When in a start a device is attached; all of them can be later, while the instance runs."""

    NETWORK = 1
    """There is a network namespace, and nothing runs in it."""
    PROCESS = 2
    """The first process is there, with its root, and is held before its program."""
    PROGRAM = 3
    """The program runs."""


@dataclass(frozen=True, slots=True)
class Target:
    """An instance that runs or is about to, as far as devices reach into it."""

    endpoint: Endpoint
    """Where its NICs end."""
    running: Guest | None = None
    """None before anything of it is there."""

    @property
    def network(self) -> Path:
        """A file that stands for its network namespace. Raises Unsupported."""
        if not isinstance(self.endpoint, NetworkNamespace):
            raise Unsupported("Devices of this type need an instance that shares the host's kernel")
        return self.endpoint.path

    @property
    def guest(self) -> Guest:
        """The run; for devices that are attached when there is one."""
        assert self.running is not None
        return self.running


@dataclass(frozen=True, slots=True)
class Plug:
    """A device of one instance."""

    instance: Instance
    name: str
    state: DeviceState

    @property
    def config(self) -> Config:
        """As configured."""
        return self.state.config

    @property
    def field(self) -> str:
        """What an error about it names."""
        return f"devices.{self.name}"


@dataclass(frozen=True, slots=True)
class Parts:
    """What drivers stand on."""

    host: Host
    directory: Path
    names: HostNames
    networks: Networks
    pools: Pools
    volumes: Volumes
    volume_ref: Callable[[str, str, str], VolumeRef]
    """Project, pool and name of a volume as an instance of that project names it -> what ``volumes`` calls it."""
    network_ref: Callable[[str, str], Ref]
    """The network that instances of a project mean by a name."""
    nic: Callable[[Plug], Nic]
    """A NIC on a managed network, as its driver takes it."""
    disk_paths: Callable[[str], tuple[str, ...]] = lambda project: ()
    """Directories of the host that disks of a project may lie below; empty: anywhere."""
    others: Callable[[], list[Plug]] = list
    """All devices of all instances: what is held already."""


class DeviceDriver(ABC):
    """All devices of one type. The public methods do look-push-do once; drivers write the ``_hooks``."""

    settings: ClassVar[Settings]
    """Its keys without ``type``, as documented for this type in the LXD API."""
    stage: ClassVar[Stage] = Stage.PROCESS
    example: ClassVar[Config]
    """A configuration, without ``type``, that works on any host: what help shows and its contract is tested with."""

    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        self.host = parts.host
        self.notes = Notes(parts.host, parts.directory / "devices")

    @classmethod
    def check(cls, where: str, config: Config) -> None:
        """What the table of keys cannot say: which keys go together. ``where`` begins an error's field. Pure."""
        return None

    @classmethod
    def pool(cls, config: Config) -> str | None:
        """The storage pool it names, or None. Pure."""
        return None

    @classmethod
    def network(cls, config: Config) -> str | None:
        """The managed network it names, or None. Pure."""
        return None

    @classmethod
    def place(cls, name: str, config: Config) -> str | None:
        """What of the instance it takes, such as ``path /dev/kvm``: no other device may have the same. Pure."""
        return None

    @classmethod
    def order(cls, name: str, config: Config) -> tuple[int, str]:
        """Devices are attached in this order, and detached in reverse: a path before what lies below it. Pure."""
        return 0, name

    async def require(self, plug: Plug) -> None:
        """Check it against the host, and against what other instances have, before anything is done.

        Raises InvalidInput, NotFound, InUse, Unsupported, with a field.
        """
        return None

    async def choose(self, op: Operation, plug: Plug, known: DeviceState | None) -> DeviceState:
        """The state it shall have; facts that are ``known`` are kept where they still fit. Undone by a rollback."""
        return plug.state

    def stands_for(self, plug: Plug, state: DeviceState) -> bool:
        """Whether a recorded state is of what is configured now. Pure."""
        return state.config == plug.config

    def shares(self, state: DeviceState, other: DeviceState) -> bool:
        """Whether what was chosen for one is the other's now. Pure."""
        return state.facts == other.facts

    def forget(self, plug: Plug) -> None:
        """What was chosen is free again: the record that had it is gone, or has another."""
        return None

    async def register(self, op: Operation, plug: Plug) -> None:
        """Make known what the instance has, running or not."""
        await op.effect(
            f"register device {plug.name}", lambda: self._register(plug), undo=lambda: self._unregister(plug)
        )

    async def unregister(self, op: Operation, plug: Plug) -> None:
        """The reverse; fine when it is not known."""
        await op.effect(f"unregister device {plug.name}", lambda: self._unregister(plug))

    async def rename(self, op: Operation, old: Plug, new: Plug) -> None:
        """Register it under the new name of its instance."""

        async def swap(gone: Plug, come: Plug) -> None:
            await self._unregister(gone)
            await self._register(come)

        await op.effect(f"register device {new.name} anew", lambda: swap(old, new), undo=lambda: swap(new, old))

    async def attach(self, op: Operation, plug: Plug, target: Target) -> None:
        """Plug it into what runs. Nothing stays when it fails."""
        await op.effect(
            f"attach device {plug.name}",
            lambda: self._attach(plug, target),
            undo=lambda: self._detach(plug, target),
        )

    async def detach(self, op: Operation, plug: Plug, target: Target | None) -> None:
        """Unplug it; ``target`` is None where nothing of the instance runs any more. Fine when it is not attached."""
        await op.effect(f"detach device {plug.name}", lambda: self._detach(plug, target))

    async def withdraw(self, op: Operation, plug: Plug, target: Target | None) -> None:
        """Take it away from an instance that stays, running (``target``) or not; undone by giving it back."""

        async def back() -> None:
            await self._register(plug)
            if target is not None and not await self._attached(plug, target):
                await self._detach(plug, target)  # what is left of it, where it went half-way
                await self._attach(plug, target)

        async def take() -> None:
            await self._detach(plug, target)
            await self._unregister(plug)

        await op.effect(f"withdraw device {plug.name}", take, undo=back)

    async def update(self, op: Operation, old: Plug, new: Plug, target: Target) -> None:
        """Change what is plugged into a running instance; undone by the reverse."""
        await self.withdraw(op, old, target)
        await self.register(op, new)
        await self.attach(op, new, target)

    async def resume(self, plug: Plug, target: Target) -> None:
        """At the start of the daemon: look after it again, and bring back what has ended meanwhile."""
        return None

    async def close(self) -> None:
        """Stop watching companion processes when the daemon ends; the devices stay plugged."""
        return None

    async def _register(self, plug: Plug) -> None:  # noqa: B027 - most have nothing to register
        """Hook."""

    async def _unregister(self, plug: Plug) -> None:  # noqa: B027
        """Hook."""

    async def _attach(self, plug: Plug, target: Target) -> None:  # noqa: B027 - some have nothing on the host
        """Hook: leaves nothing behind when it fails half-way that ``_detach`` could not find."""

    async def _detach(self, plug: Plug, target: Target | None) -> None:  # noqa: B027
        """Hook: fine when it is not attached."""

    async def _attached(self, plug: Plug, target: Target) -> bool:
        """Hook: whether it is plugged in, all of it."""
        return False
