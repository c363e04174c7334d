"""The terminal: its abilities, raw mode, and text made safe to print (no control characters)."""

from __future__ import annotations

import posix

from isola.environment import variable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TextIO

_CONTROLS = {
    code: "�" for code in (*range(0x20), 0x7F, *range(0x80, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A))
}


def colours(stream: TextIO) -> bool:
    """Whether colours are wanted there: a terminal, and no NO_COLOR."""
    return stream.isatty() and not variable("NO_COLOR") and variable("TERM") != "dumb"


def unicode_works(stream: TextIO) -> bool:
    """Whether lines and bars can be drawn with more than ASCII."""
    return (stream.encoding or "").lower().replace("-", "") == "utf8"


def clean(text: str) -> str:
    """Untrusted text with control characters and bidirectional marks escaped."""
    return text if text.isprintable() else text.translate(_CONTROLS)


def shown(text: str, stream: TextIO) -> str:
    """Lines of untrusted text for a stream: escaped on a terminal, unchanged for a pipe or file."""
    if not stream.isatty():
        return text
    return "\n".join(clean(line) for line in text.split("\n"))


def width(text: str) -> int:
    """Display width of a text, in columns."""
    if text.isascii():
        return len(text)
    import unicodedata

    wide = sum(unicodedata.east_asian_width(character) in "WF" for character in text)
    return len(text) + wide - sum(unicodedata.combining(character) != 0 for character in text)


def size(fd: int = 1) -> tuple[int, int]:
    """Columns and lines of a terminal; 80 x 24 if there is none."""
    try:
        found = posix.get_terminal_size(fd)
    except OSError:
        return 80, 24
    return found.columns or 80, found.lines or 24


class Raw:
    """``with Raw(fd):`` puts the terminal into raw mode and always restores it."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def __enter__(self) -> Raw:
        import termios

        self._before = termios.tcgetattr(self._fd)
        mode = termios.tcgetattr(self._fd)
        mode[0] &= ~(
            termios.IGNBRK | termios.BRKINT | termios.PARMRK | termios.ISTRIP
            | termios.INLCR | termios.IGNCR | termios.ICRNL | termios.IXON
        )  # fmt: skip
        mode[1] &= ~termios.OPOST
        mode[2] = (mode[2] & ~(termios.CSIZE | termios.PARENB)) | termios.CS8
        mode[3] &= ~(termios.ECHO | termios.ECHONL | termios.ICANON | termios.ISIG | termios.IEXTEN)
        mode[6][termios.VMIN], mode[6][termios.VTIME] = 1, 0
        termios.tcsetattr(self._fd, termios.TCSADRAIN, mode)
        return self

    def __exit__(self, *exception: object) -> None:
        import termios

        termios.tcsetattr(self._fd, termios.TCSADRAIN, self._before)


class Wakes:
    """Signals as bytes on a file descriptor, for a ``poll`` loop; the previous handlers are restored at the end."""

    def __init__(self, *numbers: int) -> None:
        self._numbers = numbers

    def __enter__(self) -> Wakes:
        from isola.client.interpreter import signal

        self._signal = signal
        self.fd, self._write = posix.pipe2(posix.O_NONBLOCK | posix.O_CLOEXEC)
        self._fd_before = signal.set_wakeup_fd(self._write)
        self._before = {number: signal.signal(number, _noted) for number in self._numbers}
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._before.items():
            self._signal.signal(number, handler)
        self._signal.set_wakeup_fd(self._fd_before)
        posix.close(self.fd)
        posix.close(self._write)

    def take(self) -> list[int]:
        """The signals received since the last call."""
        try:
            return list(posix.read(self.fd, 512))
        except BlockingIOError:
            return []


def _noted(number: int, frame: object) -> None:
    """Does nothing: the signal is reported on the wakeup file descriptor."""
