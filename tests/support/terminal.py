"""A program on a pseudo-terminal, as used interactively."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import select
import signal
import struct
import termios
import time
from collections.abc import Mapping, Sequence


class Terminal:
    """Starts a program, types input, waits for output, and returns its exit status."""

    def __init__(self, argv: Sequence[str], env: Mapping[str, str], *, rows: int = 24, columns: int = 80) -> None:
        self.seen = ""
        self.status: int | None = None
        self.pid, self._master = pty.fork()
        if self.pid == 0:
            # Children of a shell in the background ignore signals of the terminal.
            for number in (signal.SIGINT, signal.SIGQUIT):
                signal.signal(number, signal.SIG_DFL)
            os.execvpe(argv[0], list(argv), dict(env))
        self.resize(rows, columns)

    def resize(self, rows: int, columns: int) -> None:
        """Change the window's size; the program gets SIGWINCH."""
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, text: str) -> None:
        """As if typed."""
        os.write(self._master, text.encode())

    def expect(self, text: str, timeout: float = 60) -> str:
        """Wait until ``text`` appears after the previously expected text; returns the output before it."""
        end = time.monotonic() + timeout
        while text not in self.seen:
            assert time.monotonic() < end, f"{text!r} did not appear in {self.seen[-2000:]!r}"
            self._read(0.2)
        before, _, self.seen = self.seen.partition(text)
        return before

    def ask(self, typed: str, text: str, tries: int = 10) -> None:
        """Repeat the input until the output is as expected: a new window size needs a moment to take effect inside."""
        for attempt in range(tries):
            self.type(typed)
            try:
                self.expect(text, 1 + attempt)
                return
            except AssertionError:
                if attempt == tries - 1:
                    raise

    def wait(self, timeout: float = 60) -> int:
        """The program's exit status."""
        end = time.monotonic() + timeout
        while self.status is None:
            assert time.monotonic() < end, f"it does not end: {self.seen[-2000:]!r}"
            self._read(0.1)
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.status = os.waitstatus_to_exitcode(status)
        with contextlib.suppress(AssertionError):
            self._read(0)
        return self.status

    def close(self) -> None:
        """End it if it still runs."""
        if self.status is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, 9)
            os.waitpid(self.pid, 0)
        os.close(self._master)

    def _read(self, timeout: float) -> None:
        ready, _, _ = select.select([self._master], [], [], timeout)
        if ready:
            with contextlib.suppress(OSError):  # EIO: the other end is closed
                self.seen += os.read(self._master, 65536).decode(errors="replace")
