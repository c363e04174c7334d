"""Directories of the host in a guest whose root is a disk: served by its file server, mounted by its agent.

What is to be mounted is kept in a file of the run, because the agent answers only when its system has booted, and
perhaps to another daemon.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence

from isola.errors import NotFound
from isola.host import Host
from isola.runtimes.agent.agent import Agent
from isola.runtimes.agent.methods import GuestMount
from isola.runtimes.agent.plan import BIND, own_mounts
from isola.runtimes.qemu.layout import VmLayout
from isola.runtimes.spec import RunSpec

TAG = "isola"
"""Of the shared directory."""
PLACE = "/run/isola/shares"
"""Where it is mounted inside."""


class Shares:
    """Those of one run."""

    def __init__(self, host: Host, layout: VmLayout, spec: RunSpec) -> None:
        self._host = host
        self._file = layout.run / "shares.json"
        self._spec = spec
        self._turn = asyncio.Lock()
        self._expected: set[str] = set()
        """What a guest that continues from a state finds mounted already."""

    async def begin(self, there: Sequence[str]) -> None:
        """The guest continues from a state in which these were mounted; empty: it had none, or no agent."""
        self._expected = set(there)
        mounted = {"": PLACE, "own": ""} if there else {}
        await self._write({}, mounted)

    async def there(self) -> tuple[str, ...]:
        """Where the agent has mounted them, for ``begin``; the first is that of the shared directory."""
        _, mounted = await self._read()
        return tuple(sorted(target for number, target in mounted.items() if number != "own"))

    def missing(self) -> tuple[str, ...]:
        """Those of ``begin`` that have not been added again."""
        return tuple(sorted(self._expected - {PLACE}))

    async def add(self, number: int, target: str, agent: Agent | None) -> None:
        """A mount of the file server is below the shared directory, at the path that it gets inside."""
        async with self._turn:
            waiting, mounted = await self._read()
            if target in self._expected:
                self._expected.discard(target)
                return await self._write(waiting, mounted | {str(number): target})
            await self._write(waiting | {str(number): target}, mounted)
            if agent is not None:
                await self._show(agent)

    async def remove(self, number: int, agent: Agent | None) -> None:
        """Before the file server unmounts it."""
        async with self._turn:
            waiting, mounted = await self._read()
            target = mounted.pop(str(number), None)
            waiting.pop(str(number), None)
            if target is not None and agent is not None:
                await agent.unmount(target)
            await self._write(waiting, mounted)

    async def greet(self, agent: Agent) -> None:
        """Mount what waits for an agent."""
        async with self._turn:
            await self._show(agent)

    async def _show(self, agent: Agent) -> None:
        waiting, mounted = await self._read()
        own = {} if "own" in mounted else {mount.target: mount for mount in own_mounts(self._spec)}
        if (waiting or own) and "" not in mounted:
            await agent.mount(GuestMount(TAG, PLACE, "virtiofs"))
            mounted[""] = PLACE
        for mount in own.values():
            await agent.mount(mount)
        mounted["own"] = ""
        for number, target in tuple(waiting.items()):
            await agent.mount(GuestMount(f"{PLACE}/{target.strip('/')}", target, "", BIND))
            mounted[number] = waiting.pop(number)
            await self._write(waiting, mounted)
        await self._write(waiting, mounted)

    async def _read(self) -> tuple[dict[str, str], dict[str, str]]:
        """By mount number: those that wait for an agent, and those that it has mounted."""
        try:
            found = json.loads(await self._host.files.read(self._file))
            return dict(found["waiting"]), dict(found["mounted"])
        except NotFound:
            return {}, {}

    async def _write(self, waiting: dict[str, str], mounted: dict[str, str]) -> None:
        record = {"waiting": waiting, "mounted": mounted}
        await self._host.files.write(self._file, json.dumps(record).encode(), durable=False)
