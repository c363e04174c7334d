"""What a client of BuildKit wants to have of a build: its exporters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from isola.builds.cache_options import MOST, cache_export
from isola.doors.docker.building import MOST_NAMES
from isola.doors.docker.buildkit.wire import Message
from isola.errors import InvalidInput, Unsupported
from isola.model.build import Output
from isola.model.build_cache import CacheExport, CacheType
from isola.model.image_reference import ImageReference, parse

_MOST = 20
_TRUE = ("true", "1")


class Kind(Enum):
    """An exporter, by the text of its progress."""

    IMAGE = "exporting to image"
    TREE = "exporting to client directory"
    TAR = "exporting to client tarball"
    OCI = "exporting to oci image format"
    DOCKER = "exporting to docker image format"


_KINDS: Mapping[str, Kind] = {
    "moby": Kind.IMAGE,
    "image": Kind.IMAGE,
    "registry": Kind.IMAGE,
    "local": Kind.TREE,
    "tar": Kind.TAR,
    "oci": Kind.OCI,
    "docker": Kind.DOCKER,
}


@dataclass(frozen=True, slots=True)
class Delivery:
    """What goes to the client."""

    kind: Kind
    number: int
    """By which the client knows where to."""
    names: tuple[str, ...]
    """Of an image."""


@dataclass(frozen=True, slots=True)
class Push:
    """A name that the daemon pushes the image under; without a tag, by its digest alone."""

    to: ImageReference
    by_digest: bool = False


@dataclass(frozen=True, slots=True)
class Outputs:
    """All of one build."""

    kind: Output = Output.FILES
    """What the builder has to make for them; an image is recorded under ``names``."""
    names: tuple[str, ...] = ()
    deliveries: tuple[Delivery, ...] = ()
    pushes: tuple[Push, ...] = ()
    caches: tuple[CacheExport, ...] = ()
    exporters: tuple[tuple[str, Mapping[str, str]], ...] = ()
    """As the client has written them."""


def outputs_of(wanted: Message) -> Outputs:
    """The exporters of a request; without one the build has no result. Raises Unsupported, InvalidInput."""
    found = [(each.text(1), each.texts(2)) for each in wanted.messages(13)]
    if not found and wanted.text(3):
        found = [(wanted.text(3), wanted.texts(4))]
    if len(found) > _MOST:
        raise InvalidInput(f"more than {_MOST} outputs", field="output")
    for name, attributes in found:
        _check(name, attributes)
    images = [(name, attributes) for name, attributes in found if _KINDS[name] is Kind.IMAGE]
    deliveries = tuple(
        Delivery(_KINDS[name], number, _names(attributes))
        for number, (name, attributes) in enumerate(found)
        if _KINDS[name] is not Kind.IMAGE
    )
    names = [name for _, attributes in images if not _by_digest(attributes) for name in _names(attributes)]
    return Outputs(
        _output(images, deliveries),
        _bounded(names or [name for each in deliveries for name in each.names]),
        deliveries,
        tuple(each for name, attributes in images for each in _pushes(name, attributes)),
        _caches(wanted.inside(8).messages(4)),
        tuple(found),
    )


def _output(images: Sequence[object], deliveries: Sequence[Delivery]) -> Output:
    if images:
        return Output.IMAGE
    return Output.ARCHIVE if any(each.kind in (Kind.OCI, Kind.DOCKER) for each in deliveries) else Output.FILES


def _names(attributes: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(parse(name).tagged().full for name in attributes.get("name", "").split(",") if name)


def _bounded(names: Sequence[str]) -> tuple[str, ...]:
    found = tuple(dict.fromkeys(names))
    if len(found) > MOST_NAMES:
        raise InvalidInput(f"more than {MOST_NAMES} tags", field="t")
    return found


def _by_digest(attributes: Mapping[str, str]) -> bool:
    return attributes.get("push-by-digest", "").lower() in _TRUE


def _pushes(kind: str, attributes: Mapping[str, str]) -> tuple[Push, ...]:
    """With ``moby`` none: clients push afterwards, as with any image of the daemon."""
    if kind == "moby" or (kind != "registry" and attributes.get("push", "").lower() not in _TRUE):
        return ()
    names = [parse(name) for name in attributes.get("name", "").split(",") if name]
    if not names:
        raise InvalidInput("An image that is pushed needs a name", field="output", remedy="name it: -t NAME")
    by_digest = _by_digest(attributes)
    return tuple(Push(name if by_digest else name.tagged(), by_digest) for name in names)


def _caches(found: Sequence[Message]) -> tuple[CacheExport, ...]:
    if len(found) > MOST:
        raise InvalidInput(f"There are more than {MOST} caches", field="cache-to")
    return tuple(_cache(each.text(1), each.texts(2)) for each in found)


def _cache(kind: str, attributes: Mapping[str, str]) -> CacheExport:
    """Raises Unsupported, InvalidInput."""
    if kind == CacheType.LOCAL:
        raise Unsupported(
            "Caches are not exported to directories of clients of BuildKit", field="cache-to",
            remedy="use type=registry; only the command line of this program writes directories",
        )  # fmt: skip
    return cache_export({**attributes, "type": kind})


def _check(name: str, attributes: Mapping[str, str]) -> None:
    if name not in _KINDS:
        raise Unsupported(
            f"Builds with the output {name[:40]} are not offered", field="output",
            remedy="the outputs are image, registry, local, tar, oci, docker",
        )  # fmt: skip
    if attributes.get("tar") == "false":
        raise InvalidInput(
            "Images are sent as one archive, not as a directory", field="output", remedy="leave tar=false out"
        )
