"""Waiting for an operation: progress is shown, Ctrl-C cancels, a second Ctrl-C leaves."""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from isola.cli.progress import Progress
    from isola.client.operations import Operation
    from isola.client.shapes import OperationInfo


def follow(operation: Operation, title: str, *, quiet: bool = False) -> Operation:
    """Wait for the end. Raises the operation's error; KeyboardInterrupt once it has been cancelled, or left."""
    display = _Display(title)
    try:
        operation.wait(None if quiet else display.show)
    except KeyboardInterrupt:
        display.close()
        sys.stderr.write("\nCancelling; Ctrl-C again leaves the operation to itself\n")
        _cancel(operation)
        raise
    finally:
        display.close()
    return operation


def _cancel(operation: Operation) -> None:
    """Ask for the end and wait for it; where it is too late to cancel it is finished."""
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
    """Loads the progress display when there is something to display: quick operations never do."""

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
