"""``isolad``: start, supervise and stop the daemon. Imports little, so that its supervisor stays small."""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from isola import __version__
from isola.daemon.remedies import ways_out
from isola.errors import Conflict, IsolaError
from isola.host import background, holding

_EXAMPLES = """examples:
  isolad                       run in the foreground, state in /var/lib/isola
  isolad --background          run in the background, restarted if it dies
  isolad --dir /srv/second     a second daemon, side by side with the first
  isolad --stop                stop the daemon; instances keep running
  isolad --recover copy        restore the latest copy of the database
  isolad --stop --instances    stop instances, networks and the daemon
"""


def main(arguments: list[str] | None = None) -> int:
    """Entry point; exit status 0 after a clean end, 2 for invalid arguments or a locked directory, 1 otherwise."""
    options = _parse(sys.argv[1:] if arguments is None else arguments)
    if os.geteuid() != 0:
        print("Error: isolad must run as root\nHint: sudo isolad", file=sys.stderr)
        return 2
    directory = Path(os.path.realpath(options.dir))
    try:
        if options.stop:
            return _stop(directory, instances=options.instances)
        if options.recover:
            return _recover(directory, options.recover)
        return _start(directory, options.minimal, in_background=options.background)
    except Conflict as error:
        print(f"Error: {error}", file=sys.stderr)
        return 2
    except (IsolaError, OSError) as error:
        print(f"Error: {error}{ways_out(error)}", file=sys.stderr)
        return 1


def _start(directory: Path, minimal: bool, *, in_background: bool) -> int:
    os.umask(0o022)  # set explicitly: instances must be able to read their roots there, and only root may write
    directory.mkdir(mode=0o711, parents=True, exist_ok=True)
    _close_to_others(directory)
    logs = directory / "logs"
    logs.mkdir(mode=0o700, exist_ok=True)
    logs.chmod(0o700)  # another program may have made it
    if in_background and any(holder.daemon for holder in holding.holders(directory)):
        print(f"isolad is already running in {directory}")
        return 0
    held = holding.hold(directory)
    try:
        if not in_background:
            return _run(directory, minimal, lambda: None)
        return _detach(directory, minimal)
    finally:
        os.close(held)


def _close_to_others(directory: Path) -> None:
    """Users who can read the directory can lock it, and those who can write to it can replace the socket."""
    status = directory.stat()
    if status.st_uid != os.geteuid():
        raise Conflict(
            f"{directory} belongs to user {status.st_uid}",
            evidence="its owner could replace all files of the daemon",
            remedy=f"choose another directory, or: chown root: {directory}",
        )
    if status.st_mode & 0o066:
        directory.chmod(status.st_mode & 0o7711)


def _detach(directory: Path, minimal: bool) -> int:
    log = directory / "logs" / "daemon.log"
    size = log.stat().st_size if log.exists() else 0
    status = background.detach(log, lambda ready: _run(directory, minimal, ready))
    if status != 0:
        print(f"Error: isolad did not start; the end of {log}:", file=sys.stderr)
        with contextlib.suppress(OSError), log.open("rb") as file:
            file.seek(size)
            lines = file.read().decode(errors="replace").splitlines()
            print("\n".join(lines[-15:]), file=sys.stderr)
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
        help="directory of state and socket (default: $ISOLA_DIR or /var/lib/isola)",
    )
    parser.add_argument(
        "--background", action="store_true", help="detach once it is ready, under a supervisor that restarts it"
    )
    parser.add_argument("--minimal", action="store_true", help="create no pool and no network at the first start")
    parser.add_argument("--stop", action="store_true", help="stop the daemon that runs in the directory")
    parser.add_argument("--instances", action="store_true", help="with --stop: stop instances and networks too")
    parser.add_argument(
        "--recover",
        metavar="WHAT",
        help="restore the database after the daemon has refused it, and exit: copy, FILE, as-is or empty",
    )
    parser.add_argument("--version", action="version", version=f"isolad {__version__}")
    return parser.parse_args(arguments)


_UNSTOPPED = ", so instances may still run: start it with --background, and stop them again"


def _stop(directory: Path, *, instances: bool) -> int:
    signum, timeout = (signal.SIGPWR, 300) if instances else (signal.SIGTERM, 60)
    stopped = holding.stop(directory, signum=signum, timeout=timeout)
    if stopped is holding.Stopped.NOTHING:
        print(f"isolad was not running{_UNSTOPPED if instances else ''}")
    elif stopped is holding.Stopped.SUPERVISOR and instances:
        print(f"isolad has stopped; it was not ready{_UNSTOPPED}")
    else:
        print("isolad has stopped")
    return 0


def _recover(directory: Path, what: str) -> int:
    from isola.daemon.recover import recover
    from isola.host.clock import LinuxClock

    held = (holding.hold(directory), holding.hold_daemon(directory))
    try:
        print(recover(directory, what, LinuxClock().now()))
    finally:
        for descriptor in held:
            os.close(descriptor)
    print(
        "Start the daemon; 'isola admin unknown' then lists objects without a record, 'isola admin adopt' adopts them"
    )
    return 0


def _run(directory: Path, minimal: bool, ready: Callable[[], None]) -> int:
    try:
        held = holding.hold_daemon(directory)
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
