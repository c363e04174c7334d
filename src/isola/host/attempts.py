"""Blocking work on an instance's files, in separate threads, with OSErrors converted to IsolaErrors."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from isola.errors import InvalidInput, NotFound
from isola.host.exhaustion import host_refused
from isola.host.threads import Work, in_long_thread

P = ParamSpec("P")
T = TypeVar("T")


async def unreported(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run ``function`` in a thread."""
    return await in_long_thread(Work.INSIDE, function, *args, **kwargs)


async def attempt(path: str, work: Callable[..., T], *arguments: object) -> T:
    """Like ``in_thread``, but an OSError becomes NotFound, InvalidInput or HostFailure about ``path``."""
    return await unreported(reported, path, work, *arguments)


def reported(path: str, work: Callable[..., T], *arguments: object) -> T:
    """Run ``work``; an OSError becomes an IsolaError about ``path``."""
    try:
        return work(*arguments)
    except (FileNotFoundError, ProcessLookupError) as error:
        raise NotFound(f"{path!r} does not exist") from error
    except OSError as error:
        what = _REASONS.get(error.errno or 0)
        if what is None:
            raise host_refused(f"The file system refused {path!r}", error) from error
        raise InvalidInput(f"{path!r} {what}", field="path") from error


_REASONS = {
    errno.ENOTDIR: "is not a directory, or is below something that is not one",
    errno.EISDIR: "is a directory",
    errno.ENOTEMPTY: "is not empty",
    errno.EEXIST: "exists already",
    errno.ELOOP: "leads through a link that must not be followed",
    errno.ENAMETOOLONG: "is too long",
    errno.EXDEV: "leads outside",
    errno.EBUSY: "is a mount point",
    errno.EINVAL: "is not a valid path",
    errno.EROFS: "is on a read-only file system",
}
