"""Templates of images: they are untrusted, and rendered in a confined process."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Protocol

from isola.errors import HostFailure, InvalidInput, TimedOut, UnsafeArchive
from isola.host.archive.answers import read_answer
from isola.host.process import Processes

Value = str | Mapping[str, "Value"]
MOST_RENDERED = 1 << 20
"""Maximum total length of the results of one call, in characters."""
_SECONDS = 300.0
"""Longer than the process gives itself, in which the time that it computes is limited to seconds."""


@dataclass(frozen=True, slots=True)
class Job:
    """One template, and its own values."""

    text: str
    values: Mapping[str, Value] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Rendered:
    """The result of a template: its text, or an error."""

    text: str = ""
    error: str = ""


class Templates(Protocol):
    """Renders templates of pongo2 (the language of Django), as far as Jinja supports it."""

    async def render(self, jobs: Sequence[Job], values: Mapping[str, Value]) -> tuple[Rendered, ...]:
        """Render all, in a process without privileges, with limits on time, memory and output.

        Each sees ``values``, its own values, and ``config_get(key, default)``, which reads the value ``config``.
        Unknown names are empty. Raises InvalidInput if a limit is exceeded, TimedOut if the host is too busy,
        HostFailure if the process fails.
        """
        ...


class LinuxTemplates:
    """In a confined process of its own (see ``renderer`` and ``cell``)."""

    def __init__(self, processes: Processes) -> None:
        self._processes = processes

    async def render(self, jobs: Sequence[Job], values: Mapping[str, Value]) -> tuple[Rendered, ...]:
        request = json.dumps({"jobs": [asdict(job) for job in jobs], "values": values}).encode()
        argv = [sys.executable, "-I", "-m", "isola.host.renderer"]
        done = await self._processes.run(argv, stdin=request, timeout=_SECONDS, check=False)
        if done.status == -signal.SIGALRM:
            raise TimedOut("The templates were not rendered in time", remedy="try again when the host is less busy")
        if done.status != 0:
            raise HostFailure(
                "The process that renders templates failed", evidence=done.stderr.decode("utf-8", "replace")[-2000:]
            )
        try:
            found = read_answer(done.stdout).pieces("rendered", ("text", "error"), limit=MOST_RENDERED)
        except UnsafeArchive as error:
            raise InvalidInput("The templates exceed the limits on time or memory", evidence=error.evidence) from error
        if len(found) != len(jobs):
            raise HostFailure("The process that renders templates returned an invalid result")
        return tuple(Rendered(each.get("text", ""), each.get("error", "")) for each in found)
