"""conmon: the parent of an instance's first process, which keeps running when the daemon ends."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path

from isola.errors import CommandFailed, HostFailure, NotFound, TimedOut
from isola.host import Host
from isola.host.process import Child, Place
from isola.host.sockets import Stream
from isola.runtimes.oci.config import PATH
from isola.runtimes.oci.layout import Layout
from isola.runtimes.oci.record import Run
from isola.runtimes.spec import Log

_LONGEST_SOCKET = 107
_LOG = Log()
_TIMEOUT = 60.0
_TO_END = 1.0
_REPORT_LIMIT = 65536

# A shell enters the control groups before it executes the monitor, so that even if the daemon is killed, no process of
# an instance runs outside its groups. v1 hierarchies are entered by writing the shell's only thread to ``tasks``:
# moving a whole process makes the kernel wait for an RCU grace period of tens of milliseconds, a thread that moves
# itself does not.
ENTER = """\
while [ "$1" != -- ]; do
    file="$1/tasks"
    [ -e "$file" ] || file="$1/cgroup.procs"
    echo 0 >"$file" || exit 125
    shift
done
shift
exec "$@"\
"""


def arguments(
    layout: Layout,
    engine: Sequence[str],
    *,
    terminal: bool = True,
    stdin: bool = False,
    stdin_once: bool = True,
    log: Log = _LOG,
) -> list[str]:
    """The command line of conmon; it runs ``engine ... create`` itself. Pure."""
    engine_options = [*engine[1:], "--root", str(layout.state), "--log", str(layout.engine_log), "--log-format", "json"]
    return [
        "conmon", "--api-version", "1",
        "--sync",  # it does not fork: it stays our child, and init's after us
        "--cid", layout.id, "--cuuid", layout.id, "--name", layout.id,
        "--runtime", engine[0],
        *(arg for option in engine_options for arg in ("--runtime-arg", option)),
        "--bundle", str(layout.run), "--full-attach",
        "--container-pidfile", str(layout.first_pid),
        "--exit-dir", str(layout.exits),
        "--log-path", f"k8s-file:{layout.console_log}" if log.kept else "none",
        "--log-size-max", str(log.size), "--no-sync-log",
        *(["--terminal"] if terminal else ["--stdin"] if stdin else []),
        *(["--leave-stdin-open"] if stdin and not terminal and not stdin_once else []),
    ]  # fmt: skip


def entering(directories: Sequence[Path], argv: Sequence[str]) -> list[str]:
    """A command line that enters control groups and then becomes ``argv``. Pure."""
    return ["/bin/sh", "-c", ENTER, "sh", *map(str, directories), "--", *argv]


async def create(host: Host, layout: Layout, argv: Sequence[str], place: Place) -> Run:
    """Start a monitor, and wait until it has created the first process. Raises HostFailure, TimedOut."""
    report, stderr = host.sockets.pipe_from_child(), host.sockets.pipe_from_child()
    try:
        child = await host.processes.spawn(
            argv,
            stderr=stderr.remote,
            env={"PATH": PATH, "TZ": "UTC0", "_OCI_SYNCPIPE": str(report.remote)} | _scratch(layout),
            cwd=layout.run,
            pass_fds=[report.remote],
            place=place,
        )
        report.close_remote()
        stderr.close_remote()
        async with asyncio.timeout(_TIMEOUT):
            line = await _line(report.stream)
            return await _running(host, layout, line, stderr.stream, child)
    except TimeoutError:
        raise TimedOut("The first process was not created in time") from None
    finally:
        for pipe in (report, stderr):
            pipe.close_remote()
            pipe.stream.close()


def _scratch(layout: Layout) -> dict[str, str]:
    """Temporary sockets are in the run directory and removed with it, even if monitor or engine are killed meanwhile.

    If their paths would be too long for a socket (107 bytes), they are in /tmp as usual.
    """
    longest = len(f"{layout.run}/conmon-term.") + 6
    return {"TMPDIR": str(layout.run)} if longest < _LONGEST_SOCKET else {}


async def _running(host: Host, layout: Layout, line: bytes, stderr: Stream, monitor: Child) -> Run:
    try:
        answer = json.loads(line) if line else {}
        pid = int(answer.get("data", -1))
    except (ValueError, TypeError, AttributeError):
        raise HostFailure("The monitor's response is invalid", evidence=repr(line[:200])) from None
    if pid <= 0:
        evidence = str(answer.get("message", "")) or await logged(host, layout)
        evidence = evidence or (await _line(stderr)).decode(errors="replace") or await _end(monitor)
        raise HostFailure("The first process could not be created", evidence=evidence.strip()[-2000:])
    first = host.processes.identify(pid)
    if first is None:
        raise HostFailure("The first process ended before it was started")
    return Run(layout.id, first, monitor.ref)


async def _end(monitor: Child) -> str:
    """How it ended, if it gives no reason, such as when it was killed; empty if it has not."""
    try:
        async with asyncio.timeout(_TO_END):
            return CommandFailed(("conmon",), await monitor.wait()).message
    except TimeoutError:
        return ""


async def logged(host: Host, layout: Layout) -> str:
    """The engine's last log message."""
    try:
        lines = (await host.files.read(layout.engine_log)).splitlines()
        return str(json.loads(lines[-1])["msg"])
    except (NotFound, ValueError, LookupError, TypeError):
        return ""


async def _line(stream: Stream) -> bytes:
    """Read up to the end of the first line, or EOF."""
    data = b""
    while b"\n" not in data and len(data) < _REPORT_LIMIT:
        block = await stream.read()
        if not block:
            break
        data += block
    return data
