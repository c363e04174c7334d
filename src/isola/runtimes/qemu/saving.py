"""The memory and the devices of a machine in files: written by QEMU's migration, and read by another QEMU.

QEMU describes neither the machine nor its version in them, so both are written beside them, and compared before.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from isola.errors import HostFailure, IsolaError, NotFound, Unsupported, WrongState
from isola.host import Host
from isola.host.descriptors import opened
from isola.runtimes.qemu.layout import VmLayout
from isola.runtimes.qemu.machine import BOARD, Machine, port_name
from isola.runtimes.qemu.qmp import Qmp, violation
from isola.runtimes.spec import TapNic

MEMORY, STATE = "memory", "machine.json"
"""Names of files in a directory of a saved state."""
Describe = Callable[[], Awaitable[Mapping[str, object]]]
_LONGEST = 300.0
"""Seconds that writing or reading may take."""
_LOOK = 0.02
_MOST = 1 << 20
"""Bytes of the description of a machine."""
_WITHOUT_STATE = "start it without its state"
_OLD = "non-migratable"
"""In QEMU's refusal where it or the file server is too old."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What a machine must have in common with the one that was saved."""

    accelerator: str
    processor: str
    """Of the host, where guests see it; empty if they see an emulated one."""
    memory: int
    cpus: int
    slots: int
    """For devices that can be plugged."""
    terminal: bool
    machine: str = ""
    """Of QEMU; empty: that of microVMs of earlier versions."""
    disks: str = ""
    """Names of its disks, one in each line."""
    most_memory: int = 0
    most_cpus: int = 0
    """Up to which it can grow; 0: not at all."""
    announced: bool = False
    """See ``machine.files``."""


@dataclass(frozen=True, slots=True)
class State:
    """A saved machine."""

    qemu: str
    """Version."""
    shape: Shape
    nics: Sequence[tuple[int, str]]
    """Slot and hardware address."""


def shape_of(machine: Machine, processor: str) -> Shape:
    """That of a machine that is being started. Pure."""
    seen = "" if machine.accelerator == "tcg" else processor
    return Shape(
        machine.accelerator,
        seen,
        machine.memory,
        machine.cpus,
        machine.ports,
        machine.terminal,
        machine=BOARD,
        most_memory=machine.most_memory,
        most_cpus=machine.most_cpus,
        announced=machine.announced,
    )


async def keep_shape(host: Host, layout: VmLayout, shape: Shape) -> None:
    """For the daemon that will save it."""
    await host.files.write(layout.shape, json.dumps(asdict(shape)).encode(), durable=False)


async def note_cpus(host: Host, layout: VmLayout, cpus: int) -> None:
    """It has so many now. No effect for runs of old daemons, which cannot be saved."""
    try:
        found = json.loads(await host.files.read(layout.shape, 65536))
        shape = replace(Shape(**found), cpus=cpus)
    except (NotFound, ValueError, TypeError):
        return
    await keep_shape(host, layout, shape)


async def save(
    host: Host,
    qmp: Qmp,
    layout: VmLayout,
    to: Path,
    *,
    nics: Sequence[tuple[int, str]] | None = None,
    more: Describe | None = None,
) -> None:
    """Write a machine that stands still, durably; it can go on afterwards. Raises HostFailure, Unsupported.

    ``nics``: those of a machine without slots, by number. ``more``, asked when the machine has written all that it had,
    is kept beside what this module knows.
    """
    state = await _state(host, qmp, layout, nics)
    try:
        async with opened(to / MEMORY, new=True) as descriptor:
            await qmp.execute("getfd", {"fdname": "saved"}, descriptor=descriptor)
        await qmp.execute("migrate-set-parameters", {"max-bandwidth": 1 << 40})
        await qmp.execute("migrate", {"uri": "fd:saved"})
        await _finished(host, qmp)
        found = asdict(state) | dict(await more() if more is not None else {})
        await host.files.write(to / STATE, json.dumps(found).encode())
        await host.files.flush(to / MEMORY, to)
    except IsolaError as error:
        if _OLD in error.evidence:
            raise Unsupported(
                "The state of this machine cannot be saved: QEMU 8.2 and virtiofsd 1.11 or later are needed",
                evidence=error.evidence,
                remedy="run make up on a machine that reaches Debian's packages, and restart the instance",
            ) from error
        raise HostFailure(
            "The state of the instance could not be saved",
            evidence=error.evidence or error.message,
            remedy="check free space in the daemon's directory, or stop it without its state",
        ) from error


async def load(host: Host, qmp: Qmp, images: Path) -> None:
    """Fill a machine that waits for it, and that stands still afterwards. Raises HostFailure."""
    try:
        async with opened(images / MEMORY) as descriptor:
            await qmp.execute("getfd", {"fdname": "saved"}, descriptor=descriptor)
        await qmp.execute("migrate-incoming", {"uri": "fd:saved", "exit-on-error": False})
        await _finished(host, qmp)
    except IsolaError as error:
        raise HostFailure(
            "The saved state could not be restored", evidence=error.evidence or error.message, remedy=_WITHOUT_STATE
        ) from error


async def read(host: Host, images: Path) -> State:
    """What was saved. Raises WrongState if it is incomplete or damaged."""
    try:
        found = json.loads(await host.files.read(images / STATE, _MOST))
        shape = Shape(**found["shape"])
        nics = [(int(slot), str(mac)) for slot, mac in found["nics"]]
        if await host.files.exists(images / MEMORY):
            return State(str(found["qemu"]), shape, nics)
    except (NotFound, ValueError, KeyError, TypeError):
        pass
    raise WrongState("The saved state is not complete", remedy=_WITHOUT_STATE)


