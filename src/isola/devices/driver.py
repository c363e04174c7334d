"""The device driver kind. ``drivers/<type>.py`` exports its class as ``DRIVER``.

A device has three stages. ``choose`` runs when the instance is created or changed, and determines permanent properties
such as MAC addresses; when it starts, what it needs for its run, such as IPv4 addresses. The device is *registered* as
long as the instance has it, running or not. It is *attached* while the instance runs. The same ``attach`` and
``detach`` are used for start, hot-plug, rollback, repair and stop.
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
from isola.images import ImageLibrary
from isola.model.device import DeviceState
from isola.model.disk import Disk
from isola.model.identity import HostNames
from isola.model.instance import Instance
from isola.model.network import Endpoint, HostNetwork, NetworkNamespace, Nic
from isola.model.reference import Ref
from isola.model.volume import VolumeRecord, VolumeRef
from isola.network import Networks
from isola.operations import Operation
from isola.runtimes import Guest, RuntimeCapabilities, TapNic
from isola.settings import Settings
from isola.storage import Pools, Volumes

Config = Mapping[str, str]
_ALL = RuntimeCapabilities(frozenset())


class Stage(IntEnum):
    """When a device is attached during a start; all devices can also be attached later, while the instance runs."""

    NETWORK = 1
    """The network namespace exists, without processes."""
    PROCESS = 2
    """The first process exists, with its root, and waits before it executes its program."""
    PROGRAM = 3
    """The program runs."""


@dataclass(frozen=True, slots=True)
class Target:
    """The parts of a running or starting instance that devices use."""

    endpoint: Endpoint | HostNetwork
    """The endpoint of its NICs, or the host's network, in which it has none."""
    running: Guest | None = None
    """None before the first process exists."""
    capabilities: RuntimeCapabilities = _ALL
    """Of its runtime."""

    @property
    def ends(self) -> Endpoint:
        """Where its NICs end. Raises Unsupported in the host's network."""
        if isinstance(self.endpoint, HostNetwork):
            raise Unsupported("It runs in the host's network", remedy="unset isola.namespaces.network")
        return self.endpoint

    @property
    def network(self) -> Path:
        """The file of its network namespace. Raises Unsupported."""
        if not isinstance(ends := self.ends, NetworkNamespace):
            raise Unsupported(
                "It needs an instance that shares the host's kernel",
                remedy="remove the device, or use a container; NICs on managed networks work everywhere",
            )
        return ends.path

    @property
    def guest(self) -> Guest:
        """The run; only for devices that are attached when it exists."""
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
        """Its configuration."""
        return self.state.config

    @property
    def field(self) -> str:
        """The field of errors about it."""
        return f"devices.{self.name}"


@dataclass(frozen=True, slots=True)
class Parts:
    """The services that drivers use."""

    host: Host
    directory: Path
    names: HostNames
    networks: Networks
    pools: Pools
    volumes: Volumes
    volume_ref: Callable[[str, str, str], VolumeRef]
    """(project, pool, volume) as named by an instance of that project -> the reference of the volume."""
    network_ref: Callable[[str, str], Ref]
    """(project, network) as named by an instance of that project -> the reference of the network."""
    nic: Callable[[Plug], Nic]
    """A NIC on a managed network, as its network driver expects it."""
    disk_paths: Callable[[str], tuple[str, ...]] = lambda project: ()
    """Directories of the host to which sources of disks in a project are limited; empty: no limit."""
    block_devices: Callable[[str], bool] = lambda project: True
    """Whether instances of a project may have block devices of the host."""
    permit_host_path: Callable[[str, VolumeRecord], None] = lambda project, volume: None
    """Raises Forbidden if instances of a project may not have what a volume stands for."""
    images: ImageLibrary | None = None
    """Those whose content disks may have."""
    image_ref: Callable[[str, str], Ref] = Ref
    """(project, image) as named by an instance of that project -> the reference of the image."""
    others: Callable[[], list[Plug]] = list
    """All devices of all instances, to find conflicts."""
    changed: Callable[[str, str], object] = lambda id, name: None
    """Called with the id of an instance and the name of a device that may have come or gone on the host."""


