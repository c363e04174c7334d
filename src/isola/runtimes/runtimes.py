"""The runtimes of this host: probed once, selected by isolation."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from pathlib import Path

from isola import registry
from isola.errors import DriverUnavailable, NotFound, Unsupported
from isola.host import Host
from isola.host.memory_directory import MemoryDirectory
from isola.host.probing import probed
from isola.model.identity import HostNames
from isola.model.isolation import ISOLATIONS, Isolation, nearest
from isola.model.probe import Probe
from isola.runtimes.driver import RUNS, Runtime

log = logging.getLogger(__name__)
_PREFERENCE = ("crun", "runc")
"""Order of preference among runtimes that work equally well: crun starts faster."""


class Runtimes:
    """All runtime drivers, with the results of their probes."""

    def __init__(
        self, host: Host, directory: Path, names: HostNames, *, drivers: Mapping[str, type[Runtime]] | None = None
    ) -> None:
        self._drivers = drivers
        self._host = host
        self._directory = directory
        self._names = names
        self._runs = MemoryDirectory(host, directory / RUNS, 0o711)
        self._loaded: dict[str, Runtime] = {}
        self.probes: dict[str, Probe] = {}

    async def probe(self) -> None:
        """Probe all drivers."""
        kinds = self._drivers
        if kinds is None:
            kinds = {name: registry.load("runtimes", name) for name in registry.names("runtimes")}
        probes = await asyncio.gather(*(probed(name, kind.probe(self._host)) for name, kind in kinds.items()))
        self.probes = dict(zip(kinds, probes, strict=True))
        for name, kind in kinds.items():
            self._loaded[name] = kind(self._host, self._directory, self._names)

    async def open(self) -> None:
        """Keep the files of runs in memory, because creating and deleting many small files on disk is slow.

        Those of instances that an older daemon has started stay on disk.
        """
        await self._runs.open()

    async def close(self) -> None:
        """Leave no mount behind unless instances run."""
        await self._runs.close()

    def get(self, name: str) -> Runtime:
        """A working driver. Raises DriverUnavailable with its probe's reason and remedy, NotFound."""
        if name not in self._loaded and self._drivers is None:
            registry.load("runtimes", name)
        elif name not in self._loaded:
            raise NotFound(f"There is no runtime driver {name!r}", remedy=f"choose one of: {', '.join(self._loaded)}")
        probe = self.probes.get(name)
        if probe is None or not probe.available:
            raise DriverUnavailable(
                f"Runtime {name!r} does not work on this host",
                evidence=probe.reason if probe else "it was not probed",
                remedy=probe.remedy if probe else "",
            )
        return self._loaded[name]

    def find(self, name: str) -> Runtime:
        """A driver, even if its engine does not work: inspecting, stopping and removing need none. Raises NotFound."""
        if name not in self._loaded:
            raise NotFound(f"There is no runtime driver {name!r}", remedy=f"choose one of: {', '.join(self._loaded)}")
        return self._loaded[name]

    def loaded(self) -> tuple[tuple[str, Runtime], ...]:
        """All drivers, even if their engines do not work."""
        return tuple(sorted(self._loaded.items()))

    def choose(self, isolation: str, wanted: str | None = None) -> str:
        """Name of the runtime for an isolation level. Raises Unsupported, DriverUnavailable."""
        if wanted:
            offered = sorted(self.get(wanted).capabilities.isolations)
            if isolation not in offered:
                raise Unsupported(
                    f"Runtime {wanted!r} does not offer isolation {isolation!r}",
                    remedy=f"use {' or '.join(offered)}, or leave the runtime out",
                )
            return wanted
        fitting = [name for name, runtime in self._loaded.items() if isolation in runtime.capabilities.isolations]
        near = nearest(isolation, self.offered())
        instead = f"the nearest isolation that this server offers is {near!r}" if near else ""
        if not fitting:
            message = f"No runtime driver of this server offers isolation {isolation!r}"
            raise Unsupported(message, field="isolation", remedy=instead)
        best = min(fitting, key=self._rank)
        if not (probe := self.probes[best]).available:
            raise DriverUnavailable(
                f"Isolation {isolation!r} does not work on this host",
                evidence=f"runtime {best!r}: {probe.reason}",
                field="isolation",
                remedy="; ".join(filter(None, (probe.remedy, instead))),
            )
        return best

    def isolations(self) -> tuple[tuple[Isolation, str, Probe], ...]:
        """Each kind, the runtime driver that is used for it, or would be, and whether it works; without one, why."""
        found = []
        for name, isolation in ISOLATIONS.items():
            fitting = [each for each, runtime in self._loaded.items() if name in runtime.capabilities.isolations]
            best = min(fitting, key=self._rank, default="")
            probe = self.probes[best] if best else Probe(False, reason="no runtime driver of this server offers it")
            found.append((isolation, best, probe))
        return tuple(found)

    def offered(self) -> tuple[str, ...]:
        """The isolations of all working drivers."""
        return tuple(sorted({each for _, runtime in self.all() for each in runtime.capabilities.isolations}))

    def all(self) -> tuple[tuple[str, Runtime], ...]:
        """All working drivers."""
        return tuple((name, self._loaded[name]) for name in sorted(self._loaded) if self.probes[name].available)

    def _rank(self, name: str) -> tuple[bool, bool, int, str]:
        """Sort key: working drivers first, then those without warnings, then by preference."""
        probe = self.probes[name]
        speed = _PREFERENCE.index(name) if name in _PREFERENCE else len(_PREFERENCE)
        return (not probe.available, bool(probe.warnings), speed, name)
