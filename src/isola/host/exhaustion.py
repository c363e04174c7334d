"""The daemon or its host has run out of something: an error of the system's, not of a client or of ours."""

from __future__ import annotations

import errno

from isola.errors import HostFailure

_SPENT = {
    errno.EMFILE: ("The daemon has no file descriptors left", "stop some instances, or raise the daemon's LimitNOFILE"),
    errno.ENFILE: ("The host has no file descriptors left", "raise the kernel's fs.file-max"),
    errno.ENOMEM: ("The host has no memory left", "stop some instances"),
    errno.ENOSPC: ("The disk is full", "make room on the disk"),
    errno.EDQUOT: ("The quota of the disk is used up", "make room on the disk"),
}


def spent(error: BaseException) -> HostFailure | None:
    """What to tell of an error, if it says that something has run out."""
    if not isinstance(error, OSError) or error.errno not in _SPENT:
        return None
    message, remedy = _SPENT[error.errno]
    return HostFailure(message, evidence=str(error), remedy=remedy)
