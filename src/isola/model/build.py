"""Builds of images: requests, events meanwhile, and results that are kept for the next build."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from isola.model.build_cache import CacheExport, CacheImport
from isola.model.image import Layer, digests_entity, layers_entity
from isola.model.reference import DEFAULT_PROJECT, Entity, Kind

NOTE = "build"
"""The note of an instance that belongs to a build, with the id of its operation."""
BUILDS = "builds"
"""The directory in which the server keeps files of builds."""


class Output(StrEnum):
    """What a build makes."""

    IMAGE = "image"
    """In the project, under its names."""
    FILES = "files"
    """Its root file system, for the client alone."""
    ARCHIVE = "archive"
    """The image as an archive of OCI's and Docker's layout, for the client alone."""
    CHECK = "check"
    """Nothing: only warnings about its instructions."""


@dataclass(frozen=True, slots=True)
class Furnished:
    """What a build gives to an instance while one of its programs runs; no record has it."""

    environment: Mapping[str, str] = field(default_factory=dict)
    """With secrets."""
    devices: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """What projects do not restrict, as long as it is unchanged."""


@dataclass(frozen=True, slots=True)
class BuildRequest:
    """What a client asks for, beside the context."""

    names: tuple[str, ...] = ()
    """Aliases that point to the image."""
    builder: str = "dockerfile"
    """The driver that makes instructions of the context."""
    dockerfile: str = ""
    """The path in the context of the Dockerfile, or of what another builder reads; empty: its usual one."""
    target: str = ""
    """A stage; empty: the last one."""
    platform: str = ""
    """``linux/amd64``; empty: the host's."""
    arguments: Mapping[str, str] = field(default_factory=dict)
    """Build arguments; to builders other than that of Dockerfiles, their options."""
    labels: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, bytes] = field(default_factory=dict)
    """By id. They are in no layer, no record and no log."""
    agents: frozenset[str] = frozenset()
    """Ids of agents of SSH that the client has."""
    no_cache: bool = False
    pull: bool = False
    """Base images are fetched again."""
    network: str = "default"
    """Of instructions that do not name one: ``default``, ``none`` or the name of a network."""
    config: Mapping[str, str] = field(default_factory=dict)
    """Configuration of the containers in which programs run: limits."""
    remote: str = ""
    """The context, if the server fetches it: a Git repository, an archive or a Dockerfile."""
    contexts: Mapping[str, str] = field(default_factory=dict)
    """Further ones by name: ``docker-image://NAME``, an address as for ``remote``, or ``local:context-N``, a directory
    that is sent beside that of the context."""
    imports: tuple[CacheImport, ...] = ()
    """Caches that are asked after the daemon's own."""
    exports: tuple[CacheExport, ...] = ()
    cache_from: tuple[str, ...] | None = None
    """Images out of whose layers kept results are taken; missing ones are none. None: out of all."""
    output: Output = Output.IMAGE
    project: str = DEFAULT_PROJECT


class BuildEventKind(StrEnum):
    """What happens in a build."""

    STEP = "step"
    CACHED = "cached"
    OUTPUT = "output"
    RESULT = "result"
    WARNING = "warning"
    EXPORT = "export"
    """A cache is exported; its result follows, with the same stage."""
    RUNNING = "running"
    REMOVED = "removed"
    AGENT = "agent"
    """A program asks an agent of the client, which replies by the token."""
    DATA = "data"
    """The next piece of what the client gets of the result."""


@dataclass(frozen=True, slots=True)
class BuildEvent:
    """One event, in the order of its stage."""

    kind: BuildEventKind
    stage: int
    text: str = ""
    """The instruction, the id of a result or container, or a warning."""
    number: int = 0
    """Of the step, from 1."""
    total: int = 0
    data: bytes = b""
    """Output of a program."""
    stderr: bool = False
    token: str = ""
    label: str = ""
    """Of a step that makes files, as BuildKit names it: with its stage and its number there."""
    line: int = 0
    """Of the step's instruction in the Dockerfile, from 1; 0 for what is not in it."""


@dataclass(frozen=True, slots=True)
class BuildResult:
    """The result of a step, kept for the next build that has the same step on the same files."""

    key: str
    created_at: datetime
    used_at: datetime
    text: str
    """The instruction."""
    layer: Layer | None
    """None: it changed no file."""
    chain: tuple[str, ...] = ()
    """What pools keep the stack of layers with it under."""
    uses: int = 1
    """How many builds have had it, the one that made it included."""

    @property
    def entity(self) -> Entity:
        """What other things name it by."""
        return Entity.of_host(Kind.BUILD_RESULT, self.key)

    @property
    def mentions(self) -> frozenset[Entity]:
        """The layers that are kept while it is."""
        return layers_entity(self.chain) | digests_entity([self.layer.digest] if self.layer else ())

    @property
    def size(self) -> int:
        """Bytes in the content store."""
        return self.layer.size if self.layer else 0