def require_fit(state: State, shape: Shape, qemu: str, nics: Sequence[TapNic], *, further: Sequence[str] = ()) -> None:
    """Raises WrongState, with the way out, if a machine cannot continue from it. Pure.

    ``shape`` is what it would get today, ``qemu`` the version of today, ``further`` what else differs.
    """
    if _series(state.qemu) != _series(qemu):
        raise WrongState(
            f"The state was saved by QEMU {state.qemu}, and QEMU {qemu} is used now",
            remedy=f"{_WITHOUT_STATE}, or go back to QEMU {state.qemu}",
        )
    then = state.shape
    if (then.accelerator, then.processor) != (shape.accelerator, shape.processor):
        raise WrongState(
            "The state was saved on another processor",
            evidence=f"then {_named(then)}, now {_named(shape)}",
            remedy=_WITHOUT_STATE,
        )
    if not then.machine and shape.machine:
        raise WrongState("The state was saved by a version with other microVMs", remedy=_WITHOUT_STATE)
    differing = [
        f"{key} was {old}"
        for key, old, new in (
            ("limits.memory", f"{then.memory >> 20}MiB", f"{max(shape.memory, then.memory) >> 20}MiB"),
            ("limits.cpu", str(then.cpus), str(shape.cpus)),
            ("the machine", then.machine, shape.machine),
            ("the terminal", str(then.terminal).lower(), str(shape.terminal).lower()),
        )
        if old != new
    ]
    differing += further
    there = {nic.mac.lower() for nic in nics}
    differing += [f"a NIC had the address {mac}" for _, mac in state.nics if mac.lower() not in there]
    require_unchanged(differing)


def require_unchanged(differing: Sequence[str]) -> None:
    """Raises WrongState if there is a difference. Pure."""
    if differing:
        raise WrongState(
            "The instance was changed since its state was saved",
            evidence="; ".join(differing),
            remedy=f"change it back, or {_WITHOUT_STATE}",
        )


def continued(today: Machine, state: State) -> Machine:
    """The machine of a state that fits, which waits for it. Pure."""
    slots = {mac.lower(): slot for slot, mac in state.nics}
    nics = tuple(replace(nic, slot=slots[nic.mac.lower()]) for nic in today.nics if nic.mac.lower() in slots)
    shape = state.shape
    return replace(
        today,
        memory=shape.memory,
        cpus=shape.cpus,
        most_memory=shape.most_memory,
        most_cpus=shape.most_cpus,
        slots=shape.slots,
        nics=nics,
        incoming=True,
        announced=shape.announced,
    )


def reachable(state: State, shape: Shape) -> Shape:
    """What it would get today, with the memory and the CPUs that it had if it can get from there to these. Pure."""
    then = state.shape
    memory = then.memory if shape.memory <= max(then.memory, then.most_memory) else shape.memory
    cpus = then.cpus if shape.cpus <= max(then.cpus, then.most_cpus) else shape.cpus
    return replace(shape, memory=memory, cpus=cpus)


def later(state: State, nics: Sequence[TapNic]) -> tuple[TapNic, ...]:
    """Those that have to be plugged when it runs again. Pure."""
    there = {mac.lower() for _, mac in state.nics}
    return tuple(nic for nic in nics if nic.mac.lower() not in there)


# --- how --------------------------------------------------------------------------------------------------------------


async def _state(host: Host, qmp: Qmp, layout: VmLayout, nics: Sequence[tuple[int, str]] | None) -> State:
    try:
        shape = Shape(**json.loads(await host.files.read(layout.shape, 65536)))
    except (NotFound, ValueError, TypeError):
        raise Unsupported(
            "An earlier version has started this instance, whose state can therefore not be saved",
            remedy="restart it first",
        ) from None
    answer = await qmp.execute("query-version")
    try:
        version = ".".join(str(int(answer["qemu"][part])) for part in ("major", "minor", "micro"))
        if nics is not None:
            return State(version, shape, nics)
        plugged = await plugged_in(qmp, shape.slots)
    except (KeyError, TypeError, ValueError) as error:
        raise violation(error) from error
    found = []
    for device, slot in plugged.items():
        if not device.startswith("nic-"):
            continue
        mac = await qmp.execute("qom-get", {"path": f"/machine/peripheral/{device}", "property": "mac"})
        found.append((slot, str(mac)[:17]))
    return State(version, shape, found)


async def plugged_in(qmp: Qmp, slots: int) -> dict[str, int]:
    """Ids of devices in so many slots, and the slots' numbers. Raises KeyError, TypeError, ValueError."""
    return dict(_plugged(await qmp.execute("query-pci"), slots))


def _plugged(found: Sequence[Mapping[str, Any]], slots: int) -> Iterator[tuple[str, int]]:
    numbers = {port_name(number): number for number in range(slots)}
    for bus in found:
        for device in bus["devices"]:
            number = numbers.get(device["qdev_id"])
            for inner in device.get("pci_bridge", {}).get("devices", ()) if number is not None else ():
                assert number is not None
                yield str(inner["qdev_id"]), number


async def _finished(host: Host, qmp: Qmp) -> None:
    end = host.clock.monotonic() + _LONGEST
    while True:
        found = await qmp.execute("query-migrate")
        status = found.get("status") if isinstance(found, dict) else None
        if status == "completed":
            return
        if status in ("failed", "cancelled"):
            raise HostFailure("The hypervisor has failed", evidence=str(found.get("error-desc", ""))[:500])
        if host.clock.monotonic() > end:
            raise HostFailure("The hypervisor has not finished in time", evidence=str(status)[:100])
        await host.clock.sleep(_LOOK)


def _series(version: str) -> list[str]:
    """Versions whose machines are the same, as far as QEMU promises it."""
    return version.split(".")[:2]


def _named(shape: Shape) -> str:
    return f"{shape.accelerator} {shape.processor}".strip()
