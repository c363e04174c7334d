"""What is in an archive of images: the layout of OCI, or that of ``docker save``, which may contain both. Pure."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Sequence
from dataclasses import dataclass

import orjson

from isola.errors import InvalidInput, TooLarge, Unsupported
from isola.host.archive.members import ArchiveMember
from isola.images.descriptor import Descriptor
from isola.images.hostile_json import MAX_DOCUMENT, Fields
from isola.images.oci_manifest import MAX_LAYERS, Index, read_document
from isola.model import image_reference

INDEX, MANIFEST = "index.json", "manifest.json"
MOST_IMAGES = 200
"""Images in one archive."""
_CONTAINERD_NAME = "io.containerd.image.name"
_REF_NAME = "org.opencontainers.image.ref.name"
_ATTESTATION = "vnd.docker.reference.type"
_MOST_LINKS = 8
_FIRST = re.compile(
    r"blobs(/.*)?|oci-layout|index\.json|manifest\.json|repositories|[0-9a-f]{64}(\.json|\.tar|/.*)?", re.ASCII
)


def blob_path(digest: str) -> str:
    """In OCI's layout."""
    return f"blobs/{digest.replace(':', '/', 1)}"


def may_hold_images(first: Sequence[str]) -> bool:
    """Whether an archive that begins with these names may be one of images; no root file system begins so."""
    return bool(first) and _FIRST.fullmatch(first[0]) is not None


class Members:
    """The members of an archive by name; of several with one name the last counts."""

    def __init__(self, members: Sequence[ArchiveMember]) -> None:
        self._members = {member.name: member for member in members if not member.directory}

    def find(self, name: str) -> ArchiveMember | None:
        """The regular file with this name, through links within the archive; None if there is none."""
        path = posixpath.normpath(name).lstrip("/")
        for _ in range(_MOST_LINKS):
            member = self._members.get(path)
            if member is None or not member.link:
                return member
            here = "" if member.hard else posixpath.dirname(path)
            path = posixpath.normpath(posixpath.join(here, member.link)).lstrip("/")
        return None

    def get(self, name: str) -> ArchiveMember:
        """Raises InvalidInput."""
        if (found := self.find(name)) is None:
            raise InvalidInput(
                "The archive is incomplete", evidence=f"it has no {name[:200]!r}", remedy="save the images again"
            )
        return found

    def blob(self, digest: str) -> ArchiveMember | None:
        """The file of a blob in OCI's layout."""
        return self.find(blob_path(digest))


@dataclass(frozen=True, slots=True)
class LaidOut:
    """An image of OCI's layout: a manifest, or an index of which one is chosen by platform."""

    at: Descriptor
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Saved:
    """An image of Docker's layout: the names of files in the archive."""

    config: str
    layers: tuple[str, ...]
    """Bottom first."""
    names: tuple[str, ...]


def read_layout(data: bytes) -> Sequence[LaidOut | Index]:
    """The images of ``index.json``. Manifests without a name are one image for several platforms, as an index.

    Raises InvalidInput, TooLarge.
    """
    document = read_document(data)
    if not isinstance(document, Index):
        raise InvalidInput("index.json is not an image index", field=INDEX)
    images = [each for each in document.manifests if _ATTESTATION not in each.annotations and not each.artifact_type]
    _check_number(len(images))
    names: dict[str, tuple[Descriptor, list[str]]] = {}
    for each in images:
        names.setdefault(each.digest, (each, []))[1].extend(_names(each))
    named = [LaidOut(at, tuple(dict.fromkeys(found))) for at, found in names.values() if found]
    unnamed = [at for at, found in names.values() if not found]
    if len(unnamed) > 1 and all(at.platform for at in unnamed):
        return [*named, Index(document.media_type, tuple(unnamed))]
    return [*named, *(LaidOut(at, ()) for at in unnamed)]


def read_saved(data: bytes) -> Sequence[Saved]:
    """The images of ``manifest.json``. Raises InvalidInput, TooLarge."""
    if len(data) > MAX_DOCUMENT:
        raise TooLarge(f"manifest.json is larger than {MAX_DOCUMENT} bytes")
    try:
        items = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise InvalidInput("manifest.json is not JSON", evidence=str(error), field=MANIFEST) from None
    if not isinstance(items, list):
        raise InvalidInput("manifest.json is not a list", field=MANIFEST)
    _check_number(len(items))
    return [_saved(Fields(item, f"{MANIFEST}[{number}]")) for number, item in enumerate(items)]


def check_kind(members: Members) -> str:
    """``index.json`` or ``manifest.json``: what describes the images. Raises Unsupported."""
    if members.find("oci-layout") is not None and members.find(INDEX) is not None:
        return INDEX
    if members.find(MANIFEST) is not None:
        return MANIFEST
    raise Unsupported(
        "The archive has neither index.json nor manifest.json",
        field="archive",
        remedy="save the images with a current docker, podman or skopeo",
    )


def alias_of(name: str) -> str:
    """The alias for an image's name in an archive; empty for one that cannot be an alias."""
    try:
        return image_reference.parse(name).tagged().full
    except InvalidInput:
        return ""


def _names(each: Descriptor) -> Sequence[str]:
    """containerd and Docker write the whole name; other tools a tag, or the name in place of the tag."""
    whole, name = each.annotations.get(_CONTAINERD_NAME, ""), each.annotations.get(_REF_NAME, "")
    found = whole or (name if "/" in name or ":" in name else "")
    alias = alias_of(found) if found else ""
    return [alias] if alias else []


def _saved(fields: Fields) -> Saved:
    layers = fields.texts("Layers", most=MAX_LAYERS)
    names = [alias_of(name) for name in fields.texts("RepoTags")]
    config = fields.text("Config", longest=1024)
    if not config:
        raise fields.wrong("Config", "is missing")
    return Saved(config, layers, tuple(dict.fromkeys(name for name in names if name)))


def _check_number(count: int) -> None:
    if count > MOST_IMAGES:
        raise TooLarge("The archive has too many images", evidence=f"{count}, at most {MOST_IMAGES} are allowed")
    if not count:
        raise InvalidInput("The archive has no image", field="archive")
