"""The command line on a real terminal: raw mode and its end, window size, detaching, progress."""

from __future__ import annotations

import asyncio
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from served_daemon import ServedDaemon

from isola.cli.commands.console import Detacher
from isola.operations import Operation


class Terminal:
    """A command with its own terminal, as started by a shell."""

    def __init__(self, directory: Path, *arguments: str, columns: int = 80, lines: int = 24) -> None:
        self.master, self.slave = pty.openpty()
        self.resize(columns, lines)
        self.before = termios.tcgetattr(self.slave)
        environment = {"PATH": os.environ["PATH"], "ISOLA_DIR": str(directory), "LANG": "C.UTF-8", "TERM": "xterm"}
        self.process = subprocess.Popen(
            [
                "env",
                "--default-signal=INT,QUIT",
                "setsid",
                "--ctty",
                sys.executable,
                "-m",
                "isola.cli.main",
                *arguments,
            ],
            stdin=self.slave,
            stdout=self.slave,
            stderr=self.slave,
            env=environment,
        )
        self.seen = ""

    def resize(self, columns: int, lines: int) -> None:
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def expect(self, pattern: str, seconds: float = 15) -> str:
        """Read until a pattern appears; returns all output so far."""
        end = time.monotonic() + seconds
        while not re.search(pattern, self.seen):
            ready, _, _ = select.select([self.master], [], [], max(0, end - time.monotonic()))
            assert ready, f"{pattern!r} not in {self.seen!r}"
            self.seen += os.read(self.master, 65536).decode(errors="replace")
        return self.seen

    def mode(self) -> list[object]:
        return termios.tcgetattr(self.slave)

    def end(self, seconds: float = 15) -> int:
        status = self.process.wait(seconds)
        while select.select([self.master], [], [], 0.1)[0]:
            self.seen += os.read(self.master, 65536).decode(errors="replace")
        return status

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.master)
        os.close(self.slave)


Open = Callable[..., Terminal]


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[ServedDaemon]:
    with ServedDaemon(tmp_path) as daemon:
        daemon.create("web1")
        yield daemon


@pytest.fixture
def terminal(daemon: ServedDaemon) -> Iterator[Open]:
    opened: list[Terminal] = []

    def begin(*arguments: str, **size: int) -> Terminal:
        opened.append(Terminal(daemon.directory, *arguments, **size))
        return opened[-1]

    yield begin
    for one in opened:
        one.close()


def test_exec_sets_raw_mode_and_restores_the_terminal(terminal: Open) -> None:
    user = terminal("exec", "web1", "--", "sh", "-c", "echo ready; read line; echo got:$line; exit 4")
    user.expect("ready")
    local = user.mode()[3]
    assert isinstance(local, int)
    assert not local & (termios.ECHO | termios.ICANON | termios.ISIG)
    user.type("hello\r")
    user.expect("got:hello")
    assert user.end() == 4
    assert user.mode() == user.before


def test_the_window_size_is_sent_at_the_start_and_on_changes(terminal: Open, daemon: ServedDaemon) -> None:
    script = "trap 'stty size; exit' WINCH; stty size; while :; do sleep 0.05; done"
    user = terminal("exec", "web1", "--", "sh", "-c", script, columns=101, lines=37)
    user.expect("37 101")
    user.resize(132, 43)
    user.expect("43 132")
    assert user.end() == 0
    assert daemon.sizes == [(101, 37), (132, 43)]


@pytest.fixture(params=["as usual", "ignored"])
def interrupts(request: pytest.FixtureRequest) -> Iterator[None]:
    """Ignore SIGINT, as children of a shell in the background do."""
    before = signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, signal.SIG_IGN if request.param == "ignored" else before)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interrupts")
def test_ctrl_c_is_sent_to_the_command(terminal: Open) -> None:
    user = terminal(
        "exec", "web1", "--", "sh", "-c", "trap 'echo caught; exit 6' INT; echo ready; while :; do sleep 0.05; done"
    )
    user.expect("ready")
    user.type("\x03")
    user.expect("caught")
    assert user.end() == 6


def test_a_command_that_never_ends_does_not_keep_the_test_from_ending(tmp_path: Path) -> None:
    before = threading.enumerate()
    with ServedDaemon(tmp_path) as daemon:
        daemon.create("web1")
        user = Terminal(daemon.directory, "exec", "web1", "--", "sh", "-c", "echo ready; while :; do sleep 0.05; done")
        user.expect("ready")
    # Threads for blocking calls stay, idle, until another event loop needs some.
    left = [each for each in threading.enumerate() if each not in before and not each.name.startswith("isola-")]
    for thread in left:
        thread.join(60)
    assert not [thread for thread in left if thread.is_alive()]
    user.close()


