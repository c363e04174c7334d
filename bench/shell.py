"""Runs commands without the slow polling of a wait with timeout."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import FrameType


class Trouble(Exception):
    """A request to a subject failed; the text contains its output."""


@contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """Raise Trouble in the block when it takes longer."""

    def ring(signum: int, frame: FrameType | None) -> None:
        raise Trouble(f"took longer than {seconds:.0f} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def run(argv: Sequence[str], *, env: Mapping[str, str] | None = None, ok: Sequence[int] = (0,)) -> str:
    """Run a command to its end and return its standard output."""
    environment = {**os.environ, **(env or {})}
    process = subprocess.Popen(
        argv, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        out, err = process.communicate()
    except BaseException:
        process.kill()
        process.wait()
        raise
    if process.returncode not in ok:
        raise Trouble(f"{' '.join(argv)[:300]} ended with {process.returncode}: {(err or out).strip()[-600:]}")
    return out


def run_detached(argv: Sequence[str], log: str, *, env: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
    """Start a daemon that stays in the foreground; its output is written to a file."""
    with open(log, "ab") as sink:
        return subprocess.Popen(
            argv, env={**os.environ, **(env or {})}, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink,
            start_new_session=True,
        )  # fmt: skip


def together(commands: Sequence[Sequence[str]], *, env: Mapping[str, str] | None = None) -> None:
    """Start all commands at once and wait for all."""
    environment = {**os.environ, **(env or {})}
    started = [
        subprocess.Popen(
            argv, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        for argv in commands
    ]
    ended = [(process.communicate()[1], process) for process in started]
    for err, process in ended:
        if process.returncode:
            raise Trouble(f"{process.args!r} ended with {process.returncode}: {err.decode().strip()[-600:]}")


def until(seconds: float, pause: float = 0.004) -> Iterator[None]:
    """Iterations of a polling loop; raises Trouble after the timeout."""
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        yield
        time.sleep(pause)
    raise Trouble(f"nothing came of it within {seconds:.0f} s")
