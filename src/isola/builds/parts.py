"""What all builds share, and what one has for itself."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from weakref import WeakValueDictionary

from isola.builds.agents import Agents
from isola.builds.cache import Cache
from isola.builds.repositories import Repositories
from isola.builds.stages import Plan
from isola.builds.state import State
from isola.images.build_limits import BuildLimits
from isola.images.registry.credentials import ANONYMOUS, Credentials
from isola.images.store import Intake
from isola.instances import Instances
from isola.instances.context import Context
from isola.model.build import BuildEvent, BuildRequest
from isola.model.image import Layer, layer_keys
from isola.model.reference import Kind
from isola.operations import Operation

Credential = Callable[[str], Credentials]
"""For the domain of a registry."""
Tell = Callable[[BuildEvent], None]


def anonymous(domain: str) -> Credentials:
    return ANONYMOUS


CONTEXT = "context"
"""Directory of the files that a client has sent, in the directory of a build."""


@dataclass(frozen=True, slots=True)
class Parts:
    """Of the daemon."""

    context: Context
    instances: Instances
    cache: Cache
    directory: Path
    """Of builds: one directory for each that runs, and ``cache`` for what RUN keeps between them."""
    limits: Callable[[], BuildLimits]
    agents: Agents
    locks: WeakValueDictionary[str, asyncio.Lock] = field(default_factory=WeakValueDictionary)
    """Of directories that programs keep, for those that do not share them."""
    making: WeakValueDictionary[str, asyncio.Lock] = field(default_factory=WeakValueDictionary)
    """Of steps, by the keys of their results: equal ones of builds and stages are performed once."""


@dataclass(frozen=True, slots=True)
class Result:
    """A stage after some of its instructions."""

    state: State
    layers: tuple[Layer, ...]
    """Bottom first."""

    @property
    def keys(self) -> tuple[str, ...]:
        """What pools keep the layers under."""
        return layer_keys(self.layers)

    @property
    def diff_ids(self) -> tuple[str, ...]:
        return tuple(layer.diff_id for layer in self.layers)


Found = Result | Path
"""What ``--from`` names: a stage or image, or the directory of a further context."""


@dataclass(frozen=True, slots=True)
class Job:
    """One build."""

    parts: Parts
    op: Operation
    request: BuildRequest
    plan: Plan
    place: Path
    """Its own directory, with ``context`` in it; removed at the end."""
    intake: Intake
    tell: Tell
    pool: str
    """Where its containers have their roots."""
    credentials: Credential
    """For registries of base images."""
    limits: BuildLimits
    repositories: Repositories
    modified: dict[Path, int] = field(default_factory=dict)
    """Times of fetched files, in seconds since 1970, as their servers say."""

    @property
    def files(self) -> Path:
        """The unpacked context."""
        return self.place / CONTEXT

    @property
    def home(self) -> str:
        """The project that has its images."""
        return self.parts.context.home(self.request.project, Kind.IMAGE)

    @property
    def epoch(self) -> int | None:
        """SOURCE_DATE_EPOCH: no time in the image is later."""
        text = self.request.arguments.get("SOURCE_DATE_EPOCH", "")
        return int(text) if text.isascii() and text.isdigit() and len(text) < 12 else None

    def now(self) -> datetime:
        """For histories and new files."""
        return self.parts.context.host.clock.now() if self.epoch is None else datetime.fromtimestamp(self.epoch, UTC)

    def temporary(self, name: str) -> Path:
        """A new path in its directory."""
        return self.place / f"{name}-{self.parts.context.host.clock.token(6)}"
