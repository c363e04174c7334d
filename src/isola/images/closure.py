"""Which blobs an image needs: everything that its documents lead to."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable

from isola.errors import IsolaError, NotFound
from isola.images.descriptor import INDEX_TYPES, MANIFEST_TYPES
from isola.images.oci_manifest import read_document

_MOST_DOCUMENTS = 2000
"""Of one image; an index may name an index, and a stranger may have written both."""
log = logging.getLogger(__name__)


async def closure(read: Callable[[str], Awaitable[bytes]], roots: Iterable[str]) -> frozenset[str]:
    """Digests of the roots, of what they name, and so on through indexes and manifests that are in the store.

    ``read`` raises NotFound for a blob that is not there: of an index often only one platform's manifest is, and an
    attestation may have been left out. What is named and absent is part of the answer.
    """
    found: set[str] = set()
    waiting, read_so_far = list(dict.fromkeys(roots)), 0
    while waiting:
        digest = waiting.pop()
        found.add(digest)
        if (read_so_far := read_so_far + 1) > _MOST_DOCUMENTS:
            log.warning("The documents of an image lead to more than %d others", _MOST_DOCUMENTS)
            break
        try:
            document = read_document(await read(digest))
        except NotFound:
            continue
        except IsolaError as error:
            log.warning("What %s leads to is not known: %s", digest, error)
            continue
        for each in document.references():
            if each.media_type in INDEX_TYPES | MANIFEST_TYPES and each.digest not in found:
                waiting.append(each.digest)
            found.add(each.digest)
    return frozenset(found | set(waiting))
