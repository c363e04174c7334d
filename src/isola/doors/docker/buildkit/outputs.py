"""What a client of BuildKit wants to have of a build: its exporters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from isola.builds.cache_options import MOST, cache_export
from isola.doors.docker.buildkit.wire import Message
from isola.errors import InvalidInput, Unsupported
from isola.model.build import Output
from isola.model.build_cache import CacheExport, CacheType

_KINDS: Mapping[str, Output] = {
    "": Output.IMAGE,
    "moby": Output.IMAGE,
    "image": Output.IMAGE,
    "local": Output.FILES,
    "tar": Output.FILES,
    "oci": Output.ARCHIVE,
    "docker": Output.ARCHIVE,
}
_TREE = "local"


@dataclass(frozen=True, slots=True)
class Outputs:
    """One kind, with the names of images separated by commas."""

    kind: Output = Output.IMAGE
    names: str = ""
    tree: bool = False
    """Files one by one, in place of an archive."""
    caches: tuple[CacheExport, ...] = ()


def outputs_of(wanted: Message) -> Outputs:
    """The exporters of a request. Raises Unsupported, InvalidInput."""
    found = [(each.text(1), each.texts(2)) for each in wanted.messages(13)]
    if not found and wanted.text(3):
        found = [(wanted.text(3), wanted.texts(4))]
    caches = tuple(_cache(each.text(1), each.texts(2)) for each in wanted.inside(8).messages(4)[:MOST])
    return replace(_together(found), caches=caches)


def _cache(kind: str, attributes: Mapping[str, str]) -> CacheExport:
    """Raises Unsupported, InvalidInput."""
    if kind == CacheType.LOCAL:
        raise Unsupported(
            "Caches are not exported to directories of clients of BuildKit", field="cache-to",
            remedy="use type=registry; only the command line of this program writes directories",
        )  # fmt: skip
    return cache_export({**attributes, "type": kind})


def _together(found: Sequence[tuple[str, Mapping[str, str]]]) -> Outputs:
    kinds = {_kind(name) for name, _ in found} or {Output.IMAGE}
    if len(kinds) > 1 or (len(found) > 1 and kinds != {Output.IMAGE}):
        raise Unsupported(
            "One build has one output", field="output", remedy="build again with the other: the steps are cached"
        )
    for name, attributes in found:
        _check(name, attributes)
    names = ",".join(each for _, attributes in found if (each := attributes.get("name", "")))
    return Outputs(kinds.pop(), names, any(name == _TREE for name, _ in found))


def _kind(name: str) -> Output:
    if name not in _KINDS:
        raise Unsupported(
            f"Builds with the output {name[:40]} are not offered", field="output",
            remedy="the outputs are image, local, tar, oci, docker",
        )  # fmt: skip
    return _KINDS[name]


def _check(name: str, attributes: Mapping[str, str]) -> None:
    """``push`` is left to clients with ``moby``, which push the image themselves."""
    if name != "moby" and attributes.get("push") == "true":
        raise Unsupported(
            "The image is not pushed by a build of this kind", field="output", remedy="push it afterwards: docker push"
        )
    if attributes.get("tar") == "false":
        raise InvalidInput(
            "Images are sent as one archive, not as a directory", field="output", remedy="leave tar=false out"
        )
