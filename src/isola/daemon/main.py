"""``isolad``: start, supervise and stop the daemon. Imports little, so that its supervisor stays small."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from isola import __version__
from isola.errors import Conflict, IsolaError
from isola.host import background

_EXAMPLES = """examples:
  isolad                       run in the foreground, state in /var/lib/isola
  isolad --background          run in the background, started again if it dies
  isolad --dir /srv/second     a second daemon, side by side with the first
  isolad --stop                stop the daemon; instances run on
  isolad --recover copy        put back the newest copy of the state
  isolad --stop --instances    stop instances, networks and the daemon
"""


def main(arguments: list[str] | None = None) -> int:
    """Entry point; exit status 0 after a clean end, 2 for a wrong call, 1 otherwise."""
    options = _parse(sys.argv[1:] if arguments is None else arguments)
    directory = Path(os.path.realpath(options.dir))
    lock = directory / "daemon.lock"
    if options.stop:
        return _stop(lock, instances=options.instances)
    if options.recover:
        return _recover(directory, lock, options.recover)
    if os.geteuid() != 0:
        print("Error: isolad must run as root\nHint: sudo isolad", file=sys.stderr)
        return 2
    os.umask(0o022)  # whoever starts us: instances reach their roots in there, and nobody else may write
    directory.mkdir(mode=0o711, parents=True, exist_ok=True)
    (directory / "logs").mkdir(mode=0o700, exist_ok=True)
    if not options.background:
        return _run(directory, lock, options.minimal, lambda: None)
    if background.holder(lock) is not None:
        print(f"isolad runs already in {directory}")
        return 0
    log = directory / "logs" / "daemon.log"
    status = background.detach(log, lambda ready: _run(directory, lock, options.minimal, ready))
    if status != 0:
        print(f"Error: isolad did not start; the end of {log}:", file=sys.stderr)
        print("\n".join(log.read_text(errors="replace").splitlines()[-15:]), file=sys.stderr)
    return status


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="isolad",
        description="The Isola daemon.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--dir",
        default=os.environ.get("ISOLA_DIR", "/var/lib/isola"),
        help="where state and socket lie (default: $ISOLA_DIR or /var/lib/isola)",
    )
    parser.add_argument("--background", action="store_true", help="detach once it is ready, and supervise itself")
    parser.add_argument("--minimal", action="store_true", help="make no pool and no network at the first start")
    parser.add_argument("--stop", action="store_true", help="stop the daemon that runs in the directory")
    parser.add_argument("--instances", action="store_true", help="with --stop: stop instances and networks too")
    parser.add_argument(
        "--recover",
        metavar="WHAT",
        help="put the state in place where the daemon refuses it, and end: copy, FILE, as-is or empty",
    )
    parser.add_argument("--version", action="version", version=f"isolad {__version__}")
    return parser.parse_args(arguments)


def _stop(lock: Path, *, instances: bool) -> int:
    try:
        stopped = background.stop(
            lock, signum=signal.SIGPWR if instances else signal.SIGTERM, timeout=300 if instances else 60
        )
    except TimeoutError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    print("isolad has stopped" if stopped else "isolad was not running")
    return 0


def _recover(directory: Path, lock: Path, what: str) -> int:
    from isola.daemon.recover import recover
    from isola.host.clock import LinuxClock

    try:
        held = background.lock(lock)
        try:
            print(recover(directory, what, LinuxClock().now()))
        finally:
            os.close(held)
    except (IsolaError, OSError) as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    print("Start the daemon; 'isola admin unknown' then lists what is in no record, 'isola admin adopt' takes it in")
    return 0


def _run(directory: Path, lock: Path, minimal: bool, ready: Callable[[], None]) -> int:
    try:
        held = background.lock(lock)
    except Conflict as error:
        print(f"Error: {error}", file=sys.stderr)
        return 2
    background.allow_many_files()
    from isola.daemon.serve import run

    try:
        return run(directory, minimal=minimal, ready=ready)
    finally:
        os.close(held)


if __name__ == "__main__":
    sys.exit(main())
