"""Waits for an operation and shows its progress; Ctrl-C cancels it, a second Ctrl-C stops waiting."""

from __future__ import annotations

import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TextIO

    from isola.cli.progress import Progress
    from isola.client.operations import Operation
    from isola.client.shapes import OperationInfo

_DRAWN_AFTER, _PRINTED_AFTER = 0.1, 2.0
"""Seconds: shorter operations show no progress on a terminal, and print none elsewhere; then it is not requested."""


def follow(operation: Operation, title: str, *, quiet: bool = False, stream: TextIO | None = None) -> Operation:
    """Wait for the end. Raises the operation's error, or KeyboardInterrupt after Ctrl-C."""
    display = _Display(stream or sys.stderr, title)
    try:
        operation.wait(None if quiet else display.show, after=display.after)
    except KeyboardInterrupt:
        display.close()
        sys.stderr.write("\nCancelling; press Ctrl-C again to stop waiting\n")
        _cancel(operation)
        raise
    finally:
        display.close()
    return operation


def _cancel(operation: Operation) -> None:
    """Cancel the operation and wait for its end; one that can no longer be cancelled finishes."""
    from isola.cli.terminal import clean
    from isola.errors import Cancelled, Conflict, NotFound

    try:
        operation.cancel()
    except (Conflict, NotFound) as error:
        sys.stderr.write(f"{clean(error.message)}\n")
    try:
        operation.wait()
    except Cancelled as error:
        sys.stderr.write(f"{clean(error.message)}\n")


class _Display:
    """Imports the progress display on first use; quick operations never need it."""

    def __init__(self, stream: TextIO, title: str) -> None:
        self._stream = stream
        self._title = title
        self._began = time.monotonic()
        self._progress: Progress | None = None
        self.after = _DRAWN_AFTER if stream.isatty() else _PRINTED_AFTER

    def show(self, info: OperationInfo) -> None:
        if self._progress is None:
            from isola.cli.progress import Progress

            self._progress = Progress(self._stream, self._title, self._began)
        self._progress.update(info)

    def close(self) -> None:
        if self._progress is not None:
            self._progress.close()
