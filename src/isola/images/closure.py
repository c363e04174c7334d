"""The blobs that an image needs: all that its documents refer to, transitively."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable

from isola.errors import IsolaError, NotFound
from isola.host.threads import in_thread
from isola.images.descriptor import INDEX_TYPES, MANIFEST_TYPES
from isola.images.oci_manifest import Index, Manifest, read_document

_MOST_DOCUMENTS = 2000
"""Bound per image: an index may refer to other indexes, and all of them are untrusted."""
_LARGE = 64 << 10
"""Documents of at least this many bytes are parsed in a thread."""
log = logging.getLogger(__name__)


async def parsed(data: bytes, media_type: str = "", *, versioned: bool = False) -> Manifest | Index:
    """``read_document``, of large documents in a thread. Raises InvalidInput, Unsupported."""
    if len(data) < _LARGE:
        return read_document(data, media_type, versioned=versioned)
    return await in_thread(lambda: read_document(data, media_type, versioned=versioned))


async def parts_named(data: bytes) -> frozenset[str]:
    """Digests of the configuration and the layers of a manifest; empty for a document that is none."""
    try:
        document = await parsed(data)
    except IsolaError:
        return frozenset()
    if not isinstance(document, Manifest):
        return frozenset()
    return frozenset(each.digest for each in (document.config, *document.layers))


async def closure(read: Callable[[str], Awaitable[bytes]], roots: Iterable[str]) -> frozenset[str]:
    """Digests of the roots and of all they refer to, through the indexes and manifests in the store.

    ``read`` raises NotFound for a missing blob: of an index often only one platform's manifest is present, and
    attestations may be missing. Digests of missing blobs are included.
    """
    found: set[str] = set()
    waiting, read_so_far = list(dict.fromkeys(roots)), 0
    while waiting:
        digest = waiting.pop()
        found.add(digest)
        if (read_so_far := read_so_far + 1) > _MOST_DOCUMENTS:
            log.warning("The documents of an image refer to more than %d others", _MOST_DOCUMENTS)
            break
        try:
            document = await parsed(await read(digest))
        except NotFound:
            continue
        except IsolaError as error:
            log.warning("Cannot read the references of %s: %s", digest, error)
            continue
        for each in document.references():
            if each.media_type in INDEX_TYPES | MANIFEST_TYPES and each.digest not in found:
                waiting.append(each.digest)
            found.add(each.digest)
    return frozenset(found | set(waiting))
