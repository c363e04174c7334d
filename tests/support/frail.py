"""Ports that fail or crash the daemon at a chosen call, before or after it takes effect."""

from __future__ import annotations

import asyncio
import dataclasses
import inspect
from collections.abc import Awaitable, Callable
from typing import Any, cast

from strike import rest

from isola.daemon.build import Parts
from isola.errors import HostFailure, IsolaError
from isola.testing.host import FakeHost
from isola.testing.parts import World, host_with_ids


class Blow:
    """Counts calls while it is armed, and injects a failure at the chosen one, once."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.hit = asyncio.Event()
        self.dead = False
        self._number: int | None = None
        self._how = ""
        self._armed = False

    def arm(self, number: int | None = None, how: str = "") -> None:
        """Count from 0 again; ``how``: ``fail`` or ``crash``, ``before`` or ``after``, or ``fail from then on``."""
        self.calls, self.hit, self._number, self._how, self._armed = [], asyncio.Event(), number, how, True

    def disarm(self) -> None:
        """Stop counting."""
        self._armed = False

    async def around(self, name: str, call: Callable[[], Awaitable[Any]]) -> Any:
        """Make the call, and inject the failure if it is the chosen one."""
        if self.dead:
            await rest()
        mine = self._armed and len(self.calls) == self._number
        if self._armed:
            self.calls.append(name)
        if mine and "before" in self._how:
            await self._strike(name)
        if "from then on" in self._how and self._armed and len(self.calls) > (self._number or 0):
            self.hit.set()
            raise HostFailure(f"Injected failure at {name}")
        after = mine and "after" in self._how
        try:
            result = await call()
        except IsolaError:
            if after:  # calls that fail by themselves count too, such as reading a missing file
                await self._strike(name)
            raise
        if after:
            await self._strike(name)
        return result

    async def _strike(self, name: str) -> None:
        self.hit.set()
        if "crash" in self._how:
            self.dead = True
            await rest()
        raise HostFailure(f"Injected failure at {name}")


_PORTS = ("links", "firewall", "files", "mounts", "id_ranges")
_REMEMBERED = ("granted", "taken", "named")
"""Calls that not every run of a verb makes, because results are cached; they are not counted."""


class Frail:
    """A port whose calls are counted by a Blow."""

    def __init__(self, port: object, blow: Blow) -> None:
        self._port = port
        self._blow = blow

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._port, name)
        if name.startswith("_") or name in _REMEMBERED or not inspect.iscoroutinefunction(value):
            return value

        async def call(*arguments: object, **named: object) -> Any:
            return await self._blow.around(f"{type(self._port).__name__}.{name}", lambda: value(*arguments, **named))

        return call


class FrailWorld(World):
    """A world with frail ports. Each daemon has its own blow and ports, so that a crashed one has no further
    effects.
    """

    def __init__(self) -> None:
        self.blow = Blow()
        self._whole = host_with_ids()
        super().__init__(self._whole)
        self._whole_store = self.store

    async def start(self) -> Parts:
        """Start the next daemon, with new ports: later calls of a crashed one have no effect."""
        frail = {name: Frail(getattr(self._whole, name), self.blow) for name in _PORTS}
        self.host = dataclasses.replace(self._whole, **cast(dict[str, Any], frail))
        self.store = cast(Any, Frail(self._whole_store, self.blow))
        return await super().start()

    @property
    def whole(self) -> FakeHost:
        """The host, for inspection."""
        return self.host

    async def crash(self) -> None:
        """Kill the daemon and start the next one."""
        self.blow.dead = True
        self.blow = Blow()
        await self.start()
