"""Errors: those that the daemon reports, and those of the connection."""

from __future__ import annotations

from isola import errors
from isola.errors import IsolaError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from isola.client.shapes import OperationInfo


class Unreachable(IsolaError):
    """The daemon cannot be reached, or the connection was lost."""

    code = "unreachable"


class BadReply(IsolaError):
    """The response does not conform to the API."""

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
    """The error of a response: by ``code`` in its metadata, else by its HTTP status."""
    details = metadata if isinstance(metadata, dict) else {}
    kinds = {kind.code: kind for kind in _tree(IsolaError)}
    kind = kinds.get(str(details.get("code")), _BY_STATUS.get(status, IsolaError))
    if kind is errors.CommandFailed:
        kind = errors.HostFailure  # the argument list is not part of the response
    field = details.get("field")
    return kind(
        str(details.get("message") or message or f"The daemon responded with status {status}"),
        evidence=str(details.get("evidence") or ""),
        remedy=str(details.get("remedy") or ""),
        field=None if field is None else str(field),
    )


def from_operation(info: OperationInfo, *, cancelled: bool) -> IsolaError:
    """The error of a failed operation."""
    text = info.get("err") or "The operation failed"
    if cancelled:
        return errors.Cancelled("Cancelled; all changes were rolled back")
    metadata = info.get("metadata") or {}
    details = metadata.get("error")
    return from_reply(info.get("status_code", 400), text, details if isinstance(details, dict) else {})


def unreachable(path: str, error: OSError) -> Unreachable:
    """The error for a socket that cannot be connected to, with a remedy."""
    remedy = "start it with 'isolad', or see what 'isola doctor' says; --dir or ISOLA_DIR choose another directory"
    if isinstance(error, PermissionError):
        remedy = "run it as root, or as a member of the group 'isola'"
    elif isinstance(error, TimeoutError):
        remedy = "it may be busy or stuck: its log is logs/daemon.log in its directory"
    return Unreachable("Cannot reach the daemon", evidence=f"{path}: {error.strerror or error}", remedy=remedy)


def unreachable_remote(url: str, error: OSError) -> Unreachable:
    """The error for a remote daemon that cannot be connected to, with a remedy."""
    text = error.strerror or str(error)
    if isinstance(error, ConnectionRefusedError):
        return Unreachable(f"Cannot reach {url}", evidence=text, remedy="check core.https_address of that daemon")
    if isinstance(error, TimeoutError):
        return Unreachable(f"Cannot reach {url}", evidence="timed out", remedy="check for a firewall on the way")
    return Unreachable(f"Cannot reach {url}", evidence=text)
