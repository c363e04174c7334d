"""Standard streams that may be closed, full (ENOSPC), or without a reader (EPIPE)."""

from __future__ import annotations

import io
import posix
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

OUTPUT = "standard output"


def prepare() -> None:
    """Open closed standard streams, so that no socket gets their numbers: input is at EOF, writing fails."""
    for fd in (0, 1, 2):
        try:
            posix.fstat(fd)
        except OSError:
            # Opened for the wrong direction on purpose: writing output to a closed stream is an error.
            posix.open("/dev/null", posix.O_RDONLY)
    if sys.stdin is None:
        sys.stdin = open(0, closefd=False)  # noqa: SIM115  like the interpreter's own, it is never closed
    sys.stdout = _text(_Output(1, "w", closefd=False), sys.stdout, "surrogateescape")
    sys.stderr = _text(_Errors(2, "w", closefd=False), sys.stderr, "backslashreplace")


def _text(raw: io.FileIO, before: Any, errors: str) -> io.TextIOWrapper:
    encoding, errors = (before.encoding, before.errors) if before else ("utf-8", errors)
    lines = raw.isatty() or isinstance(raw, _Errors)
    return io.TextIOWrapper(io.BufferedWriter(raw), encoding, errors, line_buffering=lines)


def finish(status: int, *, closed: int, report: Callable[[OSError], int]) -> int:
    """Flush; returns the exit status: ``closed`` on EPIPE, that of ``report`` if the output could not be written."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        status = status or closed
    except OSError as error:
        status = status or report(error)
    sys.stderr.flush()
    return status


class _Output(io.FileIO):
    def write(self, data: object, /) -> int:
        try:
            return super().write(data) or 0  # type: ignore[arg-type]
        except OSError as error:
            raise unwritable(error) from None


class _Errors(io.FileIO):
    def write(self, data: object, /) -> int:
        try:
            return super().write(data) or 0  # type: ignore[arg-type]
        except OSError:
            return len(data)  # type: ignore[arg-type]  # there is nowhere left to report it


def unwritable(error: OSError) -> OSError:
    """The same error, naming what could not be written."""
    import errno

    if error.errno in (errno.EPIPE, errno.EAGAIN):
        return error
    return OSError(error.errno, error.strerror, OUTPUT)
