"""The daemon as a process: one per directory, identified by its lock, restarted by its supervisor."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from daemon import TIMEOUT_FACTOR
from waiting import until

_HOLDER = """
import fcntl, os, signal, sys
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
lock = os.open(sys.argv[1] + "/daemon.lock", os.O_RDWR | os.O_CREAT, 0o600)
fcntl.flock(lock, fcntl.LOCK_EX)
os.write(lock, sys.argv[2].encode())
print("held", flush=True)
signal.sigwait({signal.SIGTERM})
"""
_SUPERVISED = """
import os, sys
from pathlib import Path
from isola.host import background
directory = Path(sys.argv[1])
def run(ready):
    if (directory / "fill").exists():
        os.dup2(os.open("/dev/full", os.O_WRONLY), 2)
    if (directory / "fail").exists():
        os._exit(1)
    ready()
    (directory / "runs").write_text(str(os.getpid()))
    while not (directory / "fail").exists():
        __import__("time").sleep(0.02)
    os._exit(1)
sys.exit(background.detach(Path(sys.argv[2]), run))
"""


def isolad(directory: Path, *arguments: str, enter: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    command = [*enter, sys.executable, "-m", "isola.daemon.main", "--dir", str(directory), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60 * TIMEOUT_FACTOR, check=False)


@pytest.fixture
def victim() -> Iterator[subprocess.Popen[bytes]]:
    """A process that is not a daemon."""
    process = subprocess.Popen(["sleep", "60"])
    yield process
    process.kill()
    process.wait()


@contextlib.contextmanager
def holding(
    directory: Path, says: int, name: str = "isolad", enter: tuple[str, ...] = ()
) -> Iterator[subprocess.Popen[str]]:
    """A process that locks a directory, with the PID ``says`` in the lock file."""
    program = directory.parent / name
    program.write_text(_HOLDER)
    process = subprocess.Popen(
        [*enter, sys.executable, str(program), str(directory), str(says)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    place = tmp_path / "state"
    place.mkdir()
    return place


def test_stop_finds_the_daemon_whatever_pid_its_lock_contains(directory: Path, victim: subprocess.Popen[bytes]) -> None:
    with holding(directory, victim.pid) as daemon:
        stopped = isolad(directory, "--stop")
        assert (stopped.returncode, stopped.stdout) == (0, "isolad has stopped\n")
        assert daemon.wait(60) == 0
    assert victim.poll() is None


def test_stop_without_a_daemon_says_that_instances_may_run(directory: Path) -> None:
    assert isolad(directory, "--stop").stdout == "isolad was not running\n"
    stopped = isolad(directory, "--stop", "--instances")
    assert (stopped.returncode, "instances may still run: start it" in stopped.stdout) == (0, True)


def test_stop_works_across_pid_namespaces(directory: Path, victim: subprocess.Popen[bytes]) -> None:
    with holding(directory, victim.pid, enter=("unshare", "--pid", "--fork", "--kill-child")) as daemon:
        assert isolad(directory, "--stop").returncode == 0
        assert daemon.wait(60) == 0
    assert victim.poll() is None


def test_stop_refuses_an_invisible_daemon(directory: Path) -> None:
    with holding(directory, 1) as daemon:
        inside = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")
        refused = isolad(directory, "--stop", enter=inside)
        assert refused.returncode == 1, refused
        assert "cannot be seen from here" in refused.stderr
        assert daemon.poll() is None


def test_stop_refuses_other_processes(directory: Path) -> None:
    with holding(directory, os.getpid(), name="backup") as other:
        refused = isolad(directory, "--stop")
        assert refused.returncode == 1, refused
        assert f"process {other.pid}" in refused.stderr
        assert other.poll() is None


def test_a_removed_lock_file_lets_no_second_daemon_in(directory: Path) -> None:
    first = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys; from pathlib import Path; from isola.host import holding; place = Path(sys.argv[1])\n"
            "holding.hold(place); holding.hold_daemon(place); print('held', flush=True); sys.stdin.read()",
            str(directory),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert first.stdin is not None
    assert first.stdout is not None
    assert first.stdout.readline() == "held\n"
    (directory / "daemon.lock").unlink()
    second = isolad(directory, "--minimal")
    first.stdin.close()
    first.wait()
    assert second.returncode == 2, second
    assert f"process {first.pid}" in second.stderr
    assert not (directory / "isola.db").exists()


@pytest.fixture
def supervised(directory: Path) -> Iterator[Callable[..., int]]:
    """Start a supervisor of a daemon that is controlled by files in its directory; its log may be another file."""
    program = directory.parent / "isolad"
    program.write_text(_SUPERVISED)

    def start(log: str = "") -> int:
        where = log or str(directory / "log")
        argv = [sys.executable, str(program), str(directory), where]
        return subprocess.run(argv, timeout=60 * TIMEOUT_FACTOR, check=False).returncode

    yield start
    for pid in processes_of(program):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def processes_of(program: Path) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if os.fsencode(program) in (entry / "cmdline").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
    return sorted(found)


def runs_as(directory: Path, before: int = 0) -> int:
    """PID of the running daemon, other than ``before``."""

    def there() -> bool:
        with contextlib.suppress(OSError, ValueError):
            return int((directory / "runs").read_text()) != before
        return False

    until(there)
    return int((directory / "runs").read_text())


@pytest.mark.parametrize("log", ["/dev/full", ""])
def test_the_supervisor_survives_failing_output(directory: Path, supervised: Callable[..., int], log: str) -> None:
    assert supervised(log) == 0
    first = runs_as(directory)
    os.kill(first, signal.SIGKILL)
    second = runs_as(directory, before=first)
    os.kill(second, signal.SIGKILL)
    assert runs_as(directory, before=second) != second


def test_a_daemon_that_never_becomes_ready_is_given_up(directory: Path, supervised: Callable[..., int]) -> None:
    (directory / "fail").touch()
    began = time.monotonic()
    assert supervised() != 0
    assert time.monotonic() - began < 60 * TIMEOUT_FACTOR
    assert not processes_of(directory.parent / "isolad")
    assert "giving up" in (directory / "log").read_text()


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """The directory of a daemon, which ends with the test whatever happens, with what it has mounted if it can."""
    place = tmp_path / "state"
    yield place
    if daemons_in(place):
        isolad(place, "--stop", "--instances")
    for pid in daemons_in(place):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def test_stop_ends_a_supervisor_during_its_pause(place: Path) -> None:
    assert isolad(place, "--background", "--minimal").returncode == 0
    daemons = [pid for pid in daemons_in(place)]
    assert len(daemons) == 2
    (place / "isola.db").rename(place / "away.db")
    (place / "isola.db").mkdir()  # all further starts fail
    os.kill(daemons[1], signal.SIGKILL)
    until(lambda: len(daemons_in(place)) == 1 and "starting it again" in (place / "logs/daemon.log").read_text())
    until(lambda: (place / "logs/daemon.log").read_text().count("starting it again") >= 4)
    began = time.monotonic()
    stopped = isolad(place, "--stop")
    assert (stopped.returncode, stopped.stdout) == (0, "isolad has stopped\n")
    assert time.monotonic() - began < 30 * TIMEOUT_FACTOR
    assert not daemons_in(place)
    (place / "isola.db").rmdir()
    (place / "away.db").rename(place / "isola.db")
    assert isolad(place, "--background").returncode == 0
    assert isolad(place, "--stop", "--instances").returncode == 0


def daemons_in(place: Path) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                argv = (entry / "cmdline").read_bytes().split(b"\0")
                if b"isola.daemon.main" in argv and os.fsencode(place) in argv and b"--background" in argv:
                    found.append(int(entry.name))
    return sorted(found)


def test_a_briefly_read_lock_does_not_prevent_a_start(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    starting = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys; from pathlib import Path; from isola.host.holding import hold\nhold(Path(sys.argv[1]))",
            str(directory),
        ]
    )
    time.sleep(0.1)
    os.close(descriptor)
    assert starting.wait(60) == 0