def test_signals_are_forwarded_and_the_terminal_is_restored(terminal: Open) -> None:
    script = "trap 'echo hung up' HUP; echo ready; read line || read line; echo heard $line; read line; exit 0"
    user = terminal("exec", "web1", "--", "sh", "-c", script)
    user.expect("ready")
    user.process.send_signal(signal.SIGHUP)
    user.expect("hung up")
    user.type("on\r")
    user.expect("heard on")  # the command continues, and so does the client
    user.type("\x04")
    assert user.end() == 0
    assert user.mode() == user.before


def test_a_terminal_is_allocated_on_a_terminal(terminal: Open) -> None:
    user = terminal("exec", "web1", "--", "sh", "-c", "test -t 0 && test -t 1 && echo $TERM")
    user.expect("xterm")
    assert user.end() == 0


def test_pipes_on_request_even_on_a_terminal(terminal: Open) -> None:
    user = terminal("exec", "-T", "web1", "--", "sh", "-c", "test -t 0 || echo no terminal")
    user.expect("no terminal")
    assert user.end() == 0


def test_the_console_is_left_by_ctrl_a_q(terminal: Open, daemon: ServedDaemon) -> None:
    daemon.echo_console("web1", b"login: ")
    user = terminal("console", "web1")
    user.expect("login: ")
    user.type("root")
    user.expect("root")
    user.type("\x01q")
    user.expect("Detached")
    assert user.end() == 0
    assert user.mode() == user.before


@pytest.mark.parametrize(
    ("typed", "passed"),
    [
        ([b"abc"], b"abc"),
        ([b"a\x01qb"], None),
        ([b"\x01", b"q"], None),
        ([b"\x01\x01q"], b"\x01q"),
        ([b"\x01x"], b"\x01x"),
    ],
)
def test_detaching_keys_are_recognized_across_reads(typed: list[bytes], passed: bytes | None) -> None:
    watch = Detacher()
    results = [watch(piece) for piece in typed]
    assert (None if None in results else b"".join(r for r in results if r)) == passed


def test_progress_is_drawn_in_place_and_erased(terminal: Open, daemon: ServedDaemon) -> None:
    async def slow(operation: Operation) -> None:
        with operation.step("Prepare", total=1, unit="items") as step:
            step.advance()
        with operation.step("Unpack \x1b[5m", total=8 << 20, unit="bytes") as step:
            for _ in range(8):
                step.advance(1 << 20)
                await asyncio.sleep(0.06)

    daemon.slow = slow
    user = terminal("launch", "tiny", "web2")
    user.expect(r"web2 is running")
    assert user.end() == 0
    assert re.search(r"✔\x1b\[0m Prepare", user.seen)
    assert re.search(r"Unpack �\[5m  ━+─* +\d+%", user.seen)
    assert "\x1b[5m" not in user.seen
    assert user.seen.rindex("\x1b[J\x1b[?25h") > user.seen.rindex("━")


def test_a_narrow_window_does_not_break_the_drawing(terminal: Open, daemon: ServedDaemon) -> None:
    shown_all = threading.Event()

    async def slow(operation: Operation) -> None:
        with ExitStack() as stack:
            for number in range(9):
                stack.enter_context(operation.step(f"Step {number} " + "x" * 60))
            while not shown_all.is_set():  # noqa: ASYNC110 - it is set in another thread
                await asyncio.sleep(0.01)

    daemon.slow = slow
    user = terminal("launch", "tiny", "web2", columns=30, lines=6)
    try:
        user.expect(r"Step 8", seconds=60)
    finally:
        shown_all.set()
    user.expect(r"web2 is running", seconds=60)
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", user.seen)
    assert max(len(line) for line in shown.replace("\r", "").splitlines()) <= 30
    assert "Step 8" in shown
    assert "Step 2" not in shown


def test_colours_only_where_they_are_wanted(terminal: Open) -> None:
    user = terminal("list")
    user.end()
    assert "\x1b[32mRunning\x1b[0m" in user.seen
    os.environ["NO_COLOR"] = "1"
    try:
        plain = subprocess.run(
            [sys.executable, "-m", "isola.cli.main", "nonsense"],
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
    finally:
        del os.environ["NO_COLOR"]
    assert "\x1b" not in plain.stderr
