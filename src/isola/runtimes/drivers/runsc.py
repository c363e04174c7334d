"""runsc, the engine of gVisor: system calls of an instance are answered by a kernel in user space."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import ClassVar

from isola.errors import CommandFailed, HostFailure, IsolaError, NotFound, Unsupported, WrongState
from isola.host import Host
from isola.host.process import HERE, ProcessRef
from isola.model.identity import HostNames
from isola.model.instance import InterfaceState
from isola.model.limits import Limits
from isola.model.network import NetworkNamespace
from isola.model.probe import Probe
from isola.operations import Operation
from isola.runtimes.capabilities import NO_DISKS, NO_FIRMWARE, NO_SCREEN, Capability, Lack, RuntimeCapabilities
from isola.runtimes.driver import Held, Restore
from isola.runtimes.guest import Guest
from isola.runtimes.gvisor import config, interfaces, port_rules, refusals
from isola.runtimes.gvisor.beginning import HOLD, creating, letting_go, restoring
from isola.runtimes.gvisor.guest import GvisorGuest
from isola.runtimes.gvisor.options import (
    PTRACE,
    SETS_UP_NETWORK,
    has_own_network,
    options,
    with_own_network,
    without_learned_routes,
)
from isola.runtimes.gvisor.platform import Platform, platform
from isola.runtimes.oci import monitor
from isola.runtimes.oci.caller import Caller
from isola.runtimes.oci.config import PATH
from isola.runtimes.oci.guest import OciGuest
from isola.runtimes.oci.layout import MONITOR_SUFFIX
from isola.runtimes.oci.probing import probe_engine
from isola.runtimes.oci.record import Found, Run
from isola.runtimes.oci.runtime import OciRuntime
from isola.runtimes.spec import RunSpec

_RESTORED = 300.0
"""Seconds in which a saved state has to be read."""
_LINGERS = 2.0
"""Seconds in which a kernel ends that has lost its gofer."""
_NOBODY = 65534
"""An id of the instance that its gofer does not have."""
_OWN_KERNEL = "A sandbox has a kernel of its own in user space"


class Runsc(OciRuntime):
    """Its processes are in the control groups of the instance from the first instruction on, as the monitor's are."""

    name = "runsc"
    limits_itself = True
    capabilities: ClassVar[RuntimeCapabilities] = RuntimeCapabilities(
        isolations=frozenset({"sandbox"}),
        unrecordable=Lack(
            f"{_OWN_KERNEL}, which answers its system calls",
            remedy="learn in a container: the profile is valid in a sandbox too",
        ),
        lacks={
            Capability.DISPLAY: NO_SCREEN,
            Capability.FIRMWARE: NO_FIRMWARE,
            **NO_DISKS,
            Capability.PLUGGED_NICS: Lack(
                "The network stack of a sandbox takes its NICs over when it starts",
                remedy="restart the instance after the change, or set isola.sandbox.network=host before",
            ),
            Capability.DEVICES: Lack(
                f"{_OWN_KERNEL}, which has no drivers for devices of the host", remedy="use a container"
            ),
            Capability.SOCKETS: Lack(
                f"{_OWN_KERNEL}, with a network stack and sockets that those of the host do not meet",
                remedy="connect to its address",
            ),
            Capability.PRIVILEGES: Lack(f"{_OWN_KERNEL}, and so no rights on the host's"),
            Capability.FILTERS: Lack(f"{_OWN_KERNEL}, which answers every program in the same way"),
            Capability.UMASK: Lack(f"{_OWN_KERNEL}, which begins every program with the same umask"),
            Capability.SYSCTLS: Lack(f"{_OWN_KERNEL}, without the parameters of the host's"),
            Capability.PROCESS_LIMIT: Lack(
                f"{_OWN_KERNEL}, which ends when the host refuses it another thread",
                remedy="limit its memory and CPU time instead",
            ),
            Capability.REBOOT: Lack(f"{_OWN_KERNEL}, which only ends", remedy="restart it from outside"),
            Capability.SHARED_NAMESPACES: Lack(
                f"{_OWN_KERNEL}, which it shares with no other instance", remedy="use containers"
            ),
        },
    )

    def __init__(self, host: Host, directory: Path, names: HostNames) -> None:
        super().__init__(host, directory, names)
        self._platform: Platform | None = None
        self._own_network: dict[str, bool] = {}
        """By instance, from the beginning of a start on."""
        self._reporters: dict[str, int] = {}
        """The host's user id under which refused calls are noted, by instance with a list of calls."""
        self._taken: dict[str, tuple[InterfaceState, ...]] = {}
        """Interfaces as they were before a network stack took their addresses, by instance."""

    @classmethod
    async def probe(cls, host: Host) -> Probe:
        """Runs a program in each of the ways in which system calls can be intercepted, until one works."""
        found = await probe_engine(host, cls.name)
        program = host.system.find_program(cls.name)
        if not found.available or program is None:
            return found
        works = await platform(host, program)
        if not works.name:
            tried = "; ".join(f"{name}: {why}" for name, why in works.refused.items())
            return Probe(
                available=False,
                reason=f"runsc {found.version} can run no program here ({tried})",
                remedy="install a newer runsc, or permit ptrace",
            )
        slow = "each system call takes some 10 µs, because this version of runsc intercepts it by ptrace"
        return Probe(
            available=True,
            version=f"{found.version} ({works.name})",
            warnings=(*found.warnings, slow) if works.name == PTRACE else found.warnings,
        )

    async def run(
        self, op: Operation, spec: RunSpec, held: Held | None = None, *, restore: Restore | None = None
    ) -> Guest:
        """Raises Unsupported for a system with systemd, which would end at once and say nothing."""
        if spec.system:
            await self._require_init(spec)
        return await super().run(op, spec, held, restore=restore)

    async def maker(self, id: str, given: Sequence[Path], restore: Path | None = None) -> Caller:
        """A shell enters the control groups before it executes runsc, so that all its processes inherit them."""
        groups = self.host.cgroups.directories(self.names.cgroup(id))
        engine, layout = await self._options(own_network=self._has_own_network(id)), self.layout(id)
        reporter = self._reporters.get(id)
        self._require_stack(id)
        if reporter is not None:
            engine += refusals.debugging(layout.run)
        if restore is not None:
            engine = with_own_network(engine) if self._has_own_network(id) else engine
            engine = restoring(restore, layout.run, layout.state, engine)
        if reporter is not None:
            engine = refusals.noting(layout.run, reporter, engine)
        return Caller(creating(self.called(id), groups, engine))

    async def joiner(self, id: str) -> Caller:
        """Commands are in the monitor's group: the process on the host is not one of the instance."""
        groups = self.host.cgroups.directories_of_monitor(self.group(id) + MONITOR_SUFFIX)
        return Caller(monitor.entering(groups, await self.argv(id)))

    def limits_devices(self) -> bool:
        """Programs inside cannot open any."""
        return True

    async def program(self) -> str:
        """The program itself: no process of an instance sees it."""
        return str(self.host.system.find_program(self.name) or self.name)

    def require_supported(self, spec: RunSpec) -> None:
        """Raises Unsupported."""
        super().require_supported(spec)
        self._own_network[spec.id] = has_own_network(spec)
        self._reporters.pop(spec.id, None)
        if spec.confinement.system_calls and spec.idmap is not None:
            self._reporters[spec.id] = spec.idmap.outside(_NOBODY)

    def adapted(self, spec: RunSpec, made: dict[str, object]) -> dict[str, object]:
        """Without what only the host's kernel knows."""
        return config.adapted(made)

    def furnished(self, spec: RunSpec, run: Run, process: object) -> list[Awaitable[object]]:
        """Its kernel gives it streams of its own."""
        return []

    async def guest_of(self, found: Found, before: tuple[str, ...] = ()) -> GvisorGuest:
        """Raises HostFailure if its files cannot be opened any more."""
        id = found.run.id
        if id not in self._taken:
            with suppress(NotFound, ValueError):
                self._taken[id] = interfaces.decode(await self.host.files.read(self._interfaces_file(id)))
        return GvisorGuest(self, found, await self._gofer(id))

    async def let_go(self, id: str) -> None:
        """Raises HostFailure."""
        found = await self._find(id)
        if found is not None and found.plan is not None:
            await self._leave_one_route(found.plan)
            await self._note_interfaces(found)
            await self.limit_ports(found, found.plan.limits, again=False)
        if await self.host.files.exists(self.layout(id).run / HOLD):
            await self._continue(id)
        else:
            await self._begin(id)
        if found is not None and found.plan is not None:
            # Routers would give the host's stack IPv6 addresses again, with which it would refuse connections to it.
            await self._refuse_routers(found.plan, ipv6=False)

    async def _begin(self, id: str) -> None:
        own = self._has_own_network(id)
        argv = [*await self._options(own_network=own), "--root", str(self.layout(id).state), "start", self.called(id)]
        try:
            await self.host.processes.run(argv, env={"PATH": PATH}, place=SETS_UP_NETWORK if own else HERE)
        except CommandFailed as error:
            raise HostFailure(
                "The program could not be started", evidence=error.evidence, remedy=error.remedy
            ) from error

    async def remove(self, id: str) -> None:
        """Kill all processes and remove all traces."""
        await super().remove(id)
        self._own_network.pop(id, None)
        self._reporters.pop(id, None)
        self._taken.pop(id, None)

    # --- for its guests -----------------------------------------------------------------------------------------

    def called(self, id: str) -> str:
        """Its name for the engine."""
        return self.names.cgroup(id).strip("/").replace("/", "-")

    async def argv(self, id: str) -> list[str]:
        """For commands about a running instance."""
        return [*await self._options(own_network=False), "--root", str(self.layout(id).state)]

    def taken(self, id: str) -> Sequence[InterfaceState]:
        """Its interfaces as they were when it began."""
        return self._taken.get(id, ())

    async def limit_ports(self, found: OciGuest, limits: Limits, *, again: bool) -> None:
        """What its own network stack sends; of another one the kernel limits the sockets. Raises HostFailure.

        ``again``: there may be limits already.
        """
        nothing = (limits.listens, limits.connects) == (None, None)
        own = found.plan is not None and has_own_network(found.plan)
        if (
            not own
            or found.plan is None
            or not isinstance(found.plan.network, NetworkNamespace)
            or (nothing and not again)
        ):
            return
        names = [each.name for each in self.taken(found.id) if each.name != "lo"]
        rules = port_rules.script(names, limits.listens, limits.connects)
        with self.host.namespaces.network_file(found.plan.network.path) as file:
            try:
                argv = port_rules.command(file)
                await self.host.processes.run(argv, stdin=rules.encode(), env={"PATH": PATH}, timeout=10)
            except CommandFailed as error:
                raise HostFailure(
                    "Ports of the sandbox cannot be limited on this host",
                    evidence=error.evidence,
                    remedy="use Linux 5.16 or later with nftables, or unset isola.ports.*",
                ) from error

    # --- how ----------------------------------------------------------------------------------------------------

    async def _require_init(self, spec: RunSpec) -> None:
        target = ""
        with suppress(IsolaError):
            async with self.host.files.root(spec.root.path, idmap=spec.idmap) as inside:
                target = await inside.target(spec.command[0])
        if target.rpartition("/")[2] == "systemd":
            raise Unsupported(
                f"systemd cannot run in a sandbox. {_OWN_KERNEL}, without cgroup2, named hierarchies of control groups "
                "and timers that end when the clock is set",
                remedy="use isolation 'container' or 'microvm', or an image with another init",
            )

    async def _find(self, id: str) -> OciGuest | None:
        """At the end of a run its gofer ends before its kernel, which then is about to end."""
        end = self.host.clock.monotonic() + _LINGERS
        while True:
            try:
                return await super()._find(id)
            except HostFailure:
                if self.host.clock.monotonic() > end:
                    raise
            await self.host.clock.sleep(0.02)

    async def _leave_one_route(self, spec: RunSpec) -> None:
        """Default routes of routers go, beside those that were configured: its own network stack takes over one."""
        if await self._refuse_routers(spec) <= 1 or not isinstance(spec.network, NetworkNamespace):
            return
        with suppress(WrongState), self.host.namespaces.network_file(spec.network.path) as file:
            argv = without_learned_routes(file)
            await self.host.processes.run(argv, env={"PATH": PATH}, check=False, timeout=10)

    async def _refuse_routers(self, spec: RunSpec, *, ipv6: bool = True) -> int:
        """In the network namespace, if its own stack takes that over; how many default routes of IPv6 are there."""
        if not self._has_own_network(spec.id) or not isinstance(spec.network, NetworkNamespace):
            return 0
        with suppress(WrongState, HostFailure):
            return await self.host.namespaces.refuse_routers(spec.network.path, ipv6=ipv6)
        return 0

    async def _continue(self, id: str) -> None:
        argv = letting_go(self.layout(id).run)
        try:
            await self.host.processes.run(argv, env={"PATH": PATH}, timeout=_RESTORED)
        except CommandFailed as error:
            evidence = await monitor.logged(self.host, self.layout(id)) or error.evidence
            raise HostFailure(
                "The saved state could not be restored", evidence=evidence, remedy="start it without its state"
            ) from error

    def _require_stack(self, id: str) -> None:
        """Raises Unsupported."""
        if self._has_own_network(id) or self._platform is None or self._platform.version.has_host_stack:
            return
        raise Unsupported(
            f"This version of runsc ({self._platform.version.day or 'unknown'}) cannot use the host's network stack",
            field="config.isola.sandbox.network",
            remedy="unset isola.sandbox.network, or install runsc of August 2023 or later",
        )

    def _has_own_network(self, id: str) -> bool:
        return self._own_network.get(id, False)

    async def _options(self, *, own_network: bool) -> list[str]:
        program = Path(await self.program())
        if self._platform is None:
            self._platform = await platform(self.host, program)
        return [str(program), *options(self._platform.version, self._platform.name, own_network=own_network)]

    async def _note_interfaces(self, found: OciGuest) -> None:
        """A daemon that adopts it cannot see their addresses any more."""
        id = found.id
        if not self._own_network.get(id):
            return
        self._taken[id] = self.host.namespaces.interfaces(found.processes.init)
        text = interfaces.encode(self._taken[id])
        await self.host.files.write(self._interfaces_file(id), text, durable=False)

    def _interfaces_file(self, id: str) -> Path:
        return self.layout(id).run / "interfaces.json"

    async def _gofer(self, id: str) -> ProcessRef:
        """The process that opens its files, as the engine has recorded it."""
        state = self.layout(id).state
        for name in await self.host.files.names(state):
            if name.endswith(".state"):
                with suppress(NotFound, ValueError, KeyError, TypeError):
                    number = int(json.loads(await self.host.files.read(state / name))["goferPid"])
                    found = self.host.processes.identify(number)
                    if found is not None and self.host.cgroups.holds(self.group(id), number):
                        return found
        raise HostFailure("The process that opens the files of the sandbox has ended")


DRIVER = Runsc
