"""Images: one content-addressed store holds every kind; LXD's view (fingerprint, metadata, aliases) is derived."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from isola.model.reference import DEFAULT_PROJECT, Entity, Kind, Ref
from isola.model.signals import HALTING
from isola.model.template import Template

LAYER_ID = re.compile(r"sha256:[0-9a-f]{64}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer of a root file system as it lies in the content store."""

    digest: str
    """``sha256:...`` of the blob as stored (compressed or not)."""
    media_type: str
    size: int
    """Bytes of the blob as stored."""
    diff_id: str = ""
    """``sha256:...`` of the tar stream, uncompressed; empty in records of Isola 0.1."""


def chain_ids(diff_ids: Sequence[str]) -> tuple[str, ...]:
    """The OCI chain id of each layer together with all layers below it, bottom first.

    The same for the same content, however its blobs are compressed: what unpacked layers are stored under.
    """
    chain: list[str] = []
    for diff_id in diff_ids:
        below = f"{chain[-1]} {diff_id}".encode() if chain else b""
        chain.append(f"sha256:{hashlib.sha256(below).hexdigest()}" if below else diff_id)
    return tuple(chain)


def layer_keys(layers: Sequence[Layer]) -> tuple[str, ...]:
    """What storage pools keep the unpacked layers under: chain ids, or the blobs' digests as in Isola 0.1."""
    if all(layer.diff_id for layer in layers):
        return chain_ids([layer.diff_id for layer in layers])
    return tuple(layer.digest for layer in layers)


def layers_entity(keys: Iterable[str]) -> frozenset[Entity]:
    """Unpacked layers as one thing that instances and images use; without layers nothing."""
    names = tuple(keys)
    return frozenset({Entity.of_host(Kind.IMAGE_LAYERS, *names)} if names else ())


def digests_entity(digests: Iterable[str]) -> frozenset[Entity]:
    """Blobs of layers as one thing that instances use; without layers nothing."""
    names = tuple(digests)
    return frozenset({Entity.of_host(Kind.IMAGE_BLOBS, *names)} if names else ())


@dataclass(frozen=True, slots=True)
class HealthCheck:
    """How to find out whether the program works; durations in nanoseconds, 0 leaves the choice to the runtime."""

    argv: tuple[str, ...] = ()
    """Empty: as in the image below, or none."""
    in_shell: bool = False
    """The last argument is a script as the image's author wrote it, for the shell before it."""
    interval: int = 0
    timeout: int = 0
    start_period: int = 0
    start_interval: int = 0
    retries: int = 0
    disabled: bool = False
    outside: str = ""
    """In place of a command: ``tcp:PORT`` or ``http:PORT/PATH``, which the host connects to."""


TYPE_LABEL = "org.isola.image.type"
"""``system``, ``application`` or ``unikernel``, in the OCI documents of images."""
_INITS = ("init", "systemd")


@dataclass(frozen=True, slots=True)
class ImageConfig:
    """How to run the image: the OCI image configuration, as far as Isola reads it."""

    system: bool = False
    """True when the image is a whole distribution with its own init."""
    command: tuple[str, ...] = ("/sbin/init",)
    """Entrypoint and command."""
    environment: Mapping[str, str] = field(default_factory=dict)
    cwd: str = "/"
    user: str = "0"
    stop_signal: str = "SIGTERM"
    """By name; ``SIGRTMIN+3`` asks systemd to halt."""
    entrypoint: tuple[str, ...] = ()
    """The beginning of ``command`` that stays when a user gives other arguments."""
    labels: Mapping[str, str] = field(default_factory=dict)
    volumes: tuple[str, ...] = ()
    """Directories whose content is not the image's business."""
    exposed_ports: tuple[str, ...] = ()
    """``80/tcp``, ``8000-8010/udp``."""
    health_check: HealthCheck | None = None
    shell: tuple[str, ...] = ()
    """The shell of a build's instructions; empty: ``/bin/sh -c``."""
    on_build: tuple[str, ...] = ()
    """Instructions that are carried out when another image is built on this one."""
    args_escaped: bool = False
    """Only kept for other tools."""

    @property
    def arguments(self) -> tuple[str, ...]:
        """What follows the entrypoint."""
        return self.command[len(self.entrypoint) :]

    def running(self, command: tuple[str, ...], entrypoint: tuple[str, ...]) -> ImageConfig:
        """With this command, which makes an image of a distribution one of a program unless it is an init."""
        found = replace(self, command=command, entrypoint=entrypoint)
        if not self.system or command in ((), self.command) or command[0].rpartition("/")[2] in _INITS:
            return found
        labels = {name: value for name, value in self.labels.items() if name != TYPE_LABEL}
        halts = self.stop_signal in HALTING
        return replace(found, system=False, labels=labels, stop_signal="SIGTERM" if halts else self.stop_signal)


PARENT = "parent"
"""In the source of an image that was made from an instance: the fingerprint of the image of that."""


@dataclass(frozen=True, slots=True)
class Image:
    """An image as recorded, under the digest of its OCI manifest."""

    fingerprint: str
    """What LXD's clients call it: SHA-256 over the files of an export, or the hexadecimal digits of ``manifest``."""
    manifest: str
    """Digest of the OCI manifest."""
    size: int
    architecture: str
    created_at: datetime
    uploaded_at: datetime
    layers: tuple[Layer, ...]
    """Bottom first."""
    config: ImageConfig
    properties: Mapping[str, str] = field(default_factory=dict)
    """``os``, ``release``, ``variant``, ``description``, ..."""
    public: bool = False
    auto_update: bool = False
    cached: bool = False
    profiles: tuple[str, ...] = ("default",)
    expires_at: datetime | None = None
    last_used_at: datetime | None = None
    filename: str = ""
    type: str = "container"
    artifact: str = ""
    """Digest of the OCI artifact manifest that lists the files LXD's export gives; empty where there are none."""
    source: Mapping[str, str] = field(default_factory=dict)
    """Where it came from: ``{"driver": "debian", "release": "bookworm", ...}``; empty for an upload."""
    templates: tuple[Template, ...] | None = None
    """None where a record was written before they were looked at."""
    index: str = ""
    """Digest of the OCI index that the manifest was picked from by platform; empty where there was none."""
    project: str = DEFAULT_PROJECT

    @property
    def ref(self) -> Ref:
        """Its project and its fingerprint."""
        return Ref(self.project, self.fingerprint)

    @property
    def entity(self) -> Entity:
        """What events, operations and users of other things name it by."""
        return Entity.of(Kind.IMAGE, self.ref)

    @property
    def is_known_by_manifest(self) -> bool:
        """Whether the fingerprint is the manifest's digest, and not that of files."""
        return self.manifest == f"sha256:{self.fingerprint}"


@dataclass(frozen=True, slots=True)
class Alias:
    """A name for an image."""

    name: str
    target: str
    """Fingerprint."""
    description: str = ""
    type: str = "container"
    project: str = DEFAULT_PROJECT

    @property
    def ref(self) -> Ref:
        """Its project and its name."""
        return Ref(self.project, self.name)

    @property
    def entity(self) -> Entity:
        """What events, operations and users of other things name it by."""
        return Entity.of(Kind.IMAGE_ALIAS, self.ref)
