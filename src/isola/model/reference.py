"""How things are named across the whole program: never by an address of an API."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

DEFAULT_PROJECT = "default"
OF_SERVER = "-"
"""In place of a project, where something belongs to the server as a whole; no project can have this name."""


@dataclass(frozen=True, slots=True, order=True)
class Ref:
    """A thing of one kind, by its project and its name there."""

    project: str
    name: str

    @property
    def key(self) -> str:
        """``default/web1``: what it is stored and locked under."""
        return f"{self.project}/{self.name}"

    @classmethod
    def of_key(cls, key: str) -> Ref:
        """A name may contain a slash (an image alias), a project may not."""
        project, _, name = key.partition("/")
        return cls(project, name)

    @classmethod
    def default(cls, name: str) -> Ref:
        """The thing of this name in the default project."""
        return cls(DEFAULT_PROJECT, name)

    def renamed(self, name: str) -> Ref:
        """Another name in the same project."""
        return Ref(self.project, name)

    @property
    def quoted(self) -> str:
        """For messages: ``'web1'``, or ``'web1' (project blue)``."""
        name = repr(self.name[:80])
        return name if self.project == DEFAULT_PROJECT else f"{name} (project {self.project})"

    def __str__(self) -> str:
        """As people write it: the default project goes without saying."""
        return self.name if self.project == DEFAULT_PROJECT else f"{self.name} (project {self.project})"


class Kind(StrEnum):
    """Nouns that operations, events and users of other things refer to."""

    INSTANCE = "instance"
    INSTANCE_SNAPSHOT = "instance snapshot"
    PROFILE = "profile"
    PROJECT = "project"
    IMAGE = "image"
    IMAGE_ALIAS = "image alias"
    IMAGE_LAYERS = "image layers"
    """What pools keep a stack of unpacked layers under, bottom first, as one thing that is used."""
    IMAGE_BLOBS = "image blobs"
    """Digests of what is downloaded for such a stack."""
    REPOSITORY = "image repository"
    REPOSITORY_BLOBS = "blobs of an image repository"
    REPOSITORY_BLOB = "blob of an image repository"
    REPOSITORY_MANIFEST = "manifest of an image repository"
    REPOSITORY_TAG = "tag of an image repository"
    REPOSITORY_CONTENT = "repository content"
    """A blob, whichever repositories have it."""
    NETWORK = "network"
    STORAGE_POOL = "storage pool"
    STORAGE_VOLUME = "storage volume"
    VOLUME_SNAPSHOT = "volume snapshot"
    CERTIFICATE = "certificate"
    LOGIN_TOKEN = "login token"
    OPERATION = "operation"
    SERVER = "server"
    BUILD_RESULT = "build result"
    WARNING = "warning"
    UNKNOWN = "unknown instance"


@dataclass(frozen=True, slots=True, order=True)
class Entity:
    """One thing of any kind. ``names`` lead to it: an instance has one name, its snapshot two.

    A storage volume has three, ``(pool, "custom", "data")``, its snapshot four. What belongs to no project (a pool, a
    certificate) stands in the default project.
    """

    kind: Kind
    project: str
    names: tuple[str, ...]

    @classmethod
    def of(cls, kind: Kind, ref: Ref) -> Entity:
        """The thing that a reference names."""
        return cls(kind, ref.project, (ref.name,))

    @classmethod
    def of_host(cls, kind: Kind, *names: str) -> Entity:
        """What belongs to no project."""
        return cls(kind, DEFAULT_PROJECT, names)

    @property
    def ref(self) -> Ref:
        """Of a thing with one name."""
        return Ref(self.project, "/".join(self.names))

    @property
    def lock(self) -> str:
        """What an operation locks that works on it."""
        return "/".join((self.kind, self.project, *self.names))

    def __str__(self) -> str:
        """``instance web1``, or ``instance web1 (project blue)``."""
        return f"{self.kind} {Ref(self.project, '/'.join(self.names))}"
