"""A machine that goes on: its file server has discarded what the guest has announced meanwhile, and is asked again."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from isola.errors import NotFound, WrongState
from isola.runtimes.qemu.guest import VmGuest
from isola.runtimes.qemu.layout import VmLayout
from isola.runtimes.qemu.vm_guest import DiskGuest
from isola.testing.host import fake_host


class Parts:
    """Of a machine that stands still: what QEMU is told, and what the guest is asked for."""

    def __init__(self, *failures: type[BaseException]) -> None:
        self.paused, self.alive = True, True
        self.run = SimpleNamespace(id="one")
        self.spec = None
        self.qmp = self
        self.told: list[str] = []
        self.asked: list[str] = []
        self._failures = list(failures)

    async def execute(self, command: str) -> None:
        self.told.append(command)

    def hold(self, *, paused: bool) -> None:
        self.paused = paused

    async def agent(self) -> Parts:
        return self

    async def set_clock(self, nanoseconds: int) -> None:
        self.told.append("clock")

    @asynccontextmanager
    async def files(self) -> AsyncIterator[Parts]:
        yield self

    async def stat(self, path: str, *, follow: bool) -> None:
        self.asked.append(path)
        raise self._failures.pop(0) if self._failures else NotFound("no such file")


def resumed(kind: type[VmGuest], parts: Parts) -> VmGuest:
    layout = partial(VmLayout, run=Path("/run"), logs=Path("/logs"))
    runtime: Any = SimpleNamespace(host=fake_host(), layout=layout, group=str)
    session: Any = parts
    return kind(runtime, session)


@pytest.mark.parametrize(("kind", "place"), [(VmGuest, "/."), (DiskGuest, "/run/isola/shares/.")])
async def test_its_file_server_gets_a_request_that_no_cache_answers(kind: type[VmGuest], place: str) -> None:
    parts = Parts()
    await resumed(kind, parts).resume()
    assert parts.told == ["cont", "clock"] and not parts.paused
    assert len(parts.asked) == 1 and parts.asked[0].startswith(place)
    parts.paused = True
    guest = resumed(kind, parts)
    await guest.resume()
    parts.paused = True
    await guest.resume()
    assert len(set(parts.asked[1:])) == 2, "each time another name"


async def test_one_that_does_not_answer_is_asked_again_a_few_times() -> None:
    parts = Parts(TimeoutError)
    await resumed(VmGuest, parts).resume()
    assert len(parts.asked) == 2
    silent = Parts(*[TimeoutError] * 9)
    await resumed(VmGuest, silent).resume()
    assert len(silent.asked) == 3


async def test_a_guest_without_a_running_program_goes_on() -> None:
    class Booting(Parts):
        async def agent(self) -> Parts:
            raise WrongState("no agent")

    parts = Booting()
    await resumed(VmGuest, parts).resume()
    assert parts.told == ["cont"]
