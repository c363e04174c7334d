"""The daemon or its host has run out of a resource: an error of the system, not of a client or a bug."""

from __future__ import annotations

import errno

from isola.errors import HostFailure

_SPENT = {
    errno.EMFILE: ("The daemon has no file descriptors left", "stop some instances, or raise the daemon's LimitNOFILE"),
    errno.ENFILE: ("The host has no file descriptors left", "raise the kernel's fs.file-max"),
    errno.ENOMEM: ("The host has no memory left", "stop some instances"),
    errno.ENOSPC: ("The disk is full", "free some space on the disk"),
    errno.EDQUOT: ("The quota of the disk is used up", "free some space on the disk"),
}


def spent(error: BaseException) -> HostFailure | None:
    """The message and remedy for an error, if it means that a resource has run out."""
    if not isinstance(error, OSError) or error.errno not in _SPENT:
        return None
    message, remedy = _SPENT[error.errno]
    return HostFailure(message, evidence=str(error), remedy=remedy)
