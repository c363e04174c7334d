"""Waits for an operation and shows its progress; Ctrl-C cancels it, a second Ctrl-C stops waiting."""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from isola.cli.progress import Progress
    from isola.client.operations import Operation
    from isola.client.shapes import OperationInfo


def follow(operation: Operation, title: str, *, quiet: bool = False) -> Operation:
    """Wait for the end. Raises the operation's error, or KeyboardInterrupt after Ctrl-C."""
    display = _Display(title)
    try:
        operation.wait(None if quiet else display.show)
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

    def __init__(self, title: str) -> None:
        self._title = title
        self._progress: Progress | None = None

    def show(self, info: OperationInfo) -> None:
        if self._progress is None:
            from isola.cli.progress import Progress

            self._progress = Progress(sys.stderr, self._title)
        self._progress.update(info)

    def close(self) -> None:
        if self._progress is not None:
            self._progress.close()
