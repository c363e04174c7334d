"""The runtimes of this host: probed once, chosen by isolation."""

from __future__ import annotations

import asyncio
from pathlib import Path

from isola import registry
from isola.errors import DriverUnavailable, Unsupported
from isola.host import Host
from isola.model.identity import HostNames
from isola.model.probe import Probe
from isola.runtimes.driver import Runtime

_PREFERENCE = ("crun", "runc")
"""Where several give the same isolation the first available wins: crun starts faster."""


class Runtimes:
    """All runtime drivers, with what their probes said."""

    def __init__(self, host: Host, directory: Path, names: HostNames) -> None:
        self._host = host
        self._directory = directory
        self._names = names
        self._loaded: dict[str, Runtime] = {}
        self.probes: dict[str, Probe] = {}

    async def probe(self) -> None:
        """Ask every driver whether it works here."""
        kinds = {name: registry.load("runtimes", name) for name in registry.names("runtimes")}
        probes = await asyncio.gather(*(kind.probe(self._host) for kind in kinds.values()))
        self.probes = dict(zip(kinds, probes, strict=True))
        for name, kind in kinds.items():
            self._loaded[name] = kind(self._host, self._directory, self._names)

    def get(self, name: str) -> Runtime:
        """A driver that works here. Raises DriverUnavailable with its probe's reason and remedy, NotFound."""
        if name not in self._loaded:
            registry.load("runtimes", name)
        probe = self.probes.get(name)
        if probe is None or not probe.available:
            raise DriverUnavailable(
                f"Runtime {name!r} does not work on this host",
                evidence=probe.reason if probe else "it was not probed",
                remedy=probe.remedy if probe else "",
            )
        return self._loaded[name]

    def choose(self, isolation: str, wanted: str | None = None) -> str:
        """Name of the runtime for an isolation level. Raises Unsupported, DriverUnavailable."""
        if wanted:
            if isolation not in self.get(wanted).capabilities.isolations:
                raise Unsupported(f"Runtime {wanted!r} does not give isolation {isolation!r}")
            return wanted
        fitting = [name for name, runtime in self._loaded.items() if isolation in runtime.capabilities.isolations]
        for name in sorted(fitting, key=_rank):
            if self.probes[name].available:
                return name
        if not fitting:
            raise Unsupported(f"No runtime gives isolation {isolation!r} yet", remedy="use isolation 'container'")
        return self.get(sorted(fitting, key=_rank)[-1]) and ""  # raises with the reason of the last resort

    def all(self) -> tuple[tuple[str, Runtime], ...]:
        """Every driver that works here."""
        return tuple((name, self._loaded[name]) for name in sorted(self._loaded) if self.probes[name].available)


def _rank(name: str) -> tuple[int, str]:
    return (_PREFERENCE.index(name) if name in _PREFERENCE else len(_PREFERENCE), name)
