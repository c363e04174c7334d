"""Errors of the daemon as the daemon raised them, and those that only a client can meet."""

from __future__ import annotations

from collections.abc import Iterator

from isola import errors
from isola.client.shapes import OperationInfo
from isola.errors import IsolaError


class Unreachable(IsolaError):
    """There is no daemon to talk to, or it went away."""

    code = "unreachable"


class BadReply(IsolaError):
    """The daemon answered something that is not its API."""

    code = "bad_reply"


_BY_STATUS: dict[int, type[IsolaError]] = {
    400: errors.InvalidInput,
    401: errors.Forbidden,
    403: errors.Forbidden,
    404: errors.NotFound,
    405: errors.Unsupported,
    408: errors.TimedOut,
    409: errors.Conflict,
    412: errors.PreconditionFailed,
    413: errors.TooLarge,
    501: errors.Unsupported,
    504: errors.TimedOut,
}


def _tree(root: type[IsolaError]) -> Iterator[type[IsolaError]]:
    yield root
    for child in root.__subclasses__():
        yield from _tree(child)


def from_reply(status: int, message: str, metadata: object) -> IsolaError:
    """The error of a reply: by the ``code`` in its metadata, else by its HTTP status."""
    details = metadata if isinstance(metadata, dict) else {}
    kinds = {kind.code: kind for kind in _tree(IsolaError)}
    kind = kinds.get(str(details.get("code")), _BY_STATUS.get(status, IsolaError))
    if kind is errors.CommandFailed:
        kind = errors.HostFailure  # the argument list stays with the daemon
    field = details.get("field")
    return kind(
        str(details.get("message") or message or f"The daemon answered with status {status}"),
        evidence=str(details.get("evidence") or ""),
        remedy=str(details.get("remedy") or ""),
        field=None if field is None else str(field),
    )


def from_operation(info: OperationInfo, *, cancelled: bool) -> IsolaError:
    """The error an operation ended with."""
    text = info.get("err") or "The operation failed"
    if cancelled:
        return errors.Cancelled("Cancelled; what had been done is undone")
    metadata = info.get("metadata") or {}
    details = metadata.get("error")
    return from_reply(info.get("status_code", 400), text, details if isinstance(details, dict) else {})


def unreachable(path: str, error: OSError) -> Unreachable:
    """Why the socket at ``path`` cannot be talked to, and what to do."""
    remedy = "start it with 'isolad', or see what 'isola doctor' says; --dir or ISOLA_DIR choose another directory"
    if isinstance(error, PermissionError):
        remedy = "run it as root, or as a member of the group 'isola'"
    elif isinstance(error, TimeoutError):
        remedy = "it may be busy or stuck: its log is logs/daemon.log in its directory"
    return Unreachable("Cannot reach the daemon", evidence=f"{path}: {error.strerror or error}", remedy=remedy)


def unreachable_remote(url: str, error: OSError) -> Unreachable:
    """Why a remote daemon cannot be talked to, and what to do."""
    text = error.strerror or str(error)
    if isinstance(error, ConnectionRefusedError):
        return Unreachable(
            f"Cannot reach {url}", evidence=text, remedy="does core.https_address of its daemon name it?"
        )
    if isinstance(error, TimeoutError):
        return Unreachable(f"Cannot reach {url}", evidence="no answer", remedy="is there a firewall in between?")
    return Unreachable(f"Cannot reach {url}", evidence=text)
