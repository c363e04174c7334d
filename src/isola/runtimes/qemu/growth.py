"""More and less memory and CPUs of a running machine."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from isola.errors import HostFailure, TimedOut, Unsupported
from isola.host import Host
from isola.model.limits import Limits
from isola.runtimes.qemu import machine
from isola.runtimes.qemu.limits import MIB, cpus_of, memory_of
from isola.runtimes.qemu.session import Session

_TIMEOUT = 30.0
_LOOK = 0.2
_STILL = 10.0
"""Seconds in which the guest adds or removes at least one block of memory, unless it cannot."""
_SLACK = 4 * MIB
_ADDED = f"/machine/peripheral/{machine.ADDED_MEMORY}"


class Growth:
    """What the machine has is asked of QEMU each time, so that a daemon that was away knows it."""

    def __init__(self, host: Host, session: Session, *, firmware: bool = True) -> None:
        self._host = host
        self._session = session
        self._firmware = firmware
        """Its firmware takes part."""
        self._ram = memory_of(session.spec.limits)

    def grows(self, limits: Limits) -> bool:
        """Whether it has more memory than at its start."""
        return memory_of(limits) > self._ram

    async def check(self, limits: Limits) -> None:
        """Raises Unsupported."""
        most = self._ram + await self._most_added()
        if (wanted := memory_of(limits)) > most:
            raise Unsupported(
                f"The memory of this virtual machine can grow to {most // MIB} MiB while it runs, not to "
                f"{wanted // MIB} MiB",
                field="config.limits.memory",
                remedy="stop it first",
            )
        spec = self._session.spec
        secure = self._firmware and (spec.firmware is None or spec.firmware.secure_boot)
        if secure and len(await self._cpus()) < self.cpus(limits) and await self._emulated():
            raise Unsupported(
                "CPUs cannot be added to a running virtual machine that is emulated and has secure boot",
                evidence="its firmware, which takes part, would wait for ever for the new CPU",
                field="config.limits.cpu",
                remedy="stop it first; or use KVM, or security.secureboot=false",
            )

    async def resize(self, limits: Limits) -> None:
        """Raises TimedOut if the guest does not do its part; it has what it had then, or more."""
        await self._set_memory(memory_of(limits))
        await self._set_cpus(self.cpus(limits))

    # --- memory -------------------------------------------------------------------------------------------------

    async def _most_added(self) -> int:
        """Bytes that it can get beyond the RAM of its start."""
        found = await self._ask("query-memory-devices")
        sizes = [each["data"]["max-size"] for each in found if each["data"].get("id") == machine.ADDED_MEMORY]
        return int(sizes[0]) if sizes else 0

    async def _added(self, name: str) -> int:
        return int(await self._ask("qom-get", {"path": _ADDED, "property": name}))

    async def _set_memory(self, wanted: int) -> None:
        """What the guest cannot give back of the added memory, the balloon takes."""
        more = max(0, wanted - self._ram) // machine.BLOCK * machine.BLOCK
        has = 0
        if await self._most_added():
            before = await self._added("size")
            await self._ask("qom-set", {"path": _ADDED, "property": "requested-size", "value": more})
            has = await self._settled(more)
            if has < more:
                await self._ask("qom-set", {"path": _ADDED, "property": "requested-size", "value": max(before, has)})
                raise TimedOut(
                    f"The guest does not take the memory: it has {(self._ram + has) // MIB} MiB",
                    remedy="its kernel needs the driver virtio_mem",
                )
        base = min(wanted - has, self._ram)
        await self._ask("balloon", {"value": max(base, 0)})
        if not await self._until(lambda: self._balloon_is_down_to(base)):
            has += await self._in_use()
            await self._ask("balloon", {"value": self._ram})
            raise TimedOut(
                f"The guest gives back memory down to {has // MIB} MiB only", remedy="stop programs in it first"
            )

    async def _settled(self, wanted: int) -> int:
        """Bytes of added memory, once they are as wanted or have not changed for a while."""
        seen, since = await self._added("size"), self._host.clock.monotonic()
        while seen != wanted and self._host.clock.monotonic() < since + _STILL:
            await self._host.clock.sleep(_LOOK)
            if (now := await self._added("size")) != seen:
                seen, since = now, self._host.clock.monotonic()
        return seen

    async def _balloon_is_down_to(self, wanted: int) -> bool:
        return await self._in_use() <= wanted + _SLACK

    async def _in_use(self) -> int:
        """Bytes of the RAM of its start that are not in the balloon."""
        return int((await self._ask("query-balloon"))["actual"])

    # --- CPUs ---------------------------------------------------------------------------------------------------

    def cpus(self, limits: Limits) -> int:
        """How many it is to use."""
        return cpus_of(limits, len(self._host.system.cpus()))

    async def _emulated(self) -> bool:
        return not (await self._ask("query-kvm"))["enabled"]

    async def possible(self) -> bool:
        """False for machines of earlier versions, which have what they were started with."""
        try:
            await self._cpus()
        except HostFailure:
            return False
        return True

    async def plugged(self) -> int:
        """How many CPUs the machine has, used or not."""
        return len(await self._cpus())

    async def _cpus(self) -> list[Mapping[str, Any]]:
        return [slot for slot in await self._ask("query-hotpluggable-cpus") if "qom-path" in slot]

    async def _set_cpus(self, wanted: int) -> None:
        slots = await self._ask("query-hotpluggable-cpus")
        there = [slot for slot in slots if "qom-path" in slot]
        free = [slot for slot in reversed(slots) if "qom-path" not in slot]
        for slot in free[: max(0, wanted - len(there))]:
            await self._ask("device_add", {"driver": slot["type"], "id": _cpu(slot["props"]), **slot["props"]})
        if len(there) <= wanted or await self._emulated():
            return  # QEMU aborts if an emulated CPU is added in the place of one that was removed: the group limits it
        # The first one boots the machine, and stays.
        order = sorted(there, key=lambda slot: _place(slot["props"]))
        for slot in reversed(order[max(1, wanted) :]):
            await self._remove_cpu(slot)

    async def _remove_cpu(self, slot: Mapping[str, Any]) -> None:
        path = str(slot["qom-path"])
        name = path.rsplit("/", 1)[-1] if path.startswith("/machine/peripheral/") else path
        self._session.expect_removal(name)
        await self._ask("device_del", {"id": name})
        if not await self._session.removal(name, _TIMEOUT):
            raise TimedOut("The guest does not give back a CPU", remedy="its kernel has to support their removal")

    # --- how ----------------------------------------------------------------------------------------------------

    async def _ask(self, command: str, arguments: Mapping[str, object] | None = None) -> Any:
        """Raises HostFailure also for what is not of the protocol."""
        return await self._session.qmp.execute(command, arguments)

    async def _until(self, reached: Callable[[], Awaitable[bool]]) -> bool:
        end = self._host.clock.monotonic() + _TIMEOUT
        while not await reached():
            if self._host.clock.monotonic() > end:
                return False
            await self._host.clock.sleep(_LOOK)
        return True


def _place(props: Mapping[str, Any]) -> tuple[int, ...]:
    return tuple(int(props.get(name, 0)) for name in ("socket-id", "die-id", "module-id", "core-id", "thread-id"))


def _cpu(props: Mapping[str, Any]) -> str:
    return "cpu-" + "-".join(map(str, _place(props)))
