"""The real daemon with fault injection: ``python -m isola.testing.daemon DIRECTORY``, for tests that kill it."""

from __future__ import annotations

import sys
from pathlib import Path

from isola.daemon.serve import run
from isola.host import holding
from isola.testing.faults import ChangeFaults, FaultObserver


def main() -> int:
    """Run in the foreground until a signal stops it."""
    directory = Path(sys.argv[1])
    holding.hold(directory)
    holding.hold_daemon(directory)
    ChangeFaults(directory / "changes.order", directory / "changes.log").install()
    return run(directory, observer=FaultObserver(directory / "orders.json", directory / "points.log"))


if __name__ == "__main__":
    sys.exit(main())