class DeviceDriver(ABC):
    """All devices of one type. The public methods do look-push-do once; drivers write the ``_hooks``."""

    settings: ClassVar[Settings]
    """Its keys without ``type``, as documented for this type in the LXD API."""
    stage: ClassVar[Stage] = Stage.PROCESS
    example: ClassVar[Config]
    """A configuration, without ``type``, that works on any host: used in help texts and contract tests."""

    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        self.host = parts.host
        self.notes = Notes(parts.host, parts.directory / "devices")

    @classmethod
    def check(cls, where: str, config: Config) -> None:
        """Check combinations of keys, after the single keys. ``where`` is the prefix of an error's field. Pure."""
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
        """What it occupies in the instance, such as ``path /dev/kvm``: unique among its devices. Pure."""
        return None

    @classmethod
    def order(cls, name: str, config: Config) -> tuple[int, str]:
        """Sort key: devices are attached in this order and detached in reverse, a path before paths below it. Pure."""
        return 0, name

    def tap(self, plug: Plug) -> TapNic | None:
        """The NIC that it is for a guest with taps; None if it is no NIC. Pure."""
        return None

    async def disk(self, op: Operation, plug: Plug) -> Disk | None:
        """The disk that it is for a guest with disks, which has it from its start on; undone by ``detach``."""
        return None

    @classmethod
    def passed_on(cls, config: Config) -> bool:
        """Whether a running instance hands it over to the next version of itself. Pure."""
        return False

    @classmethod
    def single(cls, config: Config) -> str:
        """What of it two instances cannot have at the same time, such as ``the address 10.0.0.5``; or empty. Pure."""
        return ""

    async def require(self, plug: Plug) -> None:
        """Check it against the host and other instances, before any effect.

        Raises InvalidInput, NotFound, InUse, Unsupported, with a field.
        """
        return None

    async def choose(
        self, op: Operation, plug: Plug, known: DeviceState | None, *, starting: bool = False
    ) -> DeviceState:
        """Its new state; facts in ``known`` are kept if they still apply. Undone by a rollback.

        ``starting``: the instance is about to run, and needs what is chosen for its runs only.
        """
        return plug.state

    def stands_for(self, plug: Plug, state: DeviceState) -> bool:
        """Whether a recorded state matches the current configuration. Pure."""
        return state.config == plug.config

    def shares(self, state: DeviceState, other: DeviceState) -> bool:
        """Whether what was chosen for the first state is used by the other one. Pure."""
        return state.facts == other.facts

    def forget(self, plug: Plug) -> None:
        """Release what was chosen, after it has been removed from the record."""
        return None

    def rest(self, plug: Plug) -> None:
        """Release what was chosen for a run that has ended."""
        return None

    def lasting(self, state: DeviceState) -> DeviceState | None:
        """What of a state a copy and an instance that is restored have, too; None: nothing. Pure."""
        return None

    def forgotten(self, state: DeviceState) -> DeviceState:
        """What is known of a device after ``forget``, to choose the same again. Pure."""
        return state

    async def register(self, op: Operation, plug: Plug) -> None:
        """Announce the device, whether or not the instance runs."""
        await op.effect(
            f"register device {plug.name}", lambda: self._register(plug), undo=lambda: self._unregister(plug)
        )

    async def unregister(self, op: Operation, plug: Plug) -> None:
        """Undo ``register``; no effect if it is not registered."""
        await op.effect(f"unregister device {plug.name}", lambda: self._unregister(plug))

    async def rename(self, op: Operation, old: Plug, new: Plug) -> None:
        """Register it under the new name of its instance."""

        async def swap(gone: Plug, come: Plug) -> None:
            await self._unregister(gone)
            await self._register(come)

        await op.effect(f"register device {new.name} again", lambda: swap(old, new), undo=lambda: swap(new, old))

    async def rename_over(self, op: Operation, old: Plug, new: Plug) -> None:
        """The same where a registration under the new name replaces that under the old one."""
        await op.effect(
            f"register device {new.name} over", lambda: self._register(new), undo=lambda: self._register(old)
        )

    async def attach(self, op: Operation, plug: Plug, target: Target) -> None:
        """Attach it to a running or starting instance. Leaves nothing behind if it fails. Raises Unsupported."""
        self.require_fit(plug, target)
        await op.effect(
            f"attach device {plug.name}",
            lambda: self._attach(plug, target),
            undo=lambda: self._detach(plug, target),
        )

    def require_fit(self, plug: Plug, target: Target) -> None:
        """Raises Unsupported if such a target cannot have it. Pure."""
        try:
            self._require(plug, target)
        except Unsupported as error:
            message = f"Device {plug.name!r} cannot be attached: {error.message}"
            raise Unsupported(message, field=plug.field, remedy=error.remedy) from error

    async def detach(self, op: Operation, plug: Plug, target: Target | None) -> None:
        """Detach it; ``target`` is None if the instance has ended. No effect if it is not attached."""
        await op.effect(f"detach device {plug.name}", lambda: self._detach(plug, target))

    async def withdraw(self, op: Operation, plug: Plug, target: Target | None) -> None:
        """Remove it from an instance, running (``target``) or not; undone by restoring it."""

        async def back() -> None:
            await self._register(plug)
            if target is not None and not await self._attached(plug, target):
                await self._detach(plug, target)  # remains of a partial detach
                await self._attach(plug, target)

        async def take() -> None:
            await self._detach(plug, target)
            await self._unregister(plug)

        await op.effect(f"withdraw device {plug.name}", take, undo=back)

    async def update(self, op: Operation, old: Plug, new: Plug, target: Target) -> None:
        """Change a device of a running instance; undone by the reverse change."""
        await self.withdraw(op, old, target)
        await self.register(op, new)
        await self.attach(op, new, target)

    async def hand_over(self, op: Operation, old: Plug, new: Plug, targets: tuple[Target | None, Target]) -> None:
        """From one running instance to another, which does not have it yet; undone by the reverse."""
        await self.withdraw(op, old, targets[0])
        await self.register(op, new)
        await self.attach(op, new, targets[1])

    async def take_back(self, plug: Plug) -> bool:
        """Reverse a ``hand_over`` that a daemon has not finished, if that needs no ``detach``; False: it does."""
        return False

    async def resume(self, plug: Plug, target: Target) -> None:
        """At the start of the daemon: supervise its processes again, and restart those that have ended meanwhile."""
        return None

    async def settle(self, op: Operation, plug: Plug, target: Target) -> None:
        """The host may have changed: give the running instance what is there now, and take what is not."""
        return None

    async def ended(self, instance_id: str) -> None:
        """The run of an instance has ended, and its devices are detached: remove what is left of former ones."""
        return None

    async def close(self) -> None:
        """Stop supervising helper processes when the daemon ends; the devices stay attached."""
        return None

    async def _register(self, plug: Plug) -> None:  # noqa: B027 - most have nothing to register
        """Hook."""

    async def _unregister(self, plug: Plug) -> None:  # noqa: B027
        """Hook."""

    def _require(self, plug: Plug, target: Target) -> None:  # noqa: B027 - some can be attached to every instance
        """Hook: raises Unsupported if the instance cannot have it, before any effect, so that nothing is undone."""

    async def _attach(self, plug: Plug, target: Target) -> None:  # noqa: B027 - some have nothing on the host
        """Hook: after a failure ``_detach`` must be able to find all that it leaves behind."""

    async def _detach(self, plug: Plug, target: Target | None) -> None:  # noqa: B027
        """Hook: no effect if it is not attached."""

    async def _attached(self, plug: Plug, target: Target) -> bool:
        """Hook: whether it is attached completely."""
        return False
